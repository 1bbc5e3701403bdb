"""Witness commands: a process of its own that cosigns the audit log's checkpoints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokenschain.cli import admin_client
from tokenschain.cli.output import console

witness = typer.Typer(
    no_args_is_help=True, help="A witness of audit logs, on a machine of its own."
)
Folder = Annotated[Path, typer.Argument(help="Folder of the witness: key and cosigned notes.")]


class WitnessSuite(StrEnum):
    """Suites of a witness."""

    INTERNATIONAL = "international"
    GM = "gm"


@witness.command("create")
def create_witness(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Its name, as witness.example.com.")],
    suite: Annotated[
        WitnessSuite, typer.Option(help="What it cosigns with: Ed25519, or SM2 with SM3.")
    ] = WitnessSuite.INTERNATIONAL,
) -> None:
    """Make a witness with a key of its own, and print its public key."""
    from tokenschain.control.audit import witness as witnesses  # noqa: PLC0415

    try:
        witnesses.create(folder, name, suite)
    except (witnesses.WitnessRefused, OSError) as error:
        raise admin_client.AdminError(str(error)) from None
    show_key(folder)


@witness.command("follow")
def follow_log(
    folder: Folder,
    key: Annotated[str, typer.Argument(help="The log's public key, as `audit key` prints it.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the log's former key.")
    ] = False,
) -> None:
    """Have it cosign a log; a witness that runs is to be started again.

    A key that the log hands over to is taken by itself; `--replace` is for one that it lost.
    """
    from tokenschain.control.audit import witness as witnesses  # noqa: PLC0415
    from tokenschain.infra.security.suite import INTERNATIONAL  # noqa: PLC0415

    try:
        witnesses.follow(INTERNATIONAL, folder, key, replaced=replace)
    except (witnesses.WitnessRefused, OSError) as error:
        raise admin_client.AdminError(str(error)) from None


@witness.command("run")
def run_witness(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8_009,
) -> None:
    """Serve `POST /add-checkpoint` (C2SP tlog-witness) until it is stopped."""
    from tokenschain.control.audit.witness import WitnessRefused  # noqa: PLC0415
    from tokenschain.wiring import witness as process  # noqa: PLC0415

    try:
        process.run(folder, host, port)
    except (WitnessRefused, OSError) as error:
        raise admin_client.AdminError(str(error)) from None


@witness.command("key")
def show_key(folder: Folder) -> None:
    """Print its public key: for `audit.witnesses` of the log's control, and who verifies."""
    _print(folder, notes=False)


@witness.command("checkpoints")
def show_checkpoints(folder: Folder) -> None:
    """Print what it cosigned last of each log: what `audit verify --former-checkpoint` takes."""
    _print(folder, notes=True)


def _print(folder: Path, *, notes: bool) -> None:
    from tokenschain.control.audit.witness import Witness, WitnessRefused  # noqa: PLC0415
    from tokenschain.infra.security.suite import INTERNATIONAL  # noqa: PLC0415

    try:
        found = Witness(INTERNATIONAL, folder)
    except WitnessRefused as error:
        raise admin_client.AdminError(str(error)) from None
    text = "\n".join(found.notes()) if notes else found.key() + "\n"
    console.print(text, end="", soft_wrap=True, highlight=False, markup=False)
