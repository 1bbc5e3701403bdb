"""Language of the commands: English, or Chinese by locale or TOKENSCHAIN_LANG.

English stands where it is said; `data/cli.zh.toml` has the Chinese of each text, by the English.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import typer
from rich import columns
from rich.console import RenderableType
from rich.table import Table
from typer import rich_utils
from typer.core import TyperGroup

from tokenschain.infra.config import LANGUAGE_VARIABLE

CATALOGUE = "cli.zh.toml"
Language = Literal["en", "zh"]


def language() -> Language:
    """What the reader is told things in; the first variable that is set decides."""
    names = (LANGUAGE_VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG")
    named = next((value for name in names if (value := os.environ.get(name))), "")
    return "zh" if named.lower().startswith("zh") else "en"


@cache
def chinese() -> dict[str, str]:
    """Every text of the commands in Chinese, by its English."""
    text = (files("tokenschain") / "data" / CATALOGUE).read_text("utf-8")
    return {str(english): str(said) for english, said in tomllib.loads(text).items()}


def told(text: str, /, **values: object) -> str:
    """A text in the reader's language, with values in the places that it names."""
    if language() == "zh":
        text = chinese().get(text, text)
    return text.format(**values) if values else text


def localize(group: TyperGroup) -> None:
    """Put the help of all commands into the reader's language."""
    if language() == "en":
        return
    rich_utils.ARGUMENTS_PANEL_TITLE = told("Arguments")
    rich_utils.OPTIONS_PANEL_TITLE = told("Options")
    rich_utils.COMMANDS_PANEL_TITLE = told("Commands")
    for module in (rich_utils, columns):  # which draw a command's help
        vars(module)["Table"] = _FoldedTable
    _localize(group)


class _FoldedTable(Table):
    """A table that folds texts without spaces, where the library's cuts them."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """See `rich.table.Table`."""
        super().add_row(*cells, **options)
        for column in self.columns:
            column.overflow = "fold"


def _localize(command: object) -> None:
    assert isinstance(command, (TyperGroup, typer.core.TyperCommand))
    if command.help:
        command.help = "\n\n".join(told(part) for part in paragraphs(command.help))
    if command.short_help:
        command.short_help = told(command.short_help)
    for parameter in command.params:
        words = getattr(parameter, "help", None)
        if words:
            parameter.help = told(words)  # type: ignore[attr-defined]
    for inner in getattr(command, "commands", {}).values():
        _localize(inner)


def paragraphs(text: str) -> list[str]:
    """A help text as the catalogue has it: paragraph by paragraph, each on one line."""
    parts = (" ".join(part.split()) for part in text.split("\n\n"))
    return [part for part in parts if part]
