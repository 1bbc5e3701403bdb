"""Filings commands: a table of numbers, as a spreadsheet has it, into the model register."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenschain.cli import configuration
from tokenschain.cli.configuration import Document, DryRun, Reason
from tokenschain.cli.language import told
from tokenschain.cli.tables import Format, Output

filings = typer.Typer(
    no_args_is_help=True, help="Filings and registrations of models with the authorities."
)
SEPARATOR = ";"
"""Between the models of one number."""
_NAME, _MODELS, _MODIFIED = "name", "models", "modified"
_YES = frozenset({"1", "true", "yes", "是"})


@filings.command("import")
def filings_import(
    file: Annotated[Path, typer.Argument(help="CSV file in UTF-8; its first line names fields.")],
    dry_run: DryRun = False,
    reason: Reason = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Set filings as a table has them, all or none: columns `name`, `number`, `models` (with `;`
    between them), `source`, and any other field of a filing."""
    found = list(_rows_of(file))
    applied = configuration.apply_all(found, dry_run=dry_run, reason=reason)
    configuration.show_applied(applied, output_format)


def _rows_of(file: Path) -> Iterator[Document]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {' '.join(str(error).split())}") from None
    rows = csv.DictReader(text.splitlines())
    if not {_NAME, "number"} <= set(rows.fieldnames or ()):
        said = told("{path}: the first line has no `name` and `number`", path=file)
        raise typer.BadParameter(said)
    for row in rows:
        place = told("{path} line {number}", path=file, number=rows.line_num)
        if None in row:
            raise typer.BadParameter(told("{place}: more cells than fields", place=place))
        given = {name: (cell or "").strip() for name, cell in row.items()}
        yield Document(place, {
            "kind": "filing", "name": given.pop(_NAME),
            "spec": {name: _value(name, cell) for name, cell in given.items() if cell},
        })  # fmt: skip


def _value(name: str, cell: str) -> Any:
    if name == _MODELS:
        return [one.strip() for one in cell.split(SEPARATOR) if one.strip()]
    return cell.lower() in _YES if name == _MODIFIED else cell
