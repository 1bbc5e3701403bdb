"""The `tokenschain` command line."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from tokenschain import __version__
from tokenschain.cli import admin, admin_client, cache, database, models, run, vault
from tokenschain.cli.chat import chat
from tokenschain.cli.doctor.command import doctor
from tokenschain.cli.output import console, errors
from tokenschain.cli.plots import PlotsMissing
from tokenschain.cli.simulate import simulate
from tokenschain.infra import catalog_file, config, hardening
from tokenschain.infra.model_store import ModelStoreError
from tokenschain.infra.security import secret_files, secrets

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="One OpenAI-compatible API over China's model clouds and your own engines.",
)
for command in (
    run.up, run.gateway, run.control, run.engine, run.semantic,
    simulate, chat, doctor, admin.usage, database.migrate, database.backup,
    database.advance_revision,
):  # fmt: skip
    app.command()(command)
app.add_typer(cache.cache, name="cache")
app.add_typer(admin.keys, name="keys")
app.add_typer(admin.limits, name="limits")
app.add_typer(admin.users, name="users")
app.add_typer(admin.tokens, name="tokens")
app.add_typer(admin.wallet, name="wallet")
app.add_typer(admin.records, name="records")
app.add_typer(models.model, name="model")
app.add_typer(vault.vault, name="secrets")
app.add_typer(vault.credentials, name="credentials")


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__, highlight=False)


def main() -> None:
    """Entry point; mistakes of the user end in one clear line."""
    hardening.harden()
    try:
        app()
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        for line in told.splitlines():
            errors.print(f"[red]error:[/red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(2)


_MENDABLE = (
    config.SettingsError,
    admin_client.AdminError,
    ModelStoreError,
    PlotsMissing,
    catalog_file.CatalogError,
    run.StartFailed,
    secrets.SecretMissing,
    secret_files.SecretFileRefused,
    hardening.FolderRefused,
)
_DATABASE_MODULES = ("sqlalchemy.", "tokenschain.infra.database.")
"""By name, so that a process without a database does not load its library."""


def _told(error: Exception) -> str | None:
    """What to tell of an error that a person can mend; None for a fault of our own."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, _MENDABLE):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    if f"{type(error).__module__}.".startswith(_DATABASE_MODULES):
        return str(error).partition("\n")[0]
    return None
