"""The tables are what the migrations make."""

from __future__ import annotations

from sqlalchemy import Engine

from tokenschain.infra.database.tables import (
    metadata,
)


def test_a_migrated_database_has_exactly_the_tables(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
