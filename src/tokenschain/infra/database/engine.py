"""Database engine: connections, migrations, upsert on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import psycopg
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from tokenschain.core.log_events import Reporter

LOCK_WAIT_MAX_S = 5.0
_AWAIT_S = 0.5
"""How often a database that is not up yet is asked again."""
POOL_CONNECTIONS = 10
STATEMENT_MAX_S = 30
"""PostgreSQL ends a statement that takes longer."""


def connect(url: str, connections_max: int = POOL_CONNECTIONS) -> Engine:
    """An engine for a database URL; waits and pool are bounded.

    `postgresql://` means the driver that is installed.
    """
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_MAX_S})
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=LOCK_WAIT_MAX_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": int(LOCK_WAIT_MAX_S),
            "options": f"-c statement_timeout={STATEMENT_MAX_S}s",
            # A server that is gone without a word is noticed by the kernel.
            "tcp_user_timeout": int(LOCK_WAIT_MAX_S * 1e3),
        },
    )


class DatabaseUnreachable(Exception):
    """No connection could be had; says where and why, without the password."""


def first_line(error: SQLAlchemyError) -> str:
    """What a database error says, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0].strip() or type(error).__name__


def wait_for(engine: Engine, wait_max_s: float, report: Reporter) -> None:
    """Wait for a database that is not up yet; SQLite's is there or cannot be.

    Args:
        report: told `database_awaited` once, when it has to wait.

    Raises:
        DatabaseUnreachable: there is no connection after `wait_max_s`, or it is refused for
            another reason than that nobody listens.
    """
    deadline, told = time.monotonic() + wait_max_s, False
    while True:
        try:
            engine.connect().close()
            return
        except sqlalchemy.exc.OperationalError as error:
            url = engine.url
            where = url.database if url.host is None else f"{url.host}:{url.port or 5432}"
            why = first_line(error)
            refused = url.host is None or "FATAL" in why
            if refused or time.monotonic() > deadline:
                raise DatabaseUnreachable(
                    f"the database at {where} cannot be used: {why}; start it, or set "
                    "TOKENSCHAIN_DATABASE__URL"
                ) from None
            if not told:
                report("database_awaited", where=where, why=why, wait_max_s=wait_max_s)
                told = True
            time.sleep(_AWAIT_S)


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself, or upserts would not be atomic.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def pool_use(engine: Engine) -> tuple[int, int]:
    """Connections in use, and how many there may be."""
    pool = engine.pool
    if isinstance(pool, QueuePool):
        return pool.checkedout(), pool.size() + max(0, pool._max_overflow)
    return 0, 1


def reading(engine: Engine) -> Connection:
    """A connection whose transactions only read: on SQLite they wait for no writer, nor it for
    them."""
    return engine.connect().execution_options(only_reads=True)


def _begin_sqlite(connection: Connection) -> None:
    # What reads first and writes then would be refused when another wrote in between.
    reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


REFUSED = (
    sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError, psycopg.DataError,
    psycopg.IntegrityError, OverflowError, ValueError,
)  # fmt: skip
"""What values raise that no table takes; a database that is away raises others. (COPY and SQLite's
driver raise theirs as they are.)"""

_MIGRATION_LOCK = 7_431_001


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to date, or up or down to a revision; one process at a time."""
    config = Config()
    folder = resources.files("tokenschain.infra").joinpath("migrations")
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Rewriting a large ledger takes longer than any request may.
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        config.attributes["connection"] = connection
        known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        have = MigrationContext.configure(connection).get_current_revision()
        target = known[0] if revision == "head" else revision
        if have is not None and known.index(have) < known.index(target):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)


class SchemaVersion(NamedTuple):
    """Which migration a database is at, and the last one that this program knows."""

    have: str | None
    """None: it has no tables of ours."""
    latest: str

    @property
    def is_newer(self) -> bool:
        """Whether a later program migrated it."""
        return self.have is not None and self.have > self.latest


def schema_version(connection: Connection) -> SchemaVersion:
    """The migration of a database beside this program's."""
    have = MigrationContext.configure(connection).get_current_revision()
    return SchemaVersion(have, _latest_migration())


@cache
def _latest_migration() -> str:
    """The program's last one, which does not change while it runs."""
    config = Config()
    folder = resources.files("tokenschain.infra").joinpath("migrations")
    config.set_main_option("script_location", str(folder))
    latest = ScriptDirectory.from_config(config).get_current_head()
    assert latest is not None, "the program has migrations"
    return latest


class DatabaseProbe(NamedTuple):
    """What a database says of itself."""

    schema: SchemaVersion
    unix_time_s: float | None
    """See `unix_time`."""


def probe(url: str) -> DatabaseProbe | None:
    """Look at a database and change nothing; None where a file of SQLite is still to be made.

    Raises:
        DatabaseUnreachable: it cannot be used, and why.
    """
    engine = connect(url, 2)
    if not is_made(engine):
        return None
    try:
        wait_for(engine, 0.0, lambda *_, **__: None)
        with reading(engine) as connection:
            return DatabaseProbe(schema_version(connection), unix_time(connection))
    except sqlalchemy.exc.DBAPIError as error:
        why = str(error.orig).partition("\n")[0].strip()
        raise DatabaseUnreachable(f"the database at {engine.url.database}: {why}") from None
    finally:
        engine.dispose()


def is_made(engine: Engine) -> bool:
    """Whether there is a database; a file of SQLite may still be to be made."""
    file = engine.url.database
    return engine.dialect.name != "sqlite" or bool(file and os.path.exists(file))


def unix_time(connection: Connection) -> float | None:
    """The time by the database's own clock; None where it is this machine's."""
    if connection.dialect.name != "postgresql":
        return None
    return float(
        connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()
    )


