"""What the cache did is added up by the hour: a look at it reads no single calls."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_PICO = sa.BigInteger().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    op.create_table(
        "cache_hourly",
        sa.Column("hour_s", sa.BigInteger(), primary_key=True),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(256), primary_key=True),
        sa.Column("cache", sa.String(16), primary_key=True),
        sa.Column("cache_reason", sa.String(64), primary_key=True),
        sa.Column("currency", sa.String(3), primary_key=True),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("saved_tokens", sa.BigInteger(), nullable=False),
        sa.Column("saved_pico", _PICO, nullable=False),
    )
    op.create_index("cache_hourly_by_tenant", "cache_hourly", ["tenant", "hour_s"])
    hour_s = "started_ms / 3600000 * 3600"
    whose = "case when saved_pico = 0 then '' else currency end"
    op.execute(
        "insert into cache_hourly (hour_s, tenant, model, cache, cache_reason, currency, calls, "
        "saved_tokens, saved_pico) "
        f"select {hour_s}, tenant, model_asked, cache, cache_reason, {whose}, count(*), "
        "sum(saved_tokens), sum(saved_pico) from ledger where outcome = 'ok' "
        f"group by {hour_s}, tenant, model_asked, cache, cache_reason, {whose}"
    )


def downgrade() -> None:
    op.drop_table("cache_hourly")
