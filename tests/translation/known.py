"""Faults that are known and not mended yet: to be empty. One line a case; a mended one may stay."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "known"


def known(name: str) -> frozenset[str]:
    """The cases of one test that fail by now."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return frozenset()
    return frozenset(path.read_text("utf-8").splitlines())


def unknown(name: str, failures: dict[str, str]) -> list[str]:
    """Failures beyond the known ones, each with why; `WRITE_KNOWN` makes them known."""
    import os

    if os.environ.get("WRITE_KNOWN"):
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{name}.txt"
        path.write_text("".join(f"{case}\n" for case in sorted(failures)), "utf-8")
        if not failures:
            path.unlink()
    left = failures.keys() - known(name)
    return [f"{case}: {failures[case]}" for case in sorted(left)]