DAY_MS = 86_400_000
_DAYS_LOCK = 7_431_002


def ensure_days(engine: Engine, days: Iterable[int]) -> None:
    """PostgreSQL: partitions of the ledger for these days (Unix days, UTC)."""
    if engine.dialect.name != "postgresql":
        return
    for day in sorted(days):
        with engine.begin() as connection:
            # IF NOT EXISTS alone does not keep two that begin at once apart.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_DAYS_LOCK})")
            connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS ledger_{day:d} PARTITION OF ledger "
                f"FOR VALUES FROM ({day * DAY_MS:d}) TO ({(day + 1) * DAY_MS:d})"
            )


def drop_days(engine: Engine, before_day: int) -> list[int]:
    """Delete single calls of days before `before_day`; what they add up to stays."""
    if engine.dialect.name != "postgresql":
        with engine.begin() as connection:
            deleted = connection.exec_driver_sql(
                "DELETE FROM ledger WHERE started_ms < ?", (before_day * DAY_MS,)
            )
            return [before_day - 1] if deleted.rowcount else []
    with engine.begin() as connection:
        names = connection.exec_driver_sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger'::regclass"
        ).scalars()
        days = [int(name.rpartition("_")[2]) for name in names]
        old = sorted(day for day in days if day < before_day)
        for day in old:
            connection.exec_driver_sql(f"DROP TABLE ledger_{day:d}")
    return old


def upsert(engine: Engine, table: Table) -> Any:
    """An INSERT of the engine's dialect that knows ON CONFLICT."""
    module = postgresql if engine.dialect.name == "postgresql" else sqlite
    return module.insert(table)


# --- many rows at once ----------------------------------------------------------------------
# Names in these statements are those of `infra.database.tables`; values never are.

Rows = Sequence[Sequence[Any]]


def append(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> None:
    """Insert rows that are all new."""
    if connection.dialect.name == "postgresql":
        _copy(connection, table.name, columns, rows)
        return
    _insert(connection, table, columns, rows)


def insert_new(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows
) -> set[Any]:
    """Insert rows whose first column is new; returns those values.

    Args:
        columns: the first is what rows are told apart by, part of the primary key.
    """
    if not rows:
        return set()
    names = ", ".join(columns)
    if connection.dialect.name == "postgresql":
        staging = _stage(connection, table, columns, rows)
        found = connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staging} "
            f"ON CONFLICT DO NOTHING RETURNING {columns[0]}"
        )
        return set(found.scalars())
    # No other process writes while this transaction is open, so what is not there now is new.
    known: set[Any] = set()
    for at in range(0, len(rows), _VALUES_MAX):
        asked = tuple(row[0] for row in rows[at : at + _VALUES_MAX])
        marks = ", ".join("?" * len(asked))
        known |= set(
            connection.exec_driver_sql(
                f"SELECT {columns[0]} FROM {table.name} WHERE {columns[0]} IN ({marks})", asked
            ).scalars()
        )
    fresh = {row[0]: row for row in rows if row[0] not in known}
    if fresh:
        _insert(connection, table, columns, list(fresh.values()))
    return set(fresh)


def add_up(
    connection: Connection, table: Table, columns: Sequence[str], sums: Sequence[str], rows: Rows
) -> None:
    """Insert rows of sums, or add them to those with the same primary key.

    Args:
        columns: what the rows hold.
        sums: those of the columns that are added up.
        rows: each primary key once, and in the same order by all, so that two writers cannot
            wait for each other.
    """
    if not rows:
        return
    names = ", ".join(columns)
    key = ", ".join(column.name for column in table.primary_key)
    postgres = connection.dialect.name == "postgresql"
    added = []
    for name in sums:
        total = f"{table.name}.{name} + excluded.{name}"
        if not postgres:  # beyond 64 bits SQLite would go on in floats: refused as a NULL
            total = f"CASE WHEN typeof({total}) = 'integer' THEN {total} END"
        added.append(f"{name} = {total}")
    conflict = f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(added)}"
    if postgres:
        staging = _stage(connection, table, columns, rows)
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staging} {conflict}"
        )
        return
    _insert(connection, table, columns, rows, conflict)


_VALUES_MAX = 1_000
_NULL = "\x01"
_SPECIAL = re.compile(r"[\\\t\n\r\x01]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x01": "\\x01"}


def _insert(
    connection: Connection, table: Table, columns: Sequence[str], rows: Rows, conflict: str = ""
) -> None:
    """SQLite: one prepared statement for all rows."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}",
        [tuple(row) for row in rows],
    )


def _stage(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> str:
    """PostgreSQL: COPY rows into a table of this connection, emptied when it commits."""
    staging = f"staged_{table.name}"
    names = ", ".join(columns)
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS AS "
        f"SELECT {names} FROM {table.name} WITH NO DATA"
    )
    # What an earlier statement of this transaction put there has been used.
    connection.exec_driver_sql(f"DELETE FROM {staging}")
    _copy(connection, staging, columns, rows)
    return staging


def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Rows) -> None:
    cursor = connection.connection.cursor()
    names = ", ".join(columns)
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN WITH (NULL '{_NULL}')") as copy:
        copy.write("".join([_copy_line(row) for row in rows]))


def _copy_line(row: Sequence[Any]) -> str:
    cells = [_NULL if cell is None else str(cell) for cell in row]
    line = "\t".join(cells)
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != len(cells) - 1:
        cells = [
            _NULL if cell is None else _SPECIAL.sub(lambda m: _ESCAPES[m.group()], str(cell))
            for cell in row
        ]
        line = "\t".join(cells)
    return line + "\n"
