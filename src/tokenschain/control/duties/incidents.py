"""Incidents: what happened, by when it is to be reported, and the calls that it concerns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, and_, func, insert, or_, select, update

from tokenschain.core.compliance.incident_report import CallGroup
from tokenschain.core.compliance.incidents import REPORTED, Clock, clocks_of
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.duty_tables import incident_events as events
from tokenschain.infra.database.duty_tables import incidents
from tokenschain.infra.database.engine import reading
from tokenschain.infra.database.moderation_tables import end_user_calls, moderation_freezes
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import ledger
from tokenschain.infra.security import secrets

OPEN_MAX = 1_000
"""Of one tenant, and of the platform, at one time."""
EVENTS_MAX = 500
"""Of one incident."""
GROUPS_MAX = 100
CALLS_LOOKED_AT_MAX = 500_000
"""Of calls in the time of an incident; of more, the latest."""
WARN_SHARE = 0.75
"""Of a clock's time after which it is said that it runs out."""
Row = dict[str, Any]


def add(connection: Connection, values: Mapping[str, Any], by: str, now_s: int) -> Row:
    """Open an incident.

    Raises:
        ApiError: `conflict`: too many are open; `invalid_value`: its times are not in order.
    """
    held = select(func.count()).where(
        incidents.c.tenant == values["tenant"], incidents.c.ended_at_s.is_(None)
    )
    if (connection.execute(held).scalar() or 0) >= OPEN_MAX:
        raise ApiError("conflict", f"At most {OPEN_MAX} incidents are open at one time.")
    row = {
        "id": secrets.new_id("inc"), "ended_at_s": None, "reported_at_s": None,
        "final_at_s": None, "reported_to": "", "reference": "", "measures": "",
        "created_by": by, "created_at_s": now_s,
    } | dict(values)  # fmt: skip
    _check_times(row, now_s)
    connection.execute(insert(incidents).values(row))
    _note(connection, row["id"], by, "opened", row["title"], now_s)
    return row


def change(
    connection: Connection, found: Row, values: Mapping[str, Any], action: str, text: str,
    by: str, now_s: int,
) -> Row:  # fmt: skip
    """Change an incident, and write down in its timeline what was done.

    Raises:
        ApiError: `invalid_value`: its times are not in order; `conflict`: its timeline is full.
    """
    row = found | dict(values)
    _check_times(row, now_s)
    count = select(func.count()).where(events.c.incident_id == row["id"])
    if (connection.execute(count).scalar() or 0) >= EVENTS_MAX:
        raise ApiError("conflict", f"The timeline has {EVENTS_MAX} entries, which is all it holds.")
    if values:
        connection.execute(update(incidents).where(incidents.c.id == row["id"]).values(**values))
    _note(connection, row["id"], by, action, text, now_s)
    return row


def find(connection: Connection, incident_id: str) -> Row | None:
    """One incident."""
    query = select(incidents).where(incidents.c.id == incident_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None, *, is_open: bool) -> Rows:
    """One page of incidents, the latest first.

    Args:
        is_open: only those that have not ended.
    """
    query = select(incidents)
    if is_open:
        query = query.where(incidents.c.ended_at_s.is_(None))
    order = (incidents.c.detected_at_s, incidents.c.id)
    return paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)


def timeline(connection: Connection, incident_id: str) -> list[Row]:
    """What was done, in its order."""
    query = select(events).where(events.c.incident_id == incident_id)
    query = query.order_by(events.c.at_s, events.c.id).limit(EVENTS_MAX)
    return [dict(row) for row in connection.execute(query).mappings()]


def clocks(row: Mapping[str, Any], now_s: int) -> list[Clock]:
    """The clocks of an incident."""
    return clocks_of(
        row["severity"], row["operator"], row["detected_at_s"], row["reported_at_s"],
        row["ended_at_s"], row["final_at_s"], now_s,
    )  # fmt: skip


class RunningClock(NamedTuple):
    """A report that is due and was not made."""

    incident: Row
    clock: Clock


def running(connection: Connection, tenant: str | None, now_s: int) -> list[RunningClock]:
    """Clocks that run or have run out, the first due first."""
    c = incidents.c
    # Those without a clock are left out here, or they would take the place of those that have one.
    query = select(incidents).where(
        c.severity.in_(REPORTED),
        or_(c.reported_at_s.is_(None), and_(c.ended_at_s.is_not(None), c.final_at_s.is_(None))),
    )
    if tenant is not None:
        query = query.where(c.tenant == tenant)
    rows = connection.execute(query.order_by(c.detected_at_s).limit(OPEN_MAX)).mappings()
    found = [
        RunningClock(dict(row), clock)
        for row in rows
        for clock in clocks(dict(row), now_s)
        if clock.done_at_s is None
    ]
    return sorted(found, key=lambda one: (one.clock.due_at_s, one.incident["id"]))


