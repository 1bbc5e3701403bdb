"""What upstreams are owed for answers that no caller pays for, apart from what calls cost.

Calls of earlier versions have none: what those attempts cost was not kept. A step down drops the
rows and sums; the double-entry ledger keeps its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_PICO = sa.BigInteger().with_variant(sa.Numeric(38, 0), "postgresql")
_SUMS = (
    ("platform_prompt_tokens", "BIGINT"),
    ("platform_completion_tokens", "BIGINT"),
    ("platform_cost_pico", None),
)
"""Names and types; None: of amounts."""
_ROLLUPS = ("usage_hourly", "usage_daily")


def _amounts() -> str:
    return "NUMERIC(38, 0)" if op.get_bind().dialect.name == "postgresql" else "BIGINT"


def upgrade() -> None:
    # Plain statements: Alembic would copy the whole table on SQLite, and PostgreSQL adds a column
    # with a constant default to all partitions without rewriting them.
    op.execute("ALTER TABLE ledger ADD COLUMN requests BIGINT DEFAULT 1 NOT NULL")
    for table in _ROLLUPS:
        for name, kind in _SUMS:
            op.execute(
                f"ALTER TABLE {table} ADD COLUMN {name} {kind or _amounts()} DEFAULT 0 NOT NULL"
            )
    op.create_table(
        "platform_costs",
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("model_asked", sa.String(length=256), nullable=False),
        sa.Column("model_served", sa.String(length=256), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usage_source", sa.String(length=16), nullable=False),
        sa.Column("price_version", sa.String(length=300), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("cost_pico", _PICO),
        sa.PrimaryKeyConstraint("event_id", "attempt"),
    )
    op.create_index("platform_costs_by_time", "platform_costs", ["started_ms", "event_id"])
    op.create_index("platform_costs_by_upstream", "platform_costs", ["upstream", "started_ms"])


def downgrade() -> None:
    op.drop_table("platform_costs")
    # A sum of nothing but platform costs has no place in an older version.
    for table in _ROLLUPS:
        op.execute(f"DELETE FROM {table} WHERE calls = 0 AND cost_pico = 0 AND charge_pico = 0")
        for name, _ in _SUMS:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    op.execute("ALTER TABLE ledger DROP COLUMN requests")
