"""The `tokenschain` command line."""

from __future__ import annotations

import sys
from enum import IntEnum

import typer
import typer.main
from rich.markup import escape
from typer.core import TyperGroup

from tokenschain import __version__
from tokenschain.cli import (
    admin,
    admin_client,
    api_commands,
    audit,
    cache,
    compliance,
    configuration,
    crypto,
    database,
    evaluation_draw,
    filings,
    label,
    language,
    models,
    moderation,
    processors,
    run,
    upstreams,
    vault,
    witness,
)
from tokenschain.cli.chat import chat
from tokenschain.cli.doctor.command import doctor
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors
from tokenschain.cli.plots import PlotsMissing
from tokenschain.cli.simulate import simulate
from tokenschain.infra import catalog_file, config, hardening
from tokenschain.infra.model_store import ModelStoreError
from tokenschain.infra.security import secret_files, secrets, self_test


class ExitCode(IntEnum):
    """How a command ends: its exit code."""

    DONE = 0
    REFUSED = 1
    """The platform refuses it, or there is no such thing."""
    MISUSED = 2
    """Wrong arguments or settings; nothing was asked of the platform."""
    UNREACHABLE = 3
    """The platform does not answer."""


app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="One OpenAI-compatible API over China's model clouds and your own engines.",
)
compliance.compliance.command("draw")(evaluation_draw.compliance_draw)
for command in (
    run.up, run.gateway, run.control, run.engine, run.semantic,
    simulate, chat, doctor, admin.usage, database.migrate, database.backup,
    database.advance_revision, configuration.apply, configuration.diff, configuration.export,
):  # fmt: skip
    app.command()(command)
GROUPS: dict[str, typer.Typer] = {
    "tenants": typer.Typer(help="Tenants: list, create, change."),
    "accounts": typer.Typer(help="Accounts within tenants."),
    "projects": typer.Typer(help="Projects within tenants."),
    "environments": typer.Typer(help="Environments within projects."),
    "keys": typer.Typer(help="API keys: create, list, change, rotate, revoke."),
    "limits": admin.limits,
    "users": admin.users,
    "roles": typer.Typer(help="Roles, and what they permit."),
    "tokens": typer.Typer(help="Programs' tokens: create, list, revoke."),
    "me": typer.Typer(help="Your own account: sign in, password, second factor."),
    "calls": typer.Typer(help="Single calls: list, show, export."),
    "wallet": typer.Typer(help="What tenants have paid: show, deposit."),
    "ledger": typer.Typer(help="The double-entry ledger, and how complete it is."),
    "prices": typer.Typer(help="Selling prices."),
    "fx": typer.Typer(help="The dollar's exchange rates."),
    "audit": audit.audit,
    "compliance": compliance.compliance,
    "approvals": typer.Typer(help="Acts that wait for a second person: list, approve, reject."),
    "witness": witness.witness,
    "alerts": admin.alerts,
    "records": admin.records,
    "metrics": typer.Typer(help="Control's metrics."),
    "cache": cache.cache,
    "upstreams": upstreams.upstreams,
    "gateways": typer.Typer(help="Gateway processes, and what each serves by."),
    "upstream-credentials": configuration.credentials,
    "models": typer.Typer(help="Models of your own: kind, abilities, prices, offers."),
    "virtual-models": typer.Typer(help="Virtual models: names that are routed by rules."),
    "routing": typer.Typer(help="Routing: policies, weights, residency, hedging."),
    "cache-rules": typer.Typer(help="Rules of the response cache."),
    "moderation-policies": typer.Typer(help="Moderation: what is screened, and what follows."),
    "moderation": moderation.moderation,
    "filings": filings.filings,
    "processors": processors.processors,
    "data-classes": typer.Typer(help="Data classes: where data goes, how it is kept, who reads."),
    "incidents": typer.Typer(help="Incidents: open, report, end; reports that are pre-filled."),
    "subject-requests": typer.Typer(help="Requests of end users: access, copy, deletion."),
    "label": label.label,
    "label-rules": typer.Typer(help="Labels in answers: the notice and the metadata."),
    "receipt-rules": typer.Typer(help="Receipts of the audit log: whose answers have one."),
    "revisions": typer.Typer(help="Changes of the configuration: list, show, roll back."),
    "model": models.model,
    "secrets": vault.vault,
    "crypto": crypto.crypto,
    "credentials": vault.credentials,
}
"""Groups of commands by name; those of one operation of the admin API are added from the table."""
api_commands.add_commands(GROUPS)
for name, group in GROUPS.items():
    group.info.no_args_is_help = True
    app.add_typer(group, name=name)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__, highlight=False)


def main() -> None:
    """Entry point; mistakes of the user end in one clear line."""
    hardening.harden()
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    language.localize(command)
    try:
        ended = command.main(
            _arguments(sys.argv[1:]), prog_name="tokenschain", standalone_mode=False
        )
    except typer.Abort:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        said = _said_of(error)
        if said is None:
            raise
        for line in said.splitlines():
            errors.print(
                f"[red]{told('error:')}[/red] {escape(line)}", highlight=False, soft_wrap=True
            )
        sys.exit(_ending_of(error))
    sys.exit(ended if isinstance(ended, int) else ExitCode.DONE)


def _arguments(given: list[str]) -> list[str]:
    """The arguments, with the seconds of a `--watch` that says none: typer knows no option whose
    value may be left out."""
    found: list[str] = []
    for at, text in enumerate(given):
        found.append(text)
        after = given[at + 1] if at + 1 < len(given) else ""
        if text == "--watch" and not after.replace(".", "", 1).isdecimal():
            found.append(str(api_commands.WATCH_S))
    return found


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
    self_test.SelfTestFailed,
)
_INTERRUPTED = 130
"""As shells say it of Ctrl-C."""
_WRONG_USAGE = typer.BadParameter.__bases__[0]
"""Every error of the parser of the command line, which typer keeps to itself."""
_REFUSALS = (admin_client.AdminError, catalog_file.CatalogError)
_DATABASE_MODULES = ("sqlalchemy.", "tokenschain.infra.database.")
"""By name, so that a process without a database does not load its library."""


def _said_of(error: Exception) -> str | None:
    """What to tell of an error that a person can mend; None for a fault of our own."""
    error = _first(error)
    if isinstance(error, _WRONG_USAGE):
        return _said_of_usage(error)
    if isinstance(error, _MENDABLE):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    if f"{type(error).__module__}.".startswith(_DATABASE_MODULES):
        return _said_of_database(error)
    return None


def _said_of_database(error: Exception) -> str:
    """What a database says itself, without the statement; who looks at it next."""
    cause = getattr(error, "orig", None)
    if cause is None:
        return str(error).partition("\n")[0]
    why = str(cause).partition("\n")[0].strip() or type(cause).__name__
    return f"the database refuses: {why}; `tokenschain doctor` looks at it, its disk and its rights"


def _said_of_usage(error: Exception) -> str:
    """What is wrong with the arguments, on one line, and where to read about them."""
    ctx: typer.Context | None = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""  # help was shown as the error was made
    hint = getattr(error, "param_hint", None)
    message = str(error) if hint else error.format_message()  # type: ignore[attr-defined]
    said = " ".join((f"{hint}: {message}" if hint else message).split())
    return f"{said.removesuffix('.')}; {ctx.command_path} --help" if ctx is not None else said


def _ending_of(error: Exception) -> ExitCode:
    error = _first(error)
    if isinstance(error, admin_client.Unreachable):
        return ExitCode.UNREACHABLE
    return ExitCode.REFUSED if isinstance(error, _REFUSALS) else ExitCode.MISUSED


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
