"""Boot manifest: whether the installed files are those of the package, and which settings file.

A wheel lists each of its files with its digest (`RECORD` of PEP 376): who changed one after the
installation is found out at the next start. Who changes the list, too, is not: for that, the
machine verifies its packages itself.
"""

from __future__ import annotations

import base64
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tokenschain.infra.security import prescribed

PACKAGE = "tokenschain"


class BootManifest(NamedTuple):
    """What a process started from."""

    files: int
    """Compared with the list; 0 where there is none, as of an editable installation."""
    changed: tuple[str, ...]
    """Names of files that are missing or are not what the list says."""
    record: str
    """Digest of the list itself."""
    settings_file: str
    """Digest of the settings file; empty where there is none."""


def look(settings_file: Path | None, package: str = PACKAGE) -> BootManifest:
    """Compare the installed files with their list."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return BootManifest(0, (), "", digest_of(settings_file))
    prefix = f"{package}/"
    listed = [one for one in distribution.files or () if str(one).startswith(prefix) and one.hash]
    changed = tuple(
        str(one)
        for one in listed
        if one.hash is not None and _digest(Path(str(one.locate()))) != one.hash.value
    )
    record = (distribution.read_text("RECORD") or "").encode()
    return BootManifest(
        len(listed), changed, prescribed.fingerprint(record), digest_of(settings_file)
    )


def digest_of(path: Path | None) -> str:
    """Of a file, in hex; empty where there is none."""
    try:
        return "" if path is None else prescribed.fingerprint_of_file(path)
    except OSError:
        return ""


def _digest(path: Path) -> str:
    """As the list has it: SHA-256 in base64 without padding."""
    try:
        raw = prescribed.sha256(path.read_bytes())
    except OSError:
        return ""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
