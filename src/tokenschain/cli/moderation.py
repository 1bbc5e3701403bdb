"""Moderation commands: what the local rules find in a text, and signed keyword packs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tokenschain.cli import tables
from tokenschain.cli.admin import rows_of
from tokenschain.cli.crypto import NewKeyFile, NewKeySuite, crypto_new_key
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.cli.tables import Format, Output
from tokenschain.core.log_events import silent
from tokenschain.core.moderation import drafts
from tokenschain.core.moderation.drafts import AcceptedProposal
from tokenschain.core.moderation.explanation import explain
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.packs import BadPack, coverage_gaps, read_pack
from tokenschain.core.moderation.risks import BY_ID
from tokenschain.infra.config import Settings, load
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import (
    PackFolder,
    character_tables,
    signature_path,
    today,
)
from tokenschain.infra.security import pack_signatures

moderation = typer.Typer(
    no_args_is_help=True, help="Moderation on this machine: test a text, sign keyword packs."
)
_PackFile = Annotated[Path, typer.Argument(help="File of the pack.", exists=True)]


@moderation.command("test")
def moderation_test(
    text: Annotated[str, typer.Argument(help="The text.")],
    output_format: Output = Format.TABLE,
) -> None:
    """Show what the local rules and installed packs find in a text; nothing is sent anywhere."""
    library = local_library(load())
    rows: list[dict[str, Any]] = [msgspec.structs.asdict(one) for one in explain(library, text)]
    tables.show(rows, ("stage", "category", "level", "rule", "text"), output_format)


@moderation.command("coverage")
def moderation_coverage(pack: _PackFile, output_format: Output = Format.TABLE) -> None:
    """Say what a pack lacks of what the standard asks: words in all, and for each risk."""
    gaps = coverage_gaps([_read(pack)], today())
    rows = [
        {"risk": name, "category": BY_ID[name].category if name in BY_ID else "", "missing": count}
        for name, count in gaps.items()
    ]
    tables.show(rows, ("risk", "category", "missing"), output_format)


@moderation.command("new-key")
def moderation_new_key(file: NewKeyFile, suite: NewKeySuite = None) -> None:
    """Make a key to sign packs with; prints the public one for `moderation.pack_keys`."""
    crypto_new_key(file, suite)


@moderation.command("sign")
def moderation_sign(
    pack: _PackFile,
    key: Annotated[
        list[Path],
        typer.Option(help="File of the private key; once more to sign with two.", exists=True),
    ],
) -> None:
    """Check a pack and write its signature beside it."""
    _read(pack)
    signature = signature_path(pack)
    signature.write_bytes(
        pack_signatures.sign(pack.read_bytes(), [one.read_bytes() for one in key])
    )
    said = told("signed: {file}", file=signature.name)
    console.print(said, highlight=False, markup=False)


@moderation.command("draft")
def moderation_draft(
    file: Annotated[Path, typer.Argument(help="Where the draft is written.")],
    base: Annotated[Path, typer.Option(help="File of the pack that it begins with.", exists=True)],
    version: Annotated[str, typer.Option(help="Version of the draft.")],
    tenant: Annotated[str | None, typer.Option(help="Tenant whose proposals are taken.")] = None,
) -> None:
    """Write the words and hard negatives that were proposed and accepted into a draft of a pack;
    `moderation sign` signs it."""
    query = {"state": "accepted"} | ({} if tenant is None else {"tenant": tenant})
    rows = rows_of("/api/v1/moderation-proposals", query)
    accepted = msgspec.convert(rows[::-1], list[AcceptedProposal])  # the oldest first
    made = drafts.draft(msgspec.structs.replace(_read(base), version=version), accepted)
    data = msgspec.json.format(msgspec.json.encode(made.pack), indent=1)
    try:
        read_pack(data)
    except BadPack as error:
        raise typer.BadParameter(str(error)) from None
    file.write_bytes(data)
    said = told("words: {count}", count=len(made.pack.words))
    console.print(said, highlight=False, markup=False)
    for phrase in made.left_out:
        said = told("left out, since its word is not in the pack: {phrase}", phrase=phrase)
        console.print(said, highlight=False, markup=False)


def local_library(settings: Settings) -> RuleLibrary:
    """The local rules with the packs of this machine."""
    library = RuleLibrary(character_tables, today, load_classifier)
    folder, keys = settings.moderation_packs_path, settings.moderation.pack_keys
    PackFolder(folder, keys, library, silent).load()
    return library


def _read(pack: Path) -> Any:
    try:
        return read_pack(pack.read_bytes())
    except BadPack as error:
        raise typer.BadParameter(str(error)) from None
