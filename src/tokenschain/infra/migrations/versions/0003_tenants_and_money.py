"""Organization, limits, users, prices, ledger entries; the ledger, partitioned by day."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PICO = sa.BigInteger().with_variant(sa.Numeric(38, 0), "postgresql")
_DAY_MS = 86_400_000
_TABLES = (
    "alert_targets",
    "alerts",
    "audit_events",
    "bindings",
    "budget_counts",
    "entries",
    "fx_rates",
    "idempotency",
    "limits",
    "nodes",
    "prices",
    "roles",
    "tokens",
    "usage_by_tag",
    "users",
)


def upgrade() -> None:
    _extend_keys()
    _widen_ledger()
    _widen_rollups()
    _new_tables()


def _text(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), server_default="", nullable=False)


def _extend_keys() -> None:
    for column in (
        _text("account", 64),
        sa.Column("endpoints", sa.Text()),
        sa.Column("networks", sa.Text()),
        sa.Column("tags", sa.Text(), server_default="[]", nullable=False),
        _text("priority", 16),
        _text("data_class", 32),
        _text("created_by", 64),
        sa.Column("rotated_from", sa.String(length=40)),
        sa.Column("last_used_at_s", sa.BigInteger()),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    ):
        op.add_column("api_keys", column)
    op.create_index("api_keys_by_tenant", "api_keys", ["tenant", "created_at_s"])
    op.create_index("api_keys_by_revision", "api_keys", ["revision"])


def _columns_of(table: str) -> list[sa.Column[Any]]:
    """Copies of a table's columns as they are, without their keys."""
    found = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())
    return [
        sa.Column(c.name, c.type, nullable=c.nullable, server_default=c.server_default)
        for c in found.columns
    ]


def _replace(table: str, columns: list[sa.Column[Any]], *more: Any, **options: Any) -> None:
    """Make a table anew with other keys, and move its rows."""
    kept = [c.name for c in _columns_of(table)]
    names = ", ".join(name for name in kept if name in {c.name for c in columns})
    op.rename_table(table, f"{table}_before")
    if op.get_bind().dialect.name == "postgresql":
        # An index or key keeps its name when its table is renamed.
        op.execute(f"ALTER INDEX IF EXISTS {table}_pkey RENAME TO {table}_before_pkey")
    op.create_table(table, *columns, *more, **options)
    if options.get("postgresql_partition_by") and op.get_bind().dialect.name == "postgresql":
        days = op.get_bind().execute(
            sa.text(f"SELECT DISTINCT started_ms / {_DAY_MS} FROM {table}_before")
        )
        for (day,) in days.all():
            low, high = int(day) * _DAY_MS, (int(day) + 1) * _DAY_MS
            op.execute(
                f"CREATE TABLE {table}_{int(day)} PARTITION OF {table} "
                f"FOR VALUES FROM ({low}) TO ({high})"
            )
    op.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table}_before")
    op.drop_table(f"{table}_before")


