"""Transfers abroad: calls by day, people by year, and tenants that reached their limit."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def _key(name: str, kind: sa.Integer | sa.String) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


def upgrade() -> None:
    op.create_table(
        "transfer_days",
        _key("tenant", sa.String(64)),
        _key("day", sa.Integer()),
        _key("zone", sa.String(16)),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("unnamed_calls", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "transfer_subjects",
        _key("id", sa.String(48)),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("sensitive", sa.Boolean(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
    )
    op.create_index("transfer_subjects_by_tenant", "transfer_subjects", ["tenant", "year"])
    op.create_table(
        "transfer_stops",
        _key("tenant", sa.String(64)),
        _key("year", sa.Integer()),
        _key("basis", sa.String(16)),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    for name in ("transfer_stops", "transfer_subjects", "transfer_days"):
        op.drop_table(name)
