"""The `tokenschain` command line."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from tokenschain import __version__
from tokenschain.cli import admin, admin_client, cache, database, models, run, vault
from tokenschain.cli.chat import chat
from tokenschain.cli.doctor import doctor
from tokenschain.cli.output import console, errors
from tokenschain.cli.plots import PlotsMissing
from tokenschain.cli.simulate import simulate
from tokenschain.infra import catalog_file, config
from tokenschain.infra.model_store import ModelStoreError
from tokenschain.infra.security import secret_files, secrets

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
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


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__, highlight=False)


def main() -> None:
    """Entry point; mistakes of the user end in one clear line."""
    try:
        app()
    except (
        config.SettingsError,
        admin_client.AdminError,
        ModelStoreError,
        PlotsMissing,
        catalog_file.CatalogError,
        secrets.SecretMissing,
        secret_files.SecretFileRefused,
    ) as error:
        errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
