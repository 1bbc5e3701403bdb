"""Columns and tables get the field's standard names; their rows stay."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS = (("ledger", "door", "api"), ("ledger", "cache_likeness", "cache_confidence"))
"""Table, former name, new name."""


def upgrade() -> None:
    for table, former, new in _COLUMNS:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {former} TO {new}")


def downgrade() -> None:
    for table, former, new in reversed(_COLUMNS):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {new} TO {former}")