def alarms(engine: Engine, now_s: float) -> list[tuple[str, dict[str, Any]]]:
    """Clocks that are to be told of, by tenant: that three quarters are gone, or all."""
    with reading(engine) as connection:
        due = running(connection, None, int(now_s))
    found = []
    for row, clock in due:
        share = (now_s - clock.started_at_s) / (clock.due_at_s - clock.started_at_s)
        if share >= WARN_SHARE:
            detail = {
                "subject": [row["id"], clock.name], "period_s": clock.due_at_s,
                "percent": 100 if share > 1 else int(WARN_SHARE * 100), "title": row["title"],
                "report": clock.name, "due_at_s": clock.due_at_s,
            }  # fmt: skip
            found.append((row["tenant"], detail))
    return found


class Concerned(NamedTuple):
    """What an incident concerns, as the ledger has it."""

    groups: list[CallGroup]
    complete: bool
    """False where there are more calls or groups than are looked at."""
    end_users: int
    """Different ones, of those that policies count, which are kept for two days."""
    freezes: list[Row]


def concerned(connection: Connection, row: Mapping[str, Any], now_s: int) -> Concerned:
    """The calls that an incident concerns: of its tenant and model, in its time."""
    last_s = now_s if row["ended_at_s"] is None else row["ended_at_s"]
    begins, ends = row["began_at_s"] * 1_000, (last_s + 1) * 1_000
    table = ledger.c
    within = [table.started_ms >= begins, table.started_ms < ends]
    if row["tenant"]:
        within.append(table.tenant == row["tenant"])
    if row["model"]:
        model = row["model"]
        within.append(or_(table.model_asked == model, table.model_served == model))
    names = ("tenant", "model_asked", "model_served", "upstream", "filing", "outcome")
    calls = (
        select(*(table[name] for name in names), table.started_ms)
        .where(*within)
        .order_by(table.started_ms.desc())
        .limit(CALLS_LOOKED_AT_MAX)
        .subquery()
    )
    columns = [calls.c[name] for name in names]
    counted = func.count().label("calls")
    found = connection.execute(
        select(*columns, counted, func.min(calls.c.started_ms), func.max(calls.c.started_ms))
        .group_by(*columns)
        .order_by(counted.desc(), *columns)
        .limit(GROUPS_MAX + 1)
    ).all()
    groups = [CallGroup._make(one) for one in found[:GROUPS_MAX]]
    total = sum(one.calls for one in groups)
    users = end_user_calls.c
    query = select(func.count(users.end_user.distinct())).where(
        users.started_ms >= begins, users.started_ms < ends
    )
    frozen = select(moderation_freezes).where(
        moderation_freezes.c.created_at_s >= row["began_at_s"],
        moderation_freezes.c.created_at_s <= last_s,
    )
    if row["tenant"]:
        query = query.where(users.tenant == row["tenant"])
        frozen = frozen.where(moderation_freezes.c.tenant == row["tenant"])
    return Concerned(
        groups,
        len(found) <= GROUPS_MAX and total < CALLS_LOOKED_AT_MAX,
        int(connection.execute(query).scalar() or 0),
        [dict(one) for one in connection.execute(frozen.limit(GROUPS_MAX)).mappings()],
    )


def _check_times(row: Mapping[str, Any], now_s: int) -> None:
    slack_s = 60  # clocks differ
    for later, earlier in (("detected_at_s", "began_at_s"), ("ended_at_s", "began_at_s"),
                           ("reported_at_s", "detected_at_s")):  # fmt: skip
        if row[later] is not None and row[later] < row[earlier]:
            raise ApiError("invalid_value", f"`{later}` is before `{earlier}`.", param=later)
    for name in ("began_at_s", "detected_at_s", "ended_at_s", "reported_at_s", "final_at_s"):
        if row[name] is not None and row[name] > now_s + slack_s:
            raise ApiError("invalid_value", f"`{name}` is yet to come.", param=name)
    if row["final_at_s"] is not None and row["ended_at_s"] is None:
        why = "The final report comes when the incident has ended: set `ended_at_s` first."
        raise ApiError("invalid_value", why, param="final_at_s")


def _note(
    connection: Connection, incident_id: str, by: str, action: str, text: str, now_s: int
) -> None:
    row = {
        "id": f"{time.time_ns():020}{secrets.new_id('ine')[-12:]}", "incident_id": incident_id,
        "at_s": now_s, "actor": by, "action": action, "text": text[:2_000],
    }  # fmt: skip
    connection.execute(insert(events).values(row))
