"""Limits are named in their tenant: `acme-rpm` of tenant acme becomes `acme/acme-rpm`.

A wallet is its tenant's limit `wallet`. A step down takes the tenant off again; where two tenants
use one name, or the platform does, the limit is called TENANT.NAME.
"""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_COLUMNS = (("limits", "id"), ("budget_counts", "budget_id"))
_WALLET = "wallet"
_ID_MAX, _FORMER_ID_MAX = 128, 64
_ALERT_IDENTITY = ("budget", "subject", "period_s", "percent", "amount")
"""What of an alert's detail its id is made of, besides its kind, in this version."""


def upgrade() -> None:
    _widen(_ID_MAX)
    new: dict[str, str] = {}
    for former, tenant, is_wallet in _limits():
        name = _WALLET if is_wallet else former
        if name == _WALLET and not is_wallet:
            name = f"{_WALLET}.1"
        new[former] = f"{tenant}/{name}" if tenant else name
    _rename(new)


def downgrade() -> None:
    former: dict[str, str] = {}
    taken = {found for found, tenant, _ in _limits() if not tenant}
    for found, tenant, is_wallet in _limits():
        if not tenant:
            continue
        name = found.removeprefix(f"{tenant}/")
        if is_wallet:
            name = f"{_WALLET}/{tenant}"
        elif name in taken:
            name = f"{tenant}.{name}"
        name, number = name[:_FORMER_ID_MAX], 1
        while name in taken:
            number += 1
            name = f"{name[: _FORMER_ID_MAX - 5]}.{number}"
        taken.add(name)
        former[found] = name
    _rename(former)
    _widen(_FORMER_ID_MAX)


def _limits() -> list[tuple[str, str, bool]]:
    """Id, tenant and whether it is a wallet, of each limit."""
    rows = op.get_bind().execute(sa.text("SELECT id, tenant, spec FROM limits ORDER BY id"))
    return [(row.id, row.tenant, json.loads(row.spec).get("wallet", False)) for row in rows]


def _widen(characters: int) -> None:
    for table, column in _COLUMNS:
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=sa.String(characters))


def _rename(names: dict[str, str]) -> None:
    """Name limits anew where they are set, counted and told of."""
    connection = op.get_bind()
    for former, new in names.items():
        if former == new:
            continue
        ids = {"former": former, "new": new}
        spec = connection.execute(sa.text("SELECT spec FROM limits WHERE id = :former"), ids)
        written = json.dumps(
            json.loads(spec.scalar_one()) | {"id": new}, ensure_ascii=False, separators=(",", ":")
        )
        connection.execute(
            sa.text("UPDATE limits SET id = :new, spec = :spec WHERE id = :former"),
            ids | {"spec": written},
        )
        connection.execute(
            sa.text("UPDATE budget_counts SET budget_id = :new WHERE budget_id = :former"), ids
        )
    # An alert's id is a hash of what it says: under the budget's new id it would be said again.
    alerts = connection.execute(
        sa.text("SELECT id, kind, detail FROM alerts WHERE kind LIKE 'budget%'")
    )
    for row in alerts.all():
        detail = json.loads(row.detail)
        if detail.get("budget") not in names:
            continue
        detail["budget"] = names[detail["budget"]]
        identity = (row.kind, *(detail.get(part) for part in _ALERT_IDENTITY))
        connection.execute(
            sa.text("UPDATE alerts SET id = :new, detail = :detail WHERE id = :id"),
            {"id": row.id, "new": hashlib.sha256(repr(identity).encode()).hexdigest(),
             "detail": json.dumps(detail, ensure_ascii=False, separators=(",", ":"))},
        )  # fmt: skip