def _widen_ledger() -> None:
    op.drop_index("ledger_by_tenant_and_time", "ledger")
    columns = _columns_of("ledger")
    for column in columns:
        if column.name == "cost_pico":
            column.type = _PICO
    columns += [
        sa.Column("route", sa.Text(), server_default="[]", nullable=False),
        sa.Column("route_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("route_propensity", sa.Float(), server_default=sa.text("1"), nullable=False),
        _text("account", 64),
        _text("gateway", 80),
        sa.Column("charge_pico", _PICO),
        _text("charge_currency", 3),
        _text("charge_version", 300),
    ]
    _replace(
        "ledger",
        columns,
        sa.PrimaryKeyConstraint("event_id", "started_ms"),
        postgresql_partition_by="RANGE (started_ms)",
    )
    op.execute(
        "UPDATE ledger SET charge_pico = cost_pico, charge_currency = currency, "
        "charge_version = price_version"
    )
    op.create_index("ledger_by_tenant_and_time", "ledger", ["tenant", "started_ms", "event_id"])
    op.create_index("ledger_by_key_and_time", "ledger", ["key_id", "started_ms", "event_id"])
    op.create_index("ledger_by_time", "ledger", ["started_ms", "event_id"])


_ROLLUP_KEY = (
    "hour_s", "tenant", "project", "environment", "key_id", "model", "upstream", "currency",
)  # fmt: skip


def _widen_rollups() -> None:
    columns = _columns_of("usage_hourly")
    for column in columns:
        if column.name == "cost_pico":
            column.type = _PICO
    columns += [
        _text("charge_currency", 3),
        _text("account", 64),
        _text("cloud", 64),
        sa.Column("charge_pico", _PICO, server_default=sa.text("0"), nullable=False),
    ]
    key = sa.PrimaryKeyConstraint(*_ROLLUP_KEY, "charge_currency")
    _replace("usage_hourly", columns, key)
    op.execute("UPDATE usage_hourly SET charge_pico = cost_pico, charge_currency = currency")
    op.create_index("usage_hourly_by_tenant", "usage_hourly", ["tenant", "hour_s"])


def downgrade() -> None:
    """Back to the columns of before; what is only in the new ones is lost."""
    for table in reversed(_TABLES):
        op.drop_table(table)
    for name in ("ledger_by_tenant_and_time", "ledger_by_key_and_time", "ledger_by_time"):
        op.drop_index(name, "ledger")
    added = {"route", "route_reason", "route_propensity", "account", "gateway", "charge_pico",
             "charge_currency", "charge_version", "cloud"}  # fmt: skip
    columns = [c for c in _columns_of("ledger") if c.name not in added]
    _replace("ledger", _small(columns), sa.PrimaryKeyConstraint("event_id"))
    op.create_index("ledger_by_tenant_and_time", "ledger", ["tenant", "started_ms"])
    op.drop_index("usage_hourly_by_tenant", "usage_hourly")
    # Rows that differ only in the currency of the charge fall together.
    sums = [c.name for c in _columns_of("usage_hourly") if c.name not in {*_ROLLUP_KEY, *added}]
    op.execute(
        f"CREATE TABLE usage_hourly_sums AS SELECT {', '.join(_ROLLUP_KEY)}, "
        + ", ".join(f"SUM({name}) AS {name}" for name in sums)
        + f" FROM usage_hourly GROUP BY {', '.join(_ROLLUP_KEY)}"
    )
    columns = [c for c in _columns_of("usage_hourly") if c.name not in added]
    op.drop_table("usage_hourly")
    op.create_table("usage_hourly", *_small(columns), sa.PrimaryKeyConstraint(*_ROLLUP_KEY))
    names = ", ".join((*_ROLLUP_KEY, *sums))
    op.execute(f"INSERT INTO usage_hourly ({names}) SELECT {names} FROM usage_hourly_sums")
    op.drop_table("usage_hourly_sums")
    op.drop_index("api_keys_by_tenant", "api_keys")
    op.drop_index("api_keys_by_revision", "api_keys")
    with op.batch_alter_table("api_keys") as keys:
        for name in ("account", "endpoints", "networks", "tags", "priority", "data_class",
                     "created_by", "rotated_from", "last_used_at_s", "revision"):  # fmt: skip
            keys.drop_column(name)


def _small(columns: list[sa.Column[Any]]) -> list[sa.Column[Any]]:
    for column in columns:
        if column.name == "cost_pico":
            column.type = sa.BigInteger()
    return columns


def _new_tables() -> None:
    op.create_table(
        "alert_targets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_targets_by_tenant", "alert_targets", ["tenant"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_try_s", sa.BigInteger(), nullable=False),
        sa.Column("sent_at_s", sa.BigInteger(), nullable=True),
        sa.Column("targets_left", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alerts_by_tenant", "alerts", ["tenant", "at_s"])
    op.create_index("alerts_unsent", "alerts", ["sent_at_s", "next_try_s"])
    op.create_table(
        "audit_events",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=300), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_events_by_tenant", "audit_events", ["tenant", "at_ms", "id"])
    op.create_index("audit_events_by_time", "audit_events", ["at_ms", "id"])
    op.create_table(
        "bindings",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=16), server_default="admin", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("bindings_by_user", "bindings", ["user_id"])
    op.create_table(
        "budget_counts",
        sa.Column("budget_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("period_s", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("granted", _PICO, nullable=False),
        sa.Column("spent", _PICO, nullable=False),
        sa.Column("seen_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "subject", "period_s", "holder"),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.String(length=44), nullable=False),
        sa.Column("transaction_id", sa.String(length=40), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("account", sa.String(length=160), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount_pico", _PICO, nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("entries_by_account", "entries", ["account", "currency", "at_s", "id"])
    op.create_index("entries_by_tenant", "entries", ["tenant", "at_s", "id"])
    op.create_index("entries_by_transaction", "entries", ["transaction_id"])
    op.create_table(
        "fx_rates",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("usd_cny_micro", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash"),
    )
    op.create_index("idempotency_by_time", "idempotency", ["created_at_s"])
    op.create_table(
        "limits",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("alerts", sa.Text(), server_default="[]", nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("limits_by_tenant", "limits", ["tenant"])
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("closed_at_s", sa.BigInteger(), nullable=True),
        sa.Column("prepaid", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("credit_pico", _PICO, server_default=sa.text("0"), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant", "kind", "project", "name"),
    )
    op.create_table(
        "prices",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("from_s", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant", "model", "from_s"),
    )
    op.create_table(
        "roles",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("tokens_by_expiry", "tokens", ["expires_at_s"])
    op.create_index("tokens_by_user", "tokens", ["user_id"])
    op.create_table(
        "usage_by_tag",
        sa.Column("hour_s", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("tag", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("charge_currency", sa.String(length=3), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("charge_pico", _PICO, nullable=False),
        sa.PrimaryKeyConstraint(
            "hour_s", "tenant", "project", "key_id", "tag", "model", "charge_currency"
        ),
    )
    op.create_index("usage_by_tag_by_tenant", "usage_by_tag", ["tenant", "hour_s"])
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("email", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("totp_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("totp_last", sa.BigInteger(), nullable=True),
        sa.Column("failed_logins", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("locked_until_s", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at_s", sa.BigInteger(), nullable=True),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
    )
    op.create_index("users_by_tenant", "users", ["tenant"])
