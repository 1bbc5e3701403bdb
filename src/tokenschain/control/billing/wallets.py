"""Wallets: a prepaid tenant's budget follows what it has deposited and its credit line."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tokenschain.control.billing import ledger, limits
from tokenschain.core.limits import Budget, Selector
from tokenschain.infra.database.tables import organization_units as units


def renew(connection: Connection, tenant: str, usd_cny_micro: int) -> None:
    """Let a tenant's wallet follow what the ledger and the organization now say.

    Args:
        usd_cny_micro: the dollar's rate, in millionths of a yuan.
    """
    put(connection, tenant, ledger.credited(connection, tenant, usd_cny_micro))


def put(connection: Connection, tenant: str, deposited_pico: int) -> None:
    """A prepaid tenant may spend what it has deposited and its credit line, in yuan.

    Args:
        deposited_pico: all deposits so far, in pico-yuan.
    """
    unit = (
        connection.execute(select(units).where(units.c.kind == "tenant", units.c.tenant == tenant))
        .mappings()
        .first()
    )
    name = limits.id_of(tenant, limits.WALLET)
    if unit is None or not unit["prepaid"]:
        if limits.find(connection, name) is not None:
            limits.remove(connection, name)
        return
    wallet = Budget(
        name,
        "spend",
        deposited_pico + unit["credit_pico"],
        "total",
        Selector(tenant=tenant),
        wallet=True,
    )
    limits.put(connection, wallet, tenant, (80, 100))
