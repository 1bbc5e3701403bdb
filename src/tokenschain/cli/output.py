"""Console output of the commands: tables and error lines."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

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
