"""docs/architecture.md names each folder of the source, and nothing else."""

from __future__ import annotations

import re

from tests.house.tree import ROOT, SOURCE


def test_the_architecture_page_names_each_folder_of_the_source() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page[page.index("## Source folders") :]
    named = set(re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE))
    there = {
        str(folder.relative_to(SOURCE))
        for folder in SOURCE.rglob("*")
        if folder.is_dir() and folder.name != "__pycache__" and any(folder.iterdir())
    }
    assert named == there


def test_the_architecture_page_names_each_kind_of_process() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"^\| \w+ \| `tokenschain (\w+)` \|", page, re.MULTILINE))
    shared = {"__init__", "anchors", "machine", "key_stores"}
    kinds = {path.stem for path in (SOURCE / "wiring").glob("*.py")} - shared
    assert named == kinds
    assert "Five kinds of process" in page and len(kinds) == 5
