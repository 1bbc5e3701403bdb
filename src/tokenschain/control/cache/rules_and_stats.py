"""Response cache in control: rules, flushes, statistics and savings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from tokenschain.control import revisions
from tokenschain.core.cache.semantic_protocol import Cluster
from tokenschain.core.cache.store import TTL_JITTER
from tokenschain.core.call_record import HitKind
from tokenschain.core.snapshot.cache_rules import TTL_MAX_S, CacheRules, flush_name
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import cache_flushes, cache_hourly, ledger

FLUSHES_KEPT_S = int(TTL_MAX_S * (1 + TTL_JITTER))
"""As long as any answer is kept: what was stored before is gone by itself."""
FLUSHES_MAX = 500
"""Of one tenant, or of the platform, with a time of their own: each gateway knows them all."""
MOST_GIVEN_MAX = 500


class Group(NamedTuple):
    """Callers whose questions share one bound."""

    tenant: str
    project: str
    model: str

    @staticmethod
    def of(name: str) -> Group:
        """From `tenant/project/model`; a model's name may have slashes of its own."""
        tenant, _, rest = name.partition("/")
        project, _, model = rest.partition("/")
        return Group(tenant, project, model)


def rules(connection: Connection, given: CacheRules) -> CacheRules:
    """The rules as gateways serve by them, with what was flushed."""
    flushed = {row.selector: row.at_ms / 1e3 for row in connection.execute(select(cache_flushes))}
    return msgspec.structs.replace(given, flushed=flushed)


def flush(connection: Connection, tenant: str, part: str = "", value: str = "") -> float:
    """Drop what was stored until now; gateways do so within a second.

    Beyond `FLUSHES_MAX` of a tenant, the oldest become one of all that it had stored by then: more
    is dropped than was asked for, never less.

    Args:
        tenant: empty for all.
        part: `project`, `model`, `tag` or `entry`; empty for everything of the tenant.

    Returns:
        Until when; Unix time.
    """
    now_ms = time.time_ns() // 1_000_000
    kept = cache_flushes.c
    _note(connection, flush_name(tenant, part, value), now_ms)
    connection.execute(cache_flushes.delete().where(kept.at_ms < now_ms - FLUSHES_KEPT_S * 1_000))
    own = _parts_of(tenant)
    if part:
        merged_ms = connection.execute(
            select(kept.at_ms).where(own).order_by(kept.at_ms.desc()).offset(FLUSHES_MAX).limit(1)
        ).scalar()
        if merged_ms is not None:
            connection.execute(cache_flushes.delete().where(own, kept.at_ms <= merged_ms))
            _note(connection, flush_name(tenant), merged_ms)
    else:
        narrower = own if tenant else kept.selector != flush_name(tenant)
        connection.execute(cache_flushes.delete().where(narrower, kept.at_ms <= now_ms))
    revisions.bump(connection)
    return now_ms / 1e3


def _note(connection: Connection, selector: str, at_ms: int) -> None:
    """Note a flush; an earlier one of the same is part of it."""
    statement = upsert(connection.engine, cache_flushes).values(selector=selector, at_ms=at_ms)
    before = cache_flushes.c.at_ms
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["selector"],
            set_={"at_ms": case((before > at_ms, before), else_=at_ms)},
        )
    )


def _parts_of(tenant: str) -> ColumnElement[bool]:
    """Flushes of parts of what a tenant stored; without one, those that the platform made."""
    selector, begin = cache_flushes.c.selector, f"{tenant}/"
    # Not LIKE, to which two tenants may be one: letters are the same there, large or small.
    return and_(func.substr(selector, 1, len(begin)) == begin, selector != flush_name(tenant))


def hits_of(
    connection: Connection, since_ms: int, tenant: str, part: str = "", value: str = ""
) -> dict[str, int]:
    """What a flush would have cost since then: cached responses served, and how often."""
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
    """Whose a call was and what the cache did for it; None when there is none since the oldest
    answer that may still be given."""
    seen = ledger.c
    since_ms = int((time.time() - FLUSHES_KEPT_S) * 1_000)
    return connection.execute(
        select(seen.tenant, seen.project, seen.cache, seen.cache_key)
        .where(seen.event_id == event_id, seen.started_ms >= since_ms)
        .limit(1)
    ).first()


HOUR_S = 3_600
DIMENSIONS = ("tenant", "model", "reason", "hour")
"""What statistics may be told apart by, beside the outcome."""
STATS_ROWS_MAX = 100_000
_SUMS = tuple(column.name for column in cache_hourly.c if not column.primary_key)


def stats(
    connection: Connection,
    tenant: str | None,
    from_s: int,
    until_s: int,
    group_by: Sequence[str] = DIMENSIONS[:3],
) -> list[dict[str, Any]]:
    """What the cache did for calls that went well, by outcome, and what it saved.

    Args:
        from_s: Unix time; the hours that the time touches are whole.
        group_by: some of `DIMENSIONS`.
    """
    seen = cache_hourly.c
    columns = {"tenant": seen.tenant, "model": seen.model, "reason": seen.cache_reason,
               "hour": seen.hour_s}  # fmt: skip
    told_apart: list[ColumnElement[Any]] = [columns[name].label(name) for name in group_by]
    keys = [*told_apart, seen.cache, seen.currency]
    where = [seen.hour_s >= from_s - from_s % HOUR_S, seen.hour_s < until_s]
    if tenant is not None:
        where.append(seen.tenant == tenant)
    rows = connection.execute(
        select(*keys, *(func.sum(seen[name]).label(name) for name in _SUMS))
        .where(and_(*where))
        .group_by(*keys)
        .order_by(*keys)
        .limit(STATS_ROWS_MAX)
    )
    found = [dict(row) | {name: int(row[name]) for name in _SUMS} for row in rows.mappings()]
    if "hour" in group_by:
        for one in found:
            one["hour"] = time.strftime("%Y-%m-%dT%H:00Z", time.gmtime(one["hour"]))
    return found


