"""The cache as control sees it: its rules, what was dropped, what it did and saved."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, func, select

from tokenschain.control import revisions
from tokenschain.core.caching import CacheRules, flush_name
from tokenschain.infra.config import Settings
from tokenschain.infra.db import upsert
from tokenschain.infra.tables import cache_flushes, ledger

FLUSHES_KEPT_S = 90 * 86_400
"""Longer than any answer is kept."""


def rules(connection: Connection, settings: Settings) -> CacheRules:
    """The rules as gateways serve by them."""
    flushed = {row.selector: row.at_ms / 1e3 for row in connection.execute(select(cache_flushes))}
    return msgspec.convert({**settings.cache.model_dump(), "flushed": flushed}, CacheRules)


def flush(connection: Connection, tenant: str, part: str = "", value: str = "") -> float:
    """Drop what was stored until now; gateways do so within a second.

    Args:
        tenant: empty for all.
        part: `project`, `model`, `tag` or `entry`; empty for everything of the tenant.

    Returns:
        Until when; Unix time.
    """
    now_ms = time.time_ns() // 1_000_000
    statement = upsert(connection.engine, cache_flushes).values(
        selector=flush_name(tenant, part, value), at_ms=now_ms
    )
    connection.execute(
        statement.on_conflict_do_update(index_elements=["selector"], set_={"at_ms": now_ms})
    )
    connection.execute(
        cache_flushes.delete().where(cache_flushes.c.at_ms < now_ms - FLUSHES_KEPT_S * 1_000)
    )
    revisions.bump(connection)
    return now_ms / 1e3


def hits_of(
    connection: Connection, since_ms: int, tenant: str, part: str = "", value: str = ""
) -> dict[str, int]:
    """What a flush would have cost since then: answers that were given again, how often."""
    seen = ledger.c
    where = [seen.started_ms >= since_ms, seen.cache_key != ""]
    if tenant:
        where.append(seen.tenant == tenant)
    column = {"project": seen.project, "model": seen.model_asked, "entry": seen.cache_key}
    if part in column:
        where.append(column[part] == value)
    elif part == "tag":
        where.append(("," + seen.tags + ",").contains(f",{value},", autoescape=True))
    row = connection.execute(
        select(func.count(), func.count(seen.cache_key.distinct())).where(and_(*where))
    ).one()
    return {"hits": int(row[0]), "answers": int(row[1])}


def call_of(connection: Connection, event_id: str) -> Any:
    """Whose a call was and what the cache did for it; None when there is none of the last
    quarter."""
    seen = ledger.c
    since_ms = int((time.time() - FLUSHES_KEPT_S) * 1_000)
    return connection.execute(
        select(seen.tenant, seen.project, seen.cache, seen.cache_key)
        .where(seen.event_id == event_id, seen.started_ms >= since_ms)
        .limit(1)
    ).first()


def stats(
    connection: Connection, tenant: str | None, from_ms: int, until_ms: int
) -> list[dict[str, Any]]:
    """What the cache did, by model, outcome and reason, and what it saved."""
    seen = ledger.c
    keys = (seen.tenant, seen.model_asked, seen.cache, seen.cache_reason, seen.currency)
    where = [seen.started_ms >= from_ms, seen.started_ms < until_ms, seen.outcome == "ok"]
    if tenant is not None:
        where.append(seen.tenant == tenant)
    rows = connection.execute(
        select(
            *keys,
            func.count().label("calls"),
            func.sum(seen.saved_tokens).label("saved_tokens"),
            func.sum(seen.saved_pico).label("saved_pico"),
        )
        .where(and_(*where))
        .group_by(*keys)
        .order_by(*keys)
    )
    return [
        {
            "tenant": row.tenant,
            "model": row.model_asked,
            "cache": row.cache,
            "reason": row.cache_reason,
            "calls": row.calls,
            "saved_tokens": int(row.saved_tokens),
            "saved_pico": int(row.saved_pico),
            "currency": row.currency if row.saved_pico else "",
        }
        for row in rows
    ]
