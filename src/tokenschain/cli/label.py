"""Label commands: write the label of AI-generated content into files, and verify it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tokenschain.cli import tables
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.cli.tables import Format, Output
from tokenschain.core.labels.aigc import AigcLabel, BadLabel, digested
from tokenschain.core.labels.files import LabelledFile, read_file, write_file
from tokenschain.core.labels.pdf import BadFile
from tokenschain.infra.security.suite import INTERNATIONAL

FILE_BYTES_MAX = 268_435_456
_DIGEST = "sha256:"
label = typer.Typer(no_args_is_help=True, help="Labels of AI-generated files, by GB 45438-2025.")
_File = Annotated[
    Path, typer.Argument(help="Text, Markdown, JPEG, PNG, WAV or PDF.", exists=True, dir_okay=False)
]


@label.command("write")
def label_write(
    file: _File,
    call: Annotated[str, typer.Option(help="Id of the call that made it: the label's ProduceID.")],
    producer: Annotated[str, typer.Option(help="Code of who generated it, as registered.")],
    into: Annotated[
        Path | None, typer.Option(help="Where to write it; by default into the file itself.")
    ] = None,
) -> None:
    """Write the label into a file, in place of one that it has."""
    data, target = _bytes_of(file), into or file
    made = AigcLabel(content_producer=producer, produce_id=call)
    content = _read(target, data).content
    made = msgspec.structs.replace(made, reserved_code_1=_digest(made, content))
    try:
        written = write_file(data, target.name, made)
    except BadFile as error:
        raise typer.BadParameter(str(error)) from None
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(written)
    part.replace(target)
    console.print(told("labelled: {file}", file=target.name), highlight=False, markup=False)


@label.command("verify")
def label_verify(file: _File, output_format: Output = Format.TABLE) -> None:
    """Show the label of a file, and whether the content is as it was labelled.

    Ends with 1 where there is no label, or the content is another.
    """
    found = _read(file, _bytes_of(file))
    if found.label is None:
        console.print(told("there is no label"), highlight=False, markup=False)
        raise typer.Exit(1)
    expected, given = _digest(found.label, found.content), found.label.reserved_code_1
    content = "unchanged" if given == expected else "changed"
    if not given.startswith(_DIGEST):
        content = "unknown"
    row = {"call": found.label.produce_id, "producer": found.label.content_producer,
           "label": found.label.label, "content": content}  # fmt: skip
    tables.show([row], tuple(row), output_format)
    if content == "changed":
        raise typer.Exit(1)


def _bytes_of(file: Path) -> bytes:
    if file.stat().st_size > FILE_BYTES_MAX:
        raise typer.BadParameter(told("larger than {most} bytes", most=FILE_BYTES_MAX))
    return file.read_bytes()


def _read(file: Path, data: bytes) -> LabelledFile:
    try:
        return read_file(data, file.name)
    except (BadFile, BadLabel) as error:
        raise typer.BadParameter(str(error)) from None


def _digest(of: AigcLabel, content: bytes) -> str:
    return _DIGEST + INTERNATIONAL.hex_digest(digested(of, content))
