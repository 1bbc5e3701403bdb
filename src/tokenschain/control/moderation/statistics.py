"""Moderation statistics: what was found and done, summed from the ledger and the review queue."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, select

from tokenschain.core.errors import ApiError
from tokenschain.core.moderation.detail import findings_of
from tokenschain.infra.database.moderation_tables import moderation_cases as cases
from tokenschain.infra.database.tables import ledger

DIMENSIONS = ("day", "tenant", "action", "category", "engine", "language", "model")
DAY_MS = 86_400_000
DAYS_MAX = 92
GROUPS_MAX = 100_000
"""Of equal calls, which the database adds up."""
_BY_FINDING = frozenset(("category", "engine"))
_UNREAD = "not_scanned"
_DISPUTED = "disputed"


def add_up(
    connection: Connection,
    group_by: Sequence[str],
    from_ms: int,
    until_ms: int,
    tenant: str | None,
    zone_s: int = 0,
) -> list[dict[str, Any]]:
    """Calls that were screened, and what was found in them.

    By category or engine, a call counts once for each of those that it has.

    Args:
        group_by: some of `DIMENSIONS`.
        zone_s: how far the days begin before those of UTC.

    Raises:
        ApiError: `invalid_value`: it is too much to be added up at once.
    """
    if until_ms - from_ms > DAYS_MAX * DAY_MS:
        why = f"Statistics are of {DAYS_MAX} days at most at a time."
        raise ApiError("invalid_value", why, param="from_s")
    local = ledger.c.started_ms + zone_s * 1_000
    day = (local - local % DAY_MS).label("day")
    keys = (
        day, ledger.c.tenant, ledger.c.moderation, ledger.c.moderation_detail,
        ledger.c.model_asked, func.coalesce(cases.c.language, "").label("language"),
        func.coalesce(cases.c.decision, "").label("decision"),
    )  # fmt: skip
    joined = ledger.outerjoin(
        cases, and_(cases.c.event_id == ledger.c.event_id, cases.c.appeal_of == "")
    )
    query = (
        select(*keys, func.count().label("calls"))
        .select_from(joined)
        .where(
            ledger.c.started_ms >= from_ms,
            ledger.c.started_ms < until_ms,
            ledger.c.moderation != _UNREAD,
        )
        .group_by(*keys)
        .limit(GROUPS_MAX + 1)
    )
    if tenant is not None:
        query = query.where(ledger.c.tenant == tenant)
    rows = connection.execute(query).mappings().all()
    if len(rows) > GROUPS_MAX:
        raise ApiError("invalid_value", "That is too much at once: ask for less time, or a tenant.")
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for row in rows:
        for key, (findings, disputed) in _keys_of(row, group_by).items():
            added = sums[key]
            added[0] += row["calls"]
            added[1] += row["calls"] * findings
            added[2] += row["calls"] * disputed
            added[3] += row["calls"] * (row["decision"] == "uphold")
            added[4] += row["calls"] * (row["decision"] == "release")
    names = ("calls", "findings", "disputed", "upheld", "released")
    return [
        dict(zip(group_by, key, strict=True)) | dict(zip(names, sums[key], strict=True))
        for key in sorted(sums)
    ]


def _keys_of(row: Any, group_by: Sequence[str]) -> dict[tuple[str, ...], tuple[int, bool]]:
    """The groups that a call belongs to, how many of its findings belong to each, and whether
    engines disagree on one of those."""
    known = {
        "day": time.strftime("%Y-%m-%d", time.gmtime(row["day"] // 1_000)),
        "tenant": row["tenant"], "action": row["moderation"], "model": row["model_asked"],
        "language": row["language"] or "unknown",
    }  # fmt: skip
    found = findings_of(row["moderation_detail"])
    if _BY_FINDING.isdisjoint(group_by) or not found:
        key = tuple(known.get(name, "") for name in group_by)
        disputed = any(one.level == _DISPUTED for one in found)
        return {key: (sum(one.times for one in found), disputed)}
    counts: dict[tuple[str, ...], tuple[int, bool]] = defaultdict(lambda: (0, False))
    for one in found:
        known |= {"category": one.category, "engine": one.engine}
        key = tuple(known[name] for name in group_by)
        times, disputed = counts[key]
        counts[key] = times + one.times, disputed or one.level == _DISPUTED
    return counts
