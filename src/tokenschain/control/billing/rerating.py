"""Re-rating: prices calls again by corrected prices; the difference is added as an adjustment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, tuple_, update

from tokenschain.control.billing import (
    ledger as ledger_module,
)
from tokenschain.control.billing import (
    limits,
    pricing,
    rollups,
)
from tokenschain.core.pricing.catalog import (
    Occasion,
    Price,
    Usage,
    cost_of,
    price_at,
    selling_price,
    to_yuan,
)
from tokenschain.core.snapshot import OWN_UPSTREAM_PRICE, TenantConfiguration
from tokenschain.infra.database.tables import ledger

PAGE = 5_000
_CLASSES = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens",
    "cache_write_tokens", "cache_write_1h_tokens", "audio_prompt_tokens", "image_prompt_tokens",
    "audio_completion_tokens",
)  # fmt: skip


class Rerated(msgspec.Struct):
    """What rating again came to."""

    calls: int = 0
    changed: int = 0
    differences_pico: dict[str, int] = {}
    """By `tenant currency`."""
    transaction_id: str = ""


def rerate(
    connection: Connection,
    *,
    tenant: str,
    model: str,
    from_ms: int,
    until_ms: int,
    reason: str,
    clouds: Mapping[str, str],
    tag_names: rollups.TagNames,
    usd_cny_micro: int,
    tenants: Mapping[str, TenantConfiguration] | None = None,
) -> Rerated:
    """Rate a time's calls of a model again by the selling prices that now hold for them.

    The single rows are rewritten with their new charge and price version, sums and budgets
    follow, and the difference is one adjustment in the double-entry ledger: sums of entries and
    rows agree before and after. A second run finds nothing to do.

    Args:
        tenants: what they have of their own: a virtual model that a tenant made itself is sold as
            the models behind it, so a price for all of that name is none of its calls'.
    """
    sell = pricing.selling_prices(connection)
    done = Rerated(differences_pico={})
    differences: dict[tuple[str, str], int] = defaultdict(int)
    rollup = rollups.Rollup(clouds, tag_names)
    uses: list[limits.Use] = []
    for row in _rated_calls(connection, tenant, model, from_ms, until_ms):
        done.calls += 1
        at_s = row.started_ms / 1e3
        mine = (tenants or {}).get(row.tenant)
        if mine is not None and model in mine.virtual_models:
            dated = sell.get(f"{row.tenant}/{model}")
            price = price_at(dated, at_s) if dated else None
        else:
            price = selling_price(sell, row.tenant, model, at_s)
        if price is None or price.version == row.charge_version:
            continue
        usage = Usage(source=row.usage_source, **{n: getattr(row, n) for n in _CLASSES})
        charge = cost_of(usage, price, Occasion(row.thinking, at_s))
        done.changed += 1
        differences[row.tenant, row.charge_currency] -= row.charge_pico
        differences[row.tenant, price.currency] += charge
        rollup.add(row, row.charge_currency, charge_pico=-row.charge_pico)
        rollup.add(row, price.currency, charge_pico=charge)
        change = to_yuan(charge, price.currency, usd_cny_micro) - to_yuan(
            row.charge_pico, row.charge_currency, usd_cny_micro
        )
        uses.append(limits.Use(row.started_ms, "", limits.facts_of(row), 0, 0, change))
        _recharge(connection, row, charge, price)
    rollup.enter(connection)
    # A wallet's balance follows the entries.
    limits.spend(connection, uses, wallets=False)
    lines = ledger_module.usage_lines(dict(differences), {})
    if lines:
        done.transaction_id = ledger_module.post(connection, "adjustment", lines, reason)
    done.differences_pico = {
        f"{whose} {currency}": amount
        for (whose, currency), amount in sorted(differences.items())
        if amount
    }
    return done


def _rated_calls(
    connection: Connection, tenant: str, model: str, from_ms: int, until_ms: int
) -> Iterator[Row[Any]]:
    """The calls of a time that have a charge, in the order they began, read page by page.

    Args:
        tenant: empty for all.
    """
    seen = ledger.c
    after = (from_ms - 1, "\uffff")
    while True:
        query = (
            select(ledger)
            .where(
                tuple_(seen.started_ms, seen.event_id) > after,
                seen.started_ms < until_ms,
                seen.model_asked == model,
                seen.charge_pico.is_not(None),
                # What a tenant's own upstream answered has no price of the platform's.
                seen.charge_version != OWN_UPSTREAM_PRICE.version,
            )
            .order_by(seen.started_ms, seen.event_id)
            .limit(PAGE)
        )
        if tenant:
            query = query.where(seen.tenant == tenant)
        rows = connection.execute(query).all()
        if not rows:
            return
        yield from rows
        after = (rows[-1].started_ms, rows[-1].event_id)


def _recharge(connection: Connection, row: Row[Any], charge: int, price: Price) -> None:
    connection.execute(
        update(ledger)
        .where(ledger.c.event_id == row.event_id, ledger.c.started_ms == row.started_ms)
        .values(charge_pico=charge, charge_currency=price.currency, charge_version=price.version)
    )
