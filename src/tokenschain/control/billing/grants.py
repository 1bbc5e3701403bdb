"""Free credit: booked as a grant in the double-entry ledger, spent first, and taken back when it
ends."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from tokenschain.control.billing import ledger, wallets
from tokenschain.core.pricing.catalog import to_yuan
from tokenschain.infra.database.tables import balances, grants

GRANT, EXPIRY = "grant", "grant_expiry"
"""Kinds of entries."""
PROMOTION = "promotion"
"""The account that grants are from."""
CURRENCY = "CNY"
_AT_ONCE_MAX = 100


class Grant(NamedTuple):
    """Free credit of a tenant, in pico-yuan."""

    amount_pico: int
    left_pico: int
    expires_at_s: int


def give(connection: Connection, tenant: str, amount_pico: int, expires_at_s: int) -> None:
    """Give a new tenant free credit; a tenant is given it once."""
    lines = _lines(tenant, amount_pico)
    transaction_id = ledger.post(connection, GRANT, lines, "free credit")
    connection.execute(
        insert(grants).values(
            transaction_id=transaction_id,
            tenant=tenant,
            amount_pico=amount_pico,
            expires_at_s=expires_at_s,
        )
    )


def _lines(tenant: str, amount_pico: int) -> list[tuple[str, str, str, int]]:
    customer = f"{ledger.CUSTOMER}:{tenant}"
    return [(customer, tenant, CURRENCY, amount_pico), (PROMOTION, "", CURRENCY, -amount_pico)]


def of_tenant(connection: Connection, tenant: str, usd_cny_micro: int) -> list[Grant]:
    """A tenant's free credit that has not ended."""
    rows = connection.execute(
        select(grants).where(grants.c.tenant == tenant, grants.c.ended_at_s.is_(None))
    ).all()
    return [
        Grant(row.amount_pico, _left(connection, row, usd_cny_micro), row.expires_at_s)
        for row in rows
    ]


def _left(connection: Connection, row: Row[Any], usd_cny_micro: int) -> int:
    """What is left of a grant: what was used so far was used of it."""
    if ledger.is_reversed(connection, row.transaction_id):
        return 0
    charged = connection.execute(
        select(balances.c.currency, balances.c.amount_pico).where(
            balances.c.account == f"{ledger.CUSTOMER}:{row.tenant}", balances.c.kind == "usage"
        )
    )
    used = sum(to_yuan(-int(amount), currency, usd_cny_micro) for currency, amount in charged)
    left: int = row.amount_pico - max(0, used)
    return max(0, left)


def end_due(connection: Connection, now_s: float, usd_cny_micro: int) -> int:
    """Take back what is left of grants that are over; returns how many there were.

    Each ends once, whichever control is first.
    """
    over = grants.c.ended_at_s.is_(None) & (grants.c.expires_at_s <= int(now_s))
    rows = connection.execute(select(grants).where(over).limit(_AT_ONCE_MAX)).all()
    ended = 0
    for row in rows:
        mine = connection.execute(
            update(grants)
            .where(grants.c.transaction_id == row.transaction_id, grants.c.ended_at_s.is_(None))
            .values(ended_at_s=int(time.time()))
        ).rowcount
        if not mine:
            continue
        left = _left(connection, row, usd_cny_micro)
        if left:
            ledger.post(connection, EXPIRY, _lines(row.tenant, -left), "free credit ended")
            wallets.renew(connection, row.tenant, usd_cny_micro)
        ended += 1
    return ended
