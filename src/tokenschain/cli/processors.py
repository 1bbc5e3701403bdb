"""Register of processors: its export as a table for the data protection officer."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenschain.cli.admin import rows_of
from tokenschain.cli.language import told
from tokenschain.cli.output import errors
from tokenschain.core.spreadsheet import text_cell

processors = typer.Typer(
    no_args_is_help=True, help="Processors: who is handed data of calls, for what, by contract."
)
SEPARATOR = "; "
COLUMNS = (
    "vendor", "purpose", "upstreams", "engines", "fields", "categories", "contract", "region",
    "retention", "reviewed_on",
)  # fmt: skip


@processors.command("export")
def processors_export(
    out: Annotated[
        Path | None, typer.Option(help="File to write; standard output by default.")
    ] = None,
) -> None:
    """Export the register of processors as CSV in UTF-8, one entry a line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(("name", *COLUMNS))
    for one in rows_of("/api/v1/processors"):
        table.writerow((one["name"], *(_cell(one["spec"].get(name)) for name in COLUMNS)))
    if out is None:
        print(text.getvalue(), end="")
        return
    # With a mark of its encoding: spreadsheets take UTF-8 for something else without.
    out.write_text(text.getvalue(), "utf-8-sig")
    errors.print(told("written to {path}", path=out), highlight=False, markup=False)


def _cell(value: Any) -> str:
    return text_cell(SEPARATOR.join(value) if isinstance(value, list) else value or "")
