"""Commands of secrets on this machine: set, list, delete, rotate."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokenschain.cli import tables
from tokenschain.cli.crypto import need_second_person
from tokenschain.cli.language import told
from tokenschain.cli.output import console
from tokenschain.cli.tables import Format, Output
from tokenschain.infra import config
from tokenschain.infra.security import rotation, secret_files, secrets
from tokenschain.infra.security.rotation import RotatedSecret, Stage
from tokenschain.infra.security.suite import suite_named

vault = typer.Typer(
    no_args_is_help=True, help="Secrets on this machine: set, list, delete, rotate."
)


@vault.command("set")
def secrets_set(name: Annotated[str, typer.Argument(help="Its name, for `sealed:NAME`.")]) -> None:
    """Seal a secret read from standard input; gateways take it up within 2 s."""
    asked = told("secret")
    value = typer.prompt(asked, hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    if not value.strip():
        raise secrets.SecretMissing(told("nothing was given on standard input"))
    _vault().store(name, value.strip())
    said = told("sealed; use it as sealed:{name}", name=name)
    console.print(said, highlight=False, markup=False)


@vault.command("list")
def secrets_list(output_format: Output = Format.TABLE) -> None:
    """List the names of sealed secrets."""
    tables.show([{"name": name} for name in _vault().names()], ("name",), output_format)


@vault.command("delete")
def secrets_delete(name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Delete a sealed secret."""
    if not _vault().delete(name):
        raise secrets.SecretMissing(told("there is no sealed secret {name}", name=name))
    console.print(told("deleted {name}", name=name), highlight=False, markup=False)


@vault.command("rotate")
def secrets_rotate(
    secret: Annotated[RotatedSecret, typer.Argument(help="The secret to rotate.")],
    stage: Annotated[
        Stage | None,
        typer.Option(help="One stage only, where other machines need a copy of the file between."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on though some have not reported the new secret.")
    ] = False,
) -> None:
    """Rotate the master key or the internal secret of a running platform.

    Without `--stage`, all stages one after the other: enough where all processes read the same
    file. Running processes need no restart. Before the new secret is used, and before the old one
    is forgotten, it waits until gateways and controls report that they have the new one.
    """
    from tokenschain.wiring import key_stores  # noqa: PLC0415 - reaches for clouds and devices

    settings = config.load()
    need_second_person(settings, f"secrets rotate {secret}")
    master = secret is RotatedSecret.MASTER
    path = settings.master_key_path if master else settings.internal_secret_path
    store = key_stores.store_of(settings) if master else secret_files.CLEAR
    for step in Stage if stage is None else (stage,):
        if not force:
            _until_reported(settings, secret, path, step, store)
        rotation.go(path, step, store)
        if step is not Stage.FINISH and (master or stage is None):
            # Who reports nothing has to know of it, too, before the next step is taken.
            time.sleep(rotation.NOTICED_S)
        if master and step is Stage.USE:
            from tokenschain.control import resealing  # noqa: PLC0415 - gateways do without

            if stage is None and not force:
                _until_reported(settings, secret, path, Stage.FINISH, store)
            count = resealing.reseal_machine(settings, store)
            console.print(f"{count} sealed texts are sealed with the new key", highlight=False)
        console.print(f"{step}: done, {path}", highlight=False, soft_wrap=True)


def _until_reported(
    settings: config.Settings,
    secret: RotatedSecret,
    path: Path,
    step: Stage,
    store: secret_files.KeyStore,
) -> None:
    """Wait before a stage until all processes that report their secrets are ready for it."""
    from tokenschain.control import secret_reports  # noqa: PLC0415 - gateways do without

    wanted = rotation.new_fingerprint(path, store) if step is not Stage.ADD else None
    in_force = step is Stage.FINISH
    if wanted is not None and in_force is rotation.is_in_use(path):
        secret_reports.until_reported(settings, secret, wanted, in_force=in_force)


def _vault() -> secrets.Vault:
    from tokenschain.wiring import key_stores  # noqa: PLC0415 - reaches for clouds and devices

    settings = config.load()
    suite = suite_named(settings.crypto.suite)
    return key_stores.vault(settings, suite)


class Credential(StrEnum):
    """What of the first start can be made anew."""

    ADMIN_TOKEN = "admin-token"  # noqa: S105 - its name
    API_KEY = "api-key"
    SIGN_IN_LINK = "sign-in-link"


credentials = typer.Typer(
    no_args_is_help=True, help="First API key and admin token, on the machine of the platform."
)


@credentials.command("show")
def credentials_show() -> None:
    """Show the first API key and admin token, unless a terminal has shown them already."""
    from tokenschain.wiring import machine  # noqa: PLC0415 - gateways do without

    kept = machine.kept_credentials(config.load())
    if not kept:
        raise secrets.SecretMissing(
            "they were shown at the first start, and only their hashes are kept: "
            "`tokenschain credentials renew admin-token`, or `api-key`, makes another"
        )
    console.print(kept, end="", highlight=False, soft_wrap=True, markup=False)


@credentials.command("renew")
def credentials_renew(
    credential: Annotated[Credential, typer.Argument(help="What to make anew.")],
) -> None:
    """Make another admin token, which ends the former at once, another first API key, or a link
    that signs in to the console once within 15 minutes.

    Needs the data folder and the database, not a running control; it is written to the audit log.
    """
    from tokenschain.wiring import machine  # noqa: PLC0415 - gateways do without

    settings = config.load()
    if credential is Credential.ADMIN_TOKEN:
        made = machine.renew_admin_token(settings)
    elif credential is Credential.SIGN_IN_LINK:
        made = machine.sign_in_link(settings)
    else:
        made = machine.another_key(settings)
    console.print(made, highlight=False, soft_wrap=True, markup=False)
