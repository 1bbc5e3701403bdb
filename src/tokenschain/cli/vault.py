"""Commands of secrets sealed on this machine: set, list, delete."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tokenschain.cli.output import console
from tokenschain.infra import config
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import INTERNATIONAL

vault = typer.Typer(no_args_is_help=True, help="Secrets sealed on this machine: set, list, delete.")


@vault.command("set")
def secrets_set(name: Annotated[str, typer.Argument(help="Its name, for `sealed:NAME`.")]) -> None:
    """Seal a secret read from standard input; gateways take it up within 2 s."""
    value = typer.prompt("secret", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    if not value.strip():
        raise secrets.SecretMissing("nothing was given on standard input")
    _vault().store(name, value.strip())
    console.print(f"sealed; use it as [bold]sealed:{name}[/]")


@vault.command("list")
def secrets_list() -> None:
    """List the names of sealed secrets."""
    for name in _vault().names():
        console.print(name, highlight=False)


@vault.command("delete")
def secrets_delete(name: str) -> None:
    """Delete a sealed secret."""
    if not _vault().delete(name):
        raise secrets.SecretMissing(f"there is no sealed secret {name}")
    console.print(f"deleted {name}")


def _vault() -> secrets.Vault:
    settings = config.load()
    return secrets.Vault(settings.vault_path, settings.master_key_path, INTERNATIONAL)
