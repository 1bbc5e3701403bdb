"""Selling prices by model and date, and the dollar's exchange rate by day."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection
from decimal import ROUND_HALF_UP, Decimal

import msgspec
from sqlalchemy import Connection, insert, select, update

from tokenschain.control import revisions
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import MICRO_PER_UNIT, DatedPrice, Price
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import fx_rates, prices
from tokenschain.infra.security import secrets


def selling_prices(connection: Connection) -> dict[str, tuple[DatedPrice, ...]]:
    """All selling prices, by `model` or `tenant/model`, the latest first."""
    found: dict[str, list[DatedPrice]] = defaultdict(list)
    for row in connection.execute(select(prices).order_by(prices.c.from_s.desc())):
        name = f"{row.tenant}/{row.model}" if row.tenant else row.model
        found[name].append(DatedPrice(row.from_s, msgspec.json.decode(row.price, type=Price)))
    return {name: tuple(dated) for name, dated in sorted(found.items())}


def add_price(connection: Connection, tenant: str, model: str, price: Price, from_s: int) -> str:
    """Let a price begin; returns its id.

    Raises:
        ApiError: `conflict` when another begins at the same time.
    """
    there = connection.execute(
        select(prices.c.id).where(
            prices.c.tenant == tenant, prices.c.model == model, prices.c.from_s == from_s
        )
    ).first()
    if there is not None:
        raise ApiError("conflict", "A price of this model begins then already.", param="from_s")
    price_id = secrets.new_id("price")
    named = msgspec.structs.replace(price, version=f"sell/{price_id}")
    connection.execute(
        insert(prices).values(
            id=price_id,
            tenant=tenant,
            model=model,
            from_s=from_s,
            price=msgspec.json.encode(named).decode(),
            created_at_s=int(time.time()),
        )
    )
    revisions.bump(connection)
    return price_id


def page(
    connection: Connection,
    page_: Page,
    tenant: str | None,
    models: Collection[str] | None = None,
) -> Rows:
    """One page of selling prices: a tenant's own and the general ones, or all.

    Args:
        models: only of these; None: of all.
    """
    query = select(prices)
    if models is not None:
        query = query.where(prices.c.model.in_(models))
    if tenant is not None:
        query = query.where(prices.c.tenant.in_((tenant, "")))
    found = paging.read_page(connection, query, page_, (prices.c.id,))
    return found._replace(
        rows=[row | {"price": msgspec.json.decode(row["price"])} for row in found.rows]
    )


def rates_page(connection: Connection, page_: Page) -> Rows:
    """One page of the dollar's rates, the latest first."""
    return paging.read_page(connection, select(fx_rates), page_, (fx_rates.c.day,), newest=True)


def usd_cny_micro(connection: Connection, day: str, otherwise: float) -> int:
    """The rate that holds on a day: the latest there is, or the settings'."""
    found = connection.execute(
        select(fx_rates.c.usd_cny_micro)
        .where(fx_rates.c.day <= day)
        .order_by(fx_rates.c.day.desc())
        .limit(1)
    ).scalar()
    return int(found) if found is not None else round(otherwise * MICRO_PER_UNIT)


def set_rate(connection: Connection, day: str, usd_cny: Decimal, source: str) -> int:
    """Note the dollar's rate of a day; returns it in millionths."""
    micro = int((usd_cny * MICRO_PER_UNIT).to_integral_value(ROUND_HALF_UP))
    values = {"usd_cny_micro": micro, "source": source}
    changed = connection.execute(
        update(fx_rates).where(fx_rates.c.day == day).values(**values)
    ).rowcount
    if not changed:
        connection.execute(insert(fx_rates).values(day=day, **values))
    revisions.bump(connection)
    return micro
