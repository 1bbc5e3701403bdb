"""Repeated offenders: end users who are suspended after several blocked calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from tokenschain.control import revisions
from tokenschain.control.audit import admin_log
from tokenschain.core.moderation.case_record import CaseRecord
from tokenschain.core.snapshot.moderation_policy import OffenderLimits
from tokenschain.infra.database import engine as database
from tokenschain.infra.database import paging
from tokenschain.infra.database.moderation_tables import end_user_calls as calls
from tokenschain.infra.database.moderation_tables import end_user_suspensions as suspensions
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import secrets

DAY_S = 86_400
CALLS_KEPT_S = 2 * DAY_S
KEPT_S = 360 * DAY_S
"""Suspensions, from their end on."""
IN_FORCE_MAX = 10_000
"""All of them are in every gateway's memory; of more, those that end last."""
LOOKED_AT_MAX = 1_000
"""Calls of one end user within a day."""
BLOCKED = "blocked"
Limits = Callable[[CaseRecord], Sequence[OffenderLimits]]
"""Those of the policies of a call's project."""


def count(
    connection: Connection,
    engine: Engine,
    records: Iterable[CaseRecord],
    limits_of: Limits,
    now_s: float,
) -> None:
    """Count calls of end users, each once, and suspend whom the limits say."""
    counted = {one.event_id: one for one in records if one.end_user and not one.appeal_of}
    if not counted:
        return
    rows = [
        {
            "event_id": name, "tenant": one.tenant, "end_user": one.end_user,
            "started_ms": one.started_ms, "blocked": one.moderation == BLOCKED,
        }
        for name, one in sorted(counted.items())
    ]  # fmt: skip
    adding = database.upsert(engine, calls)
    connection.execute(adding.on_conflict_do_nothing(index_elements=["event_id"]), rows)
    blocked = {
        (one.tenant, one.end_user): one for one in counted.values() if one.moderation == BLOCKED
    }
    for key in sorted(blocked):
        limits = limits_of(blocked[key])
        if limits:
            _suspend_if(connection, *key, limits, int(now_s))


def _suspend_if(
    connection: Connection, tenant: str, end_user: str, limits: Sequence[OffenderLimits], now_s: int
) -> None:
    table = suspensions.c
    last = connection.execute(
        select(func.max(table.created_at_s), func.max(table.until_s)).where(
            table.tenant == tenant, table.end_user == end_user
        )
    ).one()
    if _is_suspended(connection, tenant, end_user, now_s):
        return
    # What led to a suspension once does not count again.
    since_ms = max(now_s - DAY_S, last[0] or 0) * 1_000
    seen = connection.execute(
        select(calls.c.blocked)
        .where(
            calls.c.tenant == tenant, calls.c.end_user == end_user, calls.c.started_ms > since_ms
        )
        .order_by(calls.c.started_ms.desc(), calls.c.event_id)
        .limit(LOOKED_AT_MAX)
    )  # fmt: skip
    run = longest = total = 0
    for one in seen.scalars():
        run = run + 1 if one else 0
        longest, total = max(longest, run), total + one
    in_a_row, a_day = min(o.in_a_row for o in limits), min(o.a_day for o in limits)
    if longest < in_a_row and total < a_day:
        return
    cause = "in_a_row" if longest >= in_a_row else "a_day"
    row: dict[str, Any] = {
        "id": secrets.new_id("sus"), "tenant": tenant, "end_user": end_user, "cause": cause,
        "blocked_calls": total, "created_at_s": now_s,
        "until_s": now_s + max(o.suspend_hours for o in limits) * 3_600,
    }  # fmt: skip
    connection.execute(insert(suspensions).values(row))
    detail = {"suspended": end_user, "cause": cause, "until_s": row["until_s"]}
    admin_log.note(connection, admin_log.SYSTEM, "moderation:write", tenant, row["id"], detail)
    revisions.bump(connection)


def _is_suspended(connection: Connection, tenant: str, end_user: str, now_s: int) -> bool:
    table = suspensions.c
    found = select(func.count()).where(
        table.tenant == tenant,
        table.end_user == end_user,
        table.until_s > now_s,
        table.released_at_s.is_(None),
    )
    return bool(connection.execute(found).scalar())


def in_force(connection: Connection, now_s: float) -> dict[str, dict[str, int]]:
    """End users who are suspended, as gateways know them: until when, by tenant."""
    table = suspensions.c
    query = (
        select(table.tenant, table.end_user, table.until_s)
        .where(table.until_s > int(now_s), table.released_at_s.is_(None))
        .order_by(table.until_s.desc(), table.id)
        .limit(IN_FORCE_MAX)
    )
    found: dict[str, dict[str, int]] = {}
    for tenant, end_user, until_s in connection.execute(query):
        found.setdefault(tenant, {}).setdefault(end_user, until_s)
    return found


def find(connection: Connection, suspension_id: str) -> dict[str, Any] | None:
    """One suspension."""
    query = select(suspensions).where(suspensions.c.id == suspension_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def page(
    connection: Connection, page_: Page, tenant: str | None, now_s: int, *, in_force: bool
) -> Rows:
    """One page of suspensions, the latest first.

    Args:
        in_force: only those that are.
    """
    query = select(suspensions)
    if in_force:
        query = query.where(suspensions.c.until_s > now_s, suspensions.c.released_at_s.is_(None))
    order = (suspensions.c.created_at_s, suspensions.c.id)
    return paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)


def release(
    connection: Connection, tenant: str, end_user: str, by: str, reason: str, now_s: int
) -> bool:
    """Serve an end user again; whether it was suspended."""
    table = suspensions.c
    done = connection.execute(
        update(suspensions)
        .where(
            table.tenant == tenant,
            table.end_user == end_user,
            table.until_s > now_s,
            table.released_at_s.is_(None),
        )
        .values(released_by=by, released_at_s=now_s, release_reason=reason)
    )
    if done.rowcount:
        revisions.bump(connection)
    return done.rowcount > 0


def forgive(
    connection: Connection, tenant: str, call_id: str, by: str, reason: str, now_s: int
) -> str:
    """Count a call as not blocked, since people decided so; returns the end user whose suspension
    that ended, or nothing."""
    done = connection.execute(
        update(calls)
        .where(calls.c.event_id == call_id, calls.c.tenant == tenant, calls.c.blocked)
        .values(blocked=False)
        .returning(calls.c.end_user)
    )
    end_user = done.scalar()
    if end_user is None or not release(connection, tenant, end_user, by, reason, now_s):
        return ""
    return str(end_user)


def sweep(connection: Connection, now_s: float) -> None:
    """Forget calls and suspensions of long ago."""
    connection.execute(delete(calls).where(calls.c.started_ms < int(now_s - CALLS_KEPT_S) * 1_000))
    connection.execute(delete(suspensions).where(suspensions.c.until_s < int(now_s) - KEPT_S))
