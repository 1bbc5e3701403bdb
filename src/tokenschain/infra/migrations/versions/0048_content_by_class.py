"""Kept content knows its data classes, and some have keys of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None
_LIVE = sa.text("destroyed_at_ms IS NULL")


def upgrade() -> None:
    for table in ("call_contents", "tenant_keys", "content_keys"):
        op.add_column(
            table, sa.Column("data_class", sa.String(200), server_default="", nullable=False)
        )
    # Where version 0047 was gone back to meanwhile, a tenant may have several live keys. All but
    # one are of a class that nobody can name; what hangs below them opens and ends with them.
    _tell_apart("tenant_keys", "tenant")
    _inherit("tenant_keys")
    _tell_apart("content_keys", "tenant", "data_class", "day", "subject")
    _inherit("content_keys")
    _tell_apart("content_keys", "tenant", "data_class", "day", "subject")
    _index("tenant_keys", ["tenant", "data_class"])
    _index("content_keys", ["tenant", "data_class", "day", "subject"])


def downgrade() -> None:
    # What hangs below a class's own key opens by its id. Where there is one, a tenant has several
    # live keys, and the index cannot be unique any more.
    for table in ("content_keys", "tenant_keys"):
        op.drop_index(f"{table}_live", table)
        op.execute(f"ALTER TABLE {table} DROP COLUMN data_class")
    op.execute("ALTER TABLE call_contents DROP COLUMN data_class")
    _create("tenant_keys", ["tenant"], unique=False)
    _create("content_keys", ["tenant", "day", "subject"], unique=False)


def _tell_apart(table: str, *columns: str) -> None:
    same = " AND ".join(f"o.{name} = {table}.{name}" for name in columns)
    op.execute(
        f"UPDATE {table} SET data_class = '~' || id WHERE destroyed_at_ms IS NULL AND EXISTS "
        f"(SELECT 1 FROM {table} o WHERE o.destroyed_at_ms IS NULL "
        f"AND o.id < {table}.id AND {same})"
    )


def _inherit(parents: str) -> None:
    op.execute(
        f"UPDATE content_keys SET data_class = (SELECT p.data_class FROM {parents} p WHERE p.id = "
        f"content_keys.parent) WHERE parent IN (SELECT id FROM {parents} WHERE data_class <> '')"
    )


def _index(table: str, columns: list[str]) -> None:
    op.drop_index(f"{table}_live", table)
    _create(table, columns)


def _create(table: str, columns: list[str], *, unique: bool = True) -> None:
    op.create_index(
        f"{table}_live", table, columns, unique=unique, postgresql_where=_LIVE, sqlite_where=_LIVE
    )