AGES_S = (60, 600, 3_600, 6 * 3_600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)


def hit_ages(
    connection: Connection, tenant: str | None, model: str | None, from_ms: int, until_ms: int
) -> list[dict[str, Any]]:
    """Age of cached responses when they were served: hits by age, and the share of all hits that
    answers no older than that gave."""
    seen = ledger.c
    where = [seen.started_ms >= from_ms, seen.started_ms < until_ms,
             seen.cache.in_((HitKind.EXACT, HitKind.SEMANTIC))]  # fmt: skip
    if tenant is not None:
        where.append(seen.tenant == tenant)
    if model is not None:
        where.append(seen.model_asked == model)
    upto = [func.sum(case((seen.cache_age_s <= age_s, 1), else_=0)) for age_s in AGES_S]
    total, *counts = connection.execute(select(func.count(), *upto).where(and_(*where))).one()
    rows, before = [], 0
    for age_s, count in zip(AGES_S, counts, strict=True):
        within = int(count or 0)
        share = within / total if total else 0.0
        rows.append({"age_s_max": age_s, "hits": within - before, "share_within": share})
        before = within
    return rows


def threshold_preview(
    connection: Connection, group: Group, thresholds: Sequence[float | None],
    from_ms: int, until_ms: int,
) -> dict[str, Any]:  # fmt: skip
    """What other thresholds would have given, from the calls of that time.

    Args:
        thresholds: confidences from which cached answers would have been given; None: never.

    Returns:
        `exact_hits`, `lookups` (semantic), and `choices`: `hits` and `saved_pico` by currency,
        one for each threshold.
    """
    seen = ledger.c
    where = and_(
        seen.tenant == group.tenant, seen.project == group.project,
        seen.model_asked == group.model, seen.started_ms >= from_ms, seen.started_ms < until_ms,
        seen.outcome == "ok", seen.cache.in_((*HitKind, "miss")),
    )  # fmt: skip
    by_meaning = seen.cache.in_((HitKind.SEMANTIC, "miss"))
    worth = case((seen.cache == HitKind.SEMANTIC, seen.saved_pico), else_=seen.cost_pico)
    columns = []
    for threshold in thresholds:
        given = and_(by_meaning, seen.cache_confidence >= (2.0 if threshold is None else threshold))
        columns.append(func.sum(case((given, 1), else_=0)))
        columns.append(func.sum(case((given, worth), else_=0)))
    rows = connection.execute(
        select(
            seen.currency,
            func.sum(case((by_meaning, 0), else_=1)),
            func.sum(case((by_meaning, 1), else_=0)),
            *columns,
        )
        .where(where)
        .group_by(seen.currency)
    ).all()
    choices: list[dict[str, Any]] = [{"hits": 0, "saved_pico": {}} for _ in thresholds]
    for row in rows:
        for at, choice in enumerate(choices):
            hits, saved = int(row[3 + 2 * at]), int(row[4 + 2 * at] or 0)
            choice["hits"] += hits
            if saved:
                choice["saved_pico"][row[0]] = saved
    return {
        "exact_hits": sum(int(row[1]) for row in rows),
        "lookups": sum(int(row[2]) for row in rows),
        "choices": choices,
    }


def most_given(
    connection: Connection, tenant: str, from_ms: int, until_ms: int
) -> dict[str, dict[str, Any]]:
    """Cached responses served most often, the most served first: by key, `hits` and `saved_pico`
    by currency."""
    seen = ledger.c
    hits = func.count().label("hits")
    rows = connection.execute(
        select(seen.cache_key, seen.currency, hits, func.sum(seen.saved_pico))
        .where(seen.tenant == tenant, seen.started_ms >= from_ms, seen.started_ms < until_ms,
               seen.cache_key != "")
        .group_by(seen.cache_key, seen.currency)
        .order_by(hits.desc(), seen.cache_key)
        .limit(MOST_GIVEN_MAX)
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for key, currency, count, saved in rows:
        one = found.setdefault(key, {"hits": 0, "saved_pico": {}})
        one["hits"] += count
        if saved:
            one["saved_pico"][currency] = int(saved)
    return found


def query_clusters(
    clusters: Sequence[Cluster], given: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Clusters with how often they were asked and what giving their answers again saved, the most
    asked first.

    Args:
        given: see `most_given`.
    """
    rows = []
    for cluster in clusters:
        group = Group.of(cluster.group)
        keys = [key.hex() for key in cluster.keys]
        hits, saved = 0, dict[str, int]()
        for key in keys:
            one = given.get(key)
            if one is not None:
                hits += one["hits"]
                for currency, pico in one["saved_pico"].items():
                    saved[currency] = saved.get(currency, 0) + pico
        rows.append(
            {
                "project": group.project,
                "model": group.model,
                "queries": cluster.questions,
                "answer": cluster.answer,
                "entry": keys[0],
                "lookups": hits + len(keys),
                "misses": len(keys),
                "hits": hits,
                "saved_pico": saved,
            }
        )
    return sorted(rows, key=lambda row: -row["lookups"])
