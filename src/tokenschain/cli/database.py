"""Database commands: migrate to another database, back up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tokenschain.cli import admin_client
from tokenschain.cli.output import console, errors, table, without_password
from tokenschain.infra import config


def migrate(
    source: Annotated[str, typer.Option("--from", help="URL of the database to read.")],
    target: Annotated[str, typer.Option("--to", help="URL of an empty database.")],
) -> None:
    """Move everything to another database, verified; goes on where it broke off.

    Stop control first. Gateways go on serving meanwhile: what they record waits in their journals.
    """
    from tokenschain.infra.database import engine as db  # noqa: PLC0415 - gateways do without
    from tokenschain.infra.database import transfer  # noqa: PLC0415

    console.print(
        f"from {without_password(source)} to {without_password(target)}",
        highlight=False,
        soft_wrap=True,
    )
    ends = [db.connect(_database(url)) for url in (source, target)]
    try:
        with _rows_progress() as report, _store_errors():
            found = transfer.move(ends[0], ends[1], report)
    finally:
        for end in ends:
            end.dispose()
    _advance(_database(target))
    _show_checked(found)
    console.print("every count and sum agrees; now set [bold]database.url[/] and start control")


def backup(
    file: Annotated[Path, typer.Argument(help="SQLite file to write; it must not exist.")],
) -> None:
    """Copy the whole database of a running platform into a file; `migrate` restores it.

    Sealed values in it need the master key, which is not in it: keep `secrets/` elsewhere.
    """
    from tokenschain.infra.database import engine as db  # noqa: PLC0415
    from tokenschain.infra.database import transfer  # noqa: PLC0415

    url = config.load().database_url
    console.print(f"copying {without_password(url)}", highlight=False, soft_wrap=True)
    engine = db.connect(url)
    try:
        with _rows_progress() as report, _store_errors():
            found = transfer.back_up(engine, file, report)
    finally:
        engine.dispose()
    _show_checked(found)
    console.print(f"written to {file}; restore it with `tokenschain migrate --from sqlite:///…`")


def advance_revision() -> None:
    """Make gateways take the configuration of a database that was restored from a backup.

    They refuse one that is older than what they served by. `migrate` does this by itself; run it
    after any other way of restoring. Keys that were revoked after the backup are valid again:
    revoke them first.
    """
    with _store_errors():
        revision = _advance(config.load().database_url)
    console.print(f"gateways take this database's configuration from now on (revision {revision})")


def _advance(url: str) -> int:
    from tokenschain.control import revisions  # noqa: PLC0415
    from tokenschain.infra.database import engine as db  # noqa: PLC0415

    engine = db.connect(url)
    try:
        with engine.begin() as connection:
            return revisions.advance(connection)
    finally:
        engine.dispose()


def _database(url: str) -> str:
    """A plain path means a SQLite file."""
    return url if "://" in url else f"sqlite:///{url}"


def _show_checked(found: Any) -> None:
    shown = table("table", "rows", "sums")
    for name, checked in found.items():
        if checked.rows:
            money = [f"{k} {v:,}" for k, v in checked.sums if k.endswith(("_pico", "_tokens"))]
            shown.add_row(name, f"{checked.rows:,}", ", ".join(money))
    console.print(shown)


@contextmanager
def _store_errors() -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from tokenschain.infra.database.transfer import MovingError  # noqa: PLC0415

    try:
        yield
    except MovingError as error:
        raise admin_client.AdminError(str(error)) from None
    except SQLAlchemyError as error:
        raise admin_client.AdminError(str(error).partition("\n")[0]) from None


@contextmanager
def _rows_progress() -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=errors) as progress:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if total:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=total)
                progress.update(tasks[name], completed=done)

        yield report
