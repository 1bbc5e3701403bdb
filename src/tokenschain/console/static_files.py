"""Static files of the console: addresses with a hash, immutable, compressed once."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from tokenschain.console import browser_files
from tokenschain.infra.security.suite import Suite

PREFIX = "/console/static"
SPRITE = "icons.svg"
_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_VERSION_CHARACTERS = 12
_ICON = re.compile(r"""icon\('([a-z0-9-]+)'""")


class StaticFile(NamedTuple):
    """A file as it is sent."""

    media_type: str
    body: bytes
    packed: bytes
    """With gzip."""


class StaticFiles:
    """What browsers load beside the pages; read once."""

    def __init__(self, folder: Path, icons: frozenset[str], suite: Suite) -> None:
        """
        Args:
            folder: of third-party files; see `browser_files`. What is not there, pages do without.
            icons: names of those that pages draw.
        """
        own = files("tokenschain.console") / "static"
        bodies = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
        for name in (browser_files.HTMX, browser_files.ECHARTS):
            if (folder / name).is_file():
                bodies[name] = (folder / name).read_bytes()
        drawn = browser_files.sprite(folder, icons)
        if drawn is not None:
            bodies[SPRITE] = drawn
        self._files = {
            name: StaticFile(_TYPES[name.rpartition(".")[2]], body, pack(body, 9))
            for name, body in bodies.items()
        }
        everything = b"\n".join(name.encode() + body for name, body in sorted(bodies.items()))
        self._version = suite.hex_digest(everything)[:_VERSION_CHARACTERS]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def address(self, name: str) -> str:
        """Where a file is; another one once any file is another.

        Raises:
            KeyError: there is no such file.
        """
        if name not in self._files:
            raise KeyError(name)
        return f"{PREFIX}/{self._version}/{name}"

    def find(self, path: str) -> StaticFile | None:
        """The file at a path below `PREFIX`."""
        version, _, name = path.removeprefix(f"{PREFIX}/").partition("/")
        return self._files.get(name) if version == self._version else None


def pack(body: bytes, level: int = 5) -> bytes:
    """A body with gzip."""
    return gzip.compress(body, level, mtime=0)


def icons_in(templates: Path) -> frozenset[str]:
    """Names of the icons that templates draw."""
    texts = (path.read_text("utf-8") for path in templates.glob("*.html"))
    return frozenset(name for text in texts for name in _ICON.findall(text))
