"""Daily sums, balances of accounts, and an index of what failed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PICO = sa.BigInteger().with_variant(sa.Numeric(38, 0), "postgresql")
_KEY = ("tenant", "project", "environment", "key_id", "model", "upstream", "currency",
        "charge_currency")  # fmt: skip
_SUMS = ("calls", "failed_calls", "estimated_calls", "unpriced_calls", "prompt_tokens",
         "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_pico",
         "charge_pico")  # fmt: skip


def upgrade() -> None:
    hourly = sa.Table("usage_hourly", sa.MetaData(), autoload_with=op.get_bind())
    columns = []
    for column in hourly.columns:
        kind = _PICO if column.name in ("cost_pico", "charge_pico") else column.type
        name = "day_s" if column.name == "hour_s" else column.name
        columns.append(sa.Column(name, kind, nullable=False, server_default=column.server_default))
    op.create_table("usage_daily", *columns, sa.PrimaryKeyConstraint("day_s", *_KEY))
    op.create_index("usage_daily_by_tenant", "usage_daily", ["tenant", "day_s"])
    key, sums = ", ".join(_KEY), ", ".join(f"SUM({name})" for name in _SUMS)
    op.execute(
        f"INSERT INTO usage_daily (day_s, {key}, {', '.join(_SUMS)}, account, cloud) "
        f"SELECT hour_s - hour_s % 86400, {key}, {sums}, MAX(account), MAX(cloud) "
        f"FROM usage_hourly GROUP BY hour_s - hour_s % 86400, {key}"
    )
    op.create_table(
        "balances",
        sa.Column("account", sa.String(length=160), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("amount_pico", _PICO, nullable=False),
        sa.PrimaryKeyConstraint("account", "currency", "kind"),
    )
    op.execute(
        "INSERT INTO balances (account, currency, kind, amount_pico) "
        "SELECT account, currency, kind, SUM(amount_pico) FROM entries "
        "GROUP BY account, currency, kind"
    )
    failed = sa.text("outcome <> 'ok'")
    op.create_index(
        "ledger_by_failure",
        "ledger",
        ["outcome", "started_ms", "event_id"],
        postgresql_where=failed,
        sqlite_where=failed,
    )


def downgrade() -> None:
    op.drop_index("ledger_by_failure", "ledger")
    op.drop_table("balances")
    op.drop_table("usage_daily")
