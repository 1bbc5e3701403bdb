"""Consoles of the commands: output, error lines, secrets that are typed in."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table

from tokenschain.cli.language import told

console = Console()
errors = Console(stderr=True)


def table(*names: str) -> Table:
    """A table whose cells fold on a narrow terminal instead of losing their ends."""
    made = Table()
    for name in names:
        # An id is copied into the next command.
        made.add_column(name, overflow="fold", no_wrap=name == "id")
    return made


def without_password(url: str) -> str:
    """An address without who signs in there; any other text as it is."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url


def secret_input(name: str) -> str:
    """A secret, which is no argument since others see those: asked for, or the next line."""
    if sys.stdin.isatty():
        text: str = typer.prompt(told(name.replace("_", " ")), hide_input=True)
    else:
        text = sys.stdin.readline().rstrip("\n")
    if not text:
        raise typer.BadParameter(told("{name} is read from standard input: nothing", name=name))
    return text
