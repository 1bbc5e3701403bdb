"""The source tree, as the tests of this folder look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tokenschain"
DOCS = ROOT / "docs"


def modules() -> list[Path]:
    """Every module of the source."""
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A module by its path below `src/tokenschain`."""
    return str(path.relative_to(SOURCE))


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(parsed(path)) or "").partition("\n")[0]


def functions() -> Iterator[tuple[str, int]]:
    """Every function as `module:name`, with its number of lines."""
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{name_of(path)}:{node.name}", node.end_lineno - node.lineno + 1


def pages() -> list[Path]:
    """Every page that a reader may open."""
    return sorted([ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CHANGELOG.md",
                   *DOCS.rglob("*.md")])  # fmt: skip
