"""Standard names for tables, columns, stored limits, cache outcomes and kinds of alerts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = (("nodes", "organization_units"), ("entries", "ledger_entries"))
"""Former name, new name."""
_COLUMNS = (
    ("ledger", "door", "api"),
    ("ledger", "cache_likeness", "cache_confidence"),
    ("api_keys", "endpoints", "apis"),
)
"""Table, former name, new name."""
_INDEXES = (
    ("ledger_entries_by_account", ["account", "currency", "at_s", "id"]),
    ("ledger_entries_by_tenant", ["tenant", "at_s", "id"]),
    ("ledger_entries_by_transaction", ["transaction_id"]),
)
"""Of `ledger_entries`, under their new names."""
_LIMIT_FIELDS = (
    ("of", "match"),
    ("each", "per"),
    ("unknown", "on_unavailable"),
    ("borrow", "burst_when_idle"),
)
_LIMIT_VALUES = (("open", "allow"), ("closed", "deny"))
"""Of `unknown`, now `on_unavailable`."""
_CACHE_OUTCOMES = (
    ("exact", "hit-exact"),
    ("shared", "hit-inflight"),
    ("semantic", "hit-semantic"),
)
_ROUTE_FIELDS = (("in_time", "meets_slo"), ("left_out", "excluded"))
"""Of the candidates in `ledger.route`."""
_ALERT_KINDS = (("cache_wrong", "cache_false_hits"),)
_ALERT_FIELDS = (
    ("agreed", "false_hit_rate_max"),
    ("wrong", "false_hit_rate"),
    ("foretold", "forecast"),
)
"""Of an alert's detail."""
_ALERT_IDENTITY = ("budget", "subject", "period_s", "percent", "amount")
"""What of an alert's detail its id is made of, besides its kind, in this version."""


def upgrade() -> None:
    for former, new in _TABLES:
        op.rename_table(former, new)
        _rename_constraints(new, f"{former}_", f"{new}_")
    for table, former, new in _COLUMNS:
        _rename_column(table, former, new)
    for name, columns in _INDEXES:
        _rename_index(name.removeprefix("ledger_"), name, columns)
    _rewrite_limits(dict(_LIMIT_FIELDS), dict(_LIMIT_VALUES))
    _rewrite("ledger", "cache", dict(_CACHE_OUTCOMES))
    for former, new in _ROUTE_FIELDS:
        _rename_in_routes(former, new)
    _rewrite_alerts(dict(_ALERT_KINDS), dict(_ALERT_FIELDS))


def downgrade() -> None:
    _rewrite_alerts(_inverse(_ALERT_KINDS), _inverse(_ALERT_FIELDS))
    for former, new in _ROUTE_FIELDS:
        _rename_in_routes(new, former)
    _rewrite("ledger", "cache", _inverse(_CACHE_OUTCOMES))
    _rewrite_limits(_inverse(_LIMIT_FIELDS), _inverse(_LIMIT_VALUES))
    for name, columns in _INDEXES:
        _rename_index(name, name.removeprefix("ledger_"), columns)
    for table, former, new in _COLUMNS:
        _rename_column(table, new, former)
    for former, new in _TABLES:
        op.rename_table(new, former)
        _rename_constraints(former, f"{new}_", f"{former}_")


def _inverse(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {new: former for former, new in pairs}


# --- names ------------------------------------------------------------------------------------


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _rename_column(table: str, former: str, new: str) -> None:
    # Plain statements: Alembic would copy the whole table on SQLite. PostgreSQL renames the
    # partitions' columns with the parent's.
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {former} TO {new}")
    _rename_constraints(table, f"{table}_{former}_", f"{table}_{new}_")


def _rename_constraints(table: str, former: str, new: str) -> None:
    """PostgreSQL: constraints keep the name they were made under; SQLite names none of ours."""
    if not _on_postgresql():
        return
    names = op.get_bind().execute(
        sa.text("SELECT conname FROM pg_constraint WHERE conrelid = CAST(:t AS regclass)"),
        {"t": table},
    )
    for name in names.scalars().all():
        if name.startswith(former):
            op.execute(
                f'ALTER TABLE {table} RENAME CONSTRAINT "{name}" '
                f'TO "{new}{name.removeprefix(former)}"'
            )


def _rename_index(former: str, new: str, columns: list[str]) -> None:
    """An index of the ledger's entries, which is called `ledger_entries` on the way."""
    if _on_postgresql():
        op.execute(f"ALTER INDEX {former} RENAME TO {new}")
        return
    op.drop_index(former, "ledger_entries")
    op.create_index(new, "ledger_entries", columns)


# --- rows -------------------------------------------------------------------------------------


def _rewrite(table: str, column: str, values: dict[str, str]) -> None:
    cases = " ".join(f"WHEN '{former}' THEN '{new}'" for former, new in values.items())
    among = ", ".join(f"'{former}'" for former in values)
    op.execute(
        f"UPDATE {table} SET {column} = CASE {column} {cases} END WHERE {column} IN ({among})"
    )


def _rename_in_routes(former: str, new: str) -> None:
    # Compact JSON, where a quote inside of a text is escaped: this can only be a field's name.
    op.get_bind().execute(
        sa.text("UPDATE ledger SET route = REPLACE(route, :former, :new) WHERE route <> '[]'"),
        {"former": f'"{former}":', "new": f'"{new}":'},
    )


def _rewrite_limits(fields: dict[str, str], values: dict[str, str]) -> None:
    def renamed(spec: dict[str, Any]) -> dict[str, Any]:
        found = {fields.get(name, name): value for name, value in spec.items()}
        for name in ("unknown", "on_unavailable"):
            if name in found:
                found[name] = values[found[name]]
        return found

    _rewrite_json("limits", "spec", renamed)


def _rewrite_json(
    table: str, column: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    connection = op.get_bind()
    for key, text in connection.execute(sa.text(f"SELECT id, {column} FROM {table}")).all():
        written = json.dumps(change(json.loads(text)), ensure_ascii=False, separators=(",", ":"))
        connection.execute(
            sa.text(f"UPDATE {table} SET {column} = :value WHERE id = :id"),
            {"value": written, "id": key},
        )


def _rewrite_alerts(kinds: dict[str, str], fields: dict[str, str]) -> None:
    """An alert's id is a hash of what it says: under its new kind it would be said again."""

    def renamed(detail: dict[str, Any]) -> dict[str, Any]:
        return {fields.get(name, name): value for name, value in detail.items()}

    _rewrite_json("alerts", "detail", renamed)
    connection = op.get_bind()
    for former, new in kinds.items():
        rows = connection.execute(
            sa.text("SELECT id, detail FROM alerts WHERE kind = :kind"), {"kind": former}
        )
        for key, detail in rows.all():
            found = json.loads(detail)
            identity = (new, *(found.get(part) for part in _ALERT_IDENTITY))
            connection.execute(
                sa.text("UPDATE alerts SET kind = :kind, id = :new WHERE id = :id"),
                {"kind": new, "id": key,
                 "new": hashlib.sha256(repr(identity).encode()).hexdigest()},
            )  # fmt: skip
