"""Rating calls again after a price was mended: what was charged stays, the difference is added."""

from __future__ import annotations

from collections import defaultdict

import msgspec
from sqlalchemy import Connection, select, tuple_, update

from tokenschain.control import billing, pricing
from tokenschain.core.catalog import Occasion, Usage, cost_of, selling_price
from tokenschain.infra.tables import ledger, usage_hourly

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
    connection: Connection, *, tenant: str, model: str, from_ms: int, until_ms: int, reason: str
) -> Rerated:
    """Rate a time's calls of a model again by the selling prices that now hold for them.

    The single rows are rewritten with their new charge and price version, the sums with them,
    and the difference is one adjustment in the double-entry ledger: sums of entries and rows
    agree before and after. A second run finds nothing to do.
    """
    sell = pricing.selling_prices(connection)
    done = Rerated(differences_pico={})
    differences: dict[tuple[str, str], int] = defaultdict(int)
    hours: dict[tuple[object, ...], int] = defaultdict(int)
    after = (from_ms - 1, "\uffff")
    while True:
        query = (
            select(ledger)
            .where(
                tuple_(ledger.c.started_ms, ledger.c.event_id) > after,
                ledger.c.started_ms < until_ms,
                ledger.c.model_asked == model,
                ledger.c.charge_pico.is_not(None),
            )
            .order_by(ledger.c.started_ms, ledger.c.event_id)
            .limit(PAGE)
        )
        if tenant:
            query = query.where(ledger.c.tenant == tenant)
        rows = connection.execute(query).all()
        if not rows:
            break
        after = (rows[-1].started_ms, rows[-1].event_id)
        for row in rows:
            done.calls += 1
            at_s = row.started_ms / 1e3
            price = selling_price(sell, row.tenant, model, at_s)
            if price is None or price.version == row.charge_version:
                continue
            usage = Usage(source=row.usage_source, **{n: getattr(row, n) for n in _CLASSES})
            charge = cost_of(usage, price, Occasion(row.thinking, at_s))
            done.changed += 1
            differences[row.tenant, row.charge_currency] -= row.charge_pico
            differences[row.tenant, price.currency] += charge
            hour = row.started_ms // 3_600_000 * billing.HOUR_S
            place = (hour, row.tenant, row.project, row.environment, row.key_id,
                     row.model_asked, row.upstream, row.currency)  # fmt: skip
            hours[(*place, row.charge_currency)] -= row.charge_pico
            hours[(*place, price.currency)] += charge
            connection.execute(
                update(ledger)
                .where(ledger.c.event_id == row.event_id, ledger.c.started_ms == row.started_ms)
                .values(
                    charge_pico=charge,
                    charge_currency=price.currency,
                    charge_version=price.version,
                )
            )
    _move_sums(connection, hours)
    lines = billing.usage_lines(dict(differences), {})
    if lines:
        done.transaction_id = billing.post(connection, "adjustment", lines, reason)
    done.differences_pico = {
        f"{whose} {currency}": amount
        for (whose, currency), amount in sorted(differences.items())
        if amount
    }
    return done


def _move_sums(connection: Connection, hours: dict[tuple[object, ...], int]) -> None:
    """Bring the hourly sums in step; a charge in another currency gets a row of its own."""
    for key, amount in sorted(hours.items(), key=lambda item: tuple(map(str, item[0]))):
        names = billing.ROLLUP_KEY
        here = [usage_hourly.c[name] == value for name, value in zip(names, key, strict=True)]
        changed = connection.execute(
            update(usage_hourly)
            .where(*here)
            .values(charge_pico=usage_hourly.c.charge_pico + amount)
        ).rowcount
        if not changed:
            zeros = dict.fromkeys(billing.ROLLUP_SUMS, 0)
            values = dict(zip(names, key, strict=True)) | zeros | {"charge_pico": amount}
            connection.execute(usage_hourly.insert().values(values))
