"""The database: opened, migrated, and the one dialect difference there is."""

from __future__ import annotations

from importlib import resources
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

LOCK_WAIT_MAX_S = 5.0
_POOL_CONNECTIONS = 10


def connect(url: str) -> Engine:
    """An engine for a database URL; waits and pool are bounded."""
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_MAX_S})
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        pool_size=_POOL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=LOCK_WAIT_MAX_S,
        pool_pre_ping=True,
        connect_args={"connect_timeout": int(LOCK_WAIT_MAX_S)},
    )


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself, or upserts would not be atomic.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def migrate(engine: Engine) -> None:
    """Bring the schema up to date."""
    config = Config()
    folder = resources.files("tokenschain.infra").joinpath("migrations")
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def upsert(engine: Engine, table: Table) -> Any:
    """An INSERT of the engine's dialect that knows ON CONFLICT."""
    module = postgresql if engine.dialect.name == "postgresql" else sqlite
    return module.insert(table)
