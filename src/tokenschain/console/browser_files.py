"""Third-party files for browsers (htmx, ECharts, Lucide icons), out of pinned PyPI wheels."""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tokenschain.infra import wheels
from tokenschain.infra.model_store import make_private
from tokenschain.infra.security.prescribed import fingerprint_of_file
from tokenschain.infra.wheels import PinnedWheel, Progress

HTMX, ECHARTS, ICONS = "htmx-4.min.js", "echarts-6.esm.min.js", "lucide.db"


class BrowserFile(NamedTuple):
    """A file that a wheel carries; both sums are pinned."""

    name: str
    wheel: PinnedWheel
    member: str
    sha256: str
    licence: str
    """The licence's file in the wheel."""


FILES = (
    BrowserFile(
        HTMX,
        PinnedWheel(
            "django-htmx",
            "1.29.0",
            224_954,
            "0ec5be1645ed71e6787bd75e0250624f00274ac3bb1730f07b6629a95688929b",
        ),
        "django_htmx/static/django_htmx/htmx-4.min.js",
        "28fae7bbe8e8142b702debb9d5234a9a436d9435a4b5165b195aa1a7ed840d25",
        "django_htmx-1.29.0.dist-info/licenses/LICENSE",
    ),
    BrowserFile(
        ECHARTS,
        PinnedWheel(
            "instaui-echarts",
            "0.8.0",
            382_697,
            "a02e161415dacb49764d92f09ca45afc3d71661180bc11ba7ebe9724563120eb",
        ),
        "instaui_echarts/static/echarts.esm.min.js",
        "28515f26aa57f87eb1e4ed4eb446927eaf329b5f5e02b4bfd4b0264fea40d1da",
        "instaui_echarts-0.8.0.dist-info/licenses/LICENSE",
    ),
    BrowserFile(
        ICONS,
        PinnedWheel(
            "python-lucide",
            "0.5.11",
            840_745,
            "599486f3524e0a8a977e4e5e95e1e0ff2e8a0233e6f3a7e3f12571bd41076278",
        ),
        "lucide/data/lucide-icons.db",
        "32fcea31c39bfcf72b66bc8c065c623dbed97499ca85fa77ffa4ba7c0d77bc63",
        "python_lucide-0.5.11.dist-info/licenses/LICENSE",
    ),
)


def folder_in(data_folder: Path) -> Path:
    """Where the files are below a data folder."""
    return data_folder / "browser"


def missing(folder: Path) -> list[BrowserFile]:
    """Files that are not here yet."""
    return [file for file in FILES if not (folder / file.name).is_file()]


def fetch(folder: Path, progress: Progress) -> None:
    """Fetch the files that are not here, each with its licence beside it.

    Raises:
        WheelUnavailable: one cannot be had; pages work without it.
    """
    make_private(folder)
    for file in missing(folder):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pip-") as name:
            wheel = wheels.fetch(file.wheel, Path(name), progress, once=True)
            unpacked = Path(name) / file.name
            wheels.unpack(wheel, file.member, unpacked)
            if fingerprint_of_file(unpacked) != file.sha256:
                raise wheels.WheelUnavailable(f"{file.member} does not have the pinned SHA-256")
            wheels.unpack(wheel, file.licence, folder / f"{file.name}.LICENSE")
            unpacked.replace(folder / file.name)


def sprite(folder: Path, names: Collection[str]) -> bytes | None:
    """The icons of those names as one SVG of symbols; None without the icons' file."""
    path = folder / ICONS
    if not path.is_file():
        return None
    marks = ",".join("?" * len(names))
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as icons:
        query = f"SELECT name, svg FROM icons WHERE name IN ({marks})"  # noqa: S608  # only marks
        found = dict(icons.execute(query, sorted(names)))
    symbols = []
    for name in sorted(found):
        drawn = re.sub(r"\s+", " ", re.sub(r"^<svg[^>]*>|</svg>\s*$", "", found[name].strip()))
        symbols.append(f'<symbol id="{name}" {_DRAWN}>{drawn.strip()}</symbol>')
    return f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>'.encode()


_DRAWN = (
    'viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" '
    'stroke-linecap="round" stroke-linejoin="round"'
)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]), lambda _done, _total: None)
