"""Audit commands: export what is sealed, verify a bundle offline, show the public key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenschain.cli import admin_client, audit_verify
from tokenschain.cli.crypto import need_second_person
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.core.audit import key_chain
from tokenschain.infra import config

audit = typer.Typer(no_args_is_help=True, help="Who changed what; the sealed log of all calls.")


@audit.command("verify")
def audit_verify_bundle(
    bundle: Annotated[
        Path, typer.Argument(help="What `audit export` or `audit prove -o json` wrote.")
    ],
    key: Annotated[
        str | None, typer.Option(help="The log's public key, as `audit key` printed it once.")
    ] = None,
    former_checkpoint: Annotated[
        Path | None, typer.Option(help="File with a checkpoint that was kept elsewhere.")
    ] = None,
    witness: Annotated[
        list[str] | None, typer.Option(help="Public key of a witness that must have cosigned.")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="CSV of `calls export` of the same time: each call is compared."),
    ] = None,
    receipt: Annotated[
        str | None, typer.Option(help="Receipt of a call that must be in it, as it was answered.")
    ] = None,
) -> None:
    """Verify a bundle or a proof, offline: the report is JSON, and names the segment that is wrong.

    Ends with 1 where something is not proved, and with 2 where the file is neither.
    """
    former = None if former_checkpoint is None else former_checkpoint.read_text("utf-8")
    report = audit_verify.report_of(str(bundle), key, former, witness or (), receipt)
    code = audit_verify.ending_of(report)
    if ledger is not None:
        from tokenschain.cli import audit_ledger  # noqa: PLC0415

        try:
            report["ledger"] = audit_ledger.compare(bundle, ledger)
            code = code or int(not report["ledger"]["agrees"])
        except audit_ledger.NotComparable as error:
            report["ledger"], code = {"agrees": False, "unreadable": str(error)}, 2
    console.print_json(json.dumps(report))
    if code:
        raise typer.Exit(code)


@audit.command("export")
def audit_export(
    file: Annotated[Path, typer.Argument(help="Tar file to write; it must not exist.")],
    from_s: Annotated[int, typer.Option(help="Unix time from which on.")] = 0,
    until_s: Annotated[
        int | None, typer.Option(help="Unix time until which; now if unset.")
    ] = None,
) -> None:
    """Write what was sealed in a time into a bundle, from the database, without a control.

    Needs the data folder and the database of control.
    """
    from tokenschain.control.audit import bundle  # noqa: PLC0415 - gateways do without

    until_ms = int((time.time() if until_s is None else until_s) * 1e3)
    with _opened() as (engine, secret, suite), file.open("xb") as out:
        try:
            found = bundle.write(engine, suite, secret, out, from_s * 1_000, until_ms)
        except bundle.NothingSealed as error:
            file.unlink()
            raise admin_client.AdminError(str(error)) from None
    said = told("segments {first} to {last} of {size}", first=str(found.first),
                last=str(found.until - 1), size=str(found.size))  # fmt: skip
    console.print(said, highlight=False, markup=False)


@audit.command("key")
def audit_key() -> None:
    """Print the log's public key and its latest checkpoint: keep both elsewhere.

    Who has them finds out when the log is cut off or rewritten; see `audit verify`.
    """
    from tokenschain.control.audit import log, log_keys  # noqa: PLC0415
    from tokenschain.infra.database.engine import reading  # noqa: PLC0415

    with _opened() as (engine, secret, _), reading(engine) as connection:
        note = log.latest_checkpoint(connection)
        if note is None:
            raise admin_client.AdminError(told("nothing is sealed yet"))
        key = log_keys.public_key(connection, secret, log.checkpoint_of(note).origin)
    console.print(key, soft_wrap=True, markup=False)
    console.print(f"\n{note}", end="", soft_wrap=True, highlight=False, markup=False)


@audit.command("fingerprint")
def audit_fingerprint(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="File with a checkpoint; else the log of this machine.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Of the log as it was with so many segments.")
    ] = None,
) -> None:
    """Print 40 digits that two people compare a checkpoint by, over the telephone.

    Who keeps a checkpoint reads its number of segments and the digits; `--size` says what this log
    has. Where they differ, one of the two is of another log.
    """
    from tokenschain.control.audit import log  # noqa: PLC0415 - gateways do without
    from tokenschain.core.audit import checkpoint as checkpoints  # noqa: PLC0415
    from tokenschain.infra.security.suite import INTERNATIONAL  # noqa: PLC0415

    try:
        if checkpoint is not None:
            stated = log.checkpoint_of(audit_verify.note_in(checkpoint.read_text("utf-8")))
        else:
            with _opened() as (engine, _, _):
                stated = log.stated_at(engine, INTERNATIONAL.digest, size)
    except (checkpoints.BadCheckpoint, LookupError, OSError, UnicodeDecodeError) as error:
        raise admin_client.AdminError(str(error)) from None
    said = told("segments: {size}", size=str(stated.size))
    digits = checkpoints.fingerprint(INTERNATIONAL.digest, stated)
    console.print(f"{stated.origin}\n{said}\n{digits}", highlight=False, markup=False)


@audit.command("rotate-key")
def audit_rotate_key() -> None:
    """Hand the log over to a new signing key, and destroy the old one.

    Prints the new public key and the hand-over, which both keys have signed: witnesses and `audit
    verify` go from key to key by it. Needs the data folder and the database of control, which may
    run; where several have a key file each, put the new one in its place.
    """
    from tokenschain.control.audit import log_keys  # noqa: PLC0415
    from tokenschain.control.audit.log import NotSealed, SegmentSealer  # noqa: PLC0415
    from tokenschain.infra.security import secret_files  # noqa: PLC0415

    settings = config.load()
    need_second_person(settings, "audit rotate-key")
    with _opened() as (engine, _, suite):

        def seal(secret: Any) -> object:
            return SegmentSealer(engine, suite, secret, settings.audit.interval_s).seal()

        try:
            note = log_keys.rotate(
                engine, settings.audit_key_path, secret_files.CLEAR, settings.crypto.suite, seal
            )
        except (log_keys.NotHandedOver, NotSealed, secret_files.SecretFileRefused) as error:
            raise admin_client.AdminError(str(error)) from None
    console.print(" ".join(key_chain.new_keys(note)), soft_wrap=True, markup=False)
    console.print(f"\n{note}", end="", soft_wrap=True, highlight=False, markup=False)


@audit.command("anchors")
def audit_anchors(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write each checkpoint and its evidence into.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 20,
) -> None:
    """List where checkpoints of the log were anchored: time stamps, and objects under lock.

    `audit verify --former-checkpoint NOTE` shows that a bundle goes on from one, and
    `openssl ts -verify` that an authority stamped it.
    """
    from tokenschain.control.audit import anchors  # noqa: PLC0415 - gateways do without
    from tokenschain.infra.database.engine import reading  # noqa: PLC0415

    with _opened() as (engine, _, _), reading(engine) as connection:
        found = anchors.listed(connection, count)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for one in found:
            kind = ".tsr" if one.kind == "timestamp" else ".json"
            (out / f"{one.size}-{one.id}.note").write_bytes(one.note.encode())
            (out / f"{one.size}-{one.id}{kind}").write_bytes(one.evidence)
    for one in found:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at_s))
        line = f"{at}  {one.size}  {one.kind}  {one.place}  {one.id}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@audit.command("grants")
def audit_grants(
    role: Annotated[str, typer.Argument(help="The role as which control connects.")],
    auditor: Annotated[
        str | None, typer.Option(help="A role that is to read the log and nothing else.")
    ] = None,
) -> None:
    """Print the SQL after which control can add to the sealed log, and change or delete nothing.

    An administrator of the PostgreSQL database runs it, after each upgrade again:
    `tokenschain audit grants tokenschain | psql ...`.
    """
    from tokenschain.infra.database import audit_grants  # noqa: PLC0415 - gateways do without

    for statement in audit_grants.statements(role, auditor):
        console.print(f"{statement};", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _opened() -> Iterator[tuple[Any, Any, Any]]:
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from tokenschain.infra.database import engine as db  # noqa: PLC0415
    from tokenschain.infra.security import secret_files  # noqa: PLC0415
    from tokenschain.infra.security.note_keys import NoteSecret  # noqa: PLC0415
    from tokenschain.infra.security.suite import INTERNATIONAL  # noqa: PLC0415

    settings = config.load()
    try:
        secret, *former = secret_files.read(settings.audit_key_path)
    except (FileNotFoundError, secret_files.SecretFileRefused) as error:
        raise admin_client.AdminError(str(error)) from None
    engine = db.connect(settings.database_url)
    try:
        signs = NoteSecret(INTERNATIONAL, secret, settings.crypto.suite, former)
        yield engine, signs, INTERNATIONAL
    except SQLAlchemyError as error:
        raise admin_client.AdminError(db.first_line(error)) from None
    finally:
        engine.dispose()
