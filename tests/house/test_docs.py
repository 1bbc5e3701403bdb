"""The reference is complete and current; the house keeps its own rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs import generate

from tokenschain.core.errors import ERRORS
from tokenschain.infra.config import declared

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_reference_is_what_the_code_says() -> None:
    stale = [
        name
        for name, page in generate.PAGES.items()
        if (generate.FOLDER / name).read_text("utf-8") != generate._NOTE + page()
    ]
    assert not stale, f"run `make docs`: {stale}"


def test_every_setting_and_error_has_its_place() -> None:
    settings = (generate.FOLDER / "settings.md").read_text("utf-8")
    errors = (generate.FOLDER / "errors.md").read_text("utf-8")
    assert not [name for name, _ in declared.settings() if f"## {name}\n" not in settings]
    assert not [code for code in ERRORS if f"`{code}`" not in errors]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_in_the_docs_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [
        target for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if ":" not in target
    ]
    assert not [target for target in links if not (page.parent / target).exists()]
    named = re.findall(r"`((?:src|tests|docs|bench)/[\w./]+)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_error_code_is_raised_somewhere() -> None:
    source = "".join(
        path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py") if path.name != "errors.py"
    )
    assert not [code for code in ERRORS if f'"{code}"' not in source]


def test_a_gateway_does_not_load_what_only_control_needs() -> None:
    probe = (
        "import sys, tokenschain.cli, tokenschain.wiring.gateway;"
        "print([n for n in ('sqlalchemy', 'fastapi', 'uvicorn', 'xllamacpp') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_no_secret_and_no_foreign_path_is_in_the_tree() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    suspicious = re.compile(r"tc-[\w-]{43}|tca-[\w-]{43}|sk-[A-Za-z0-9]{32,}|/r[o]ot/|/h[o]me/\w+/")
    found = [
        name
        for name in tracked
        if (ROOT / name).is_file()
        and suspicious.search((ROOT / name).read_text("utf-8", "replace"))
    ]
    assert not found
