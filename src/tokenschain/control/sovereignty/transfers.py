"""Transfers abroad: calls and distinct people by tenant, and the stop at a legal limit.

They are counted in the transaction that enters the calls, so that each call counts once. A tenant
that reaches the limit of its legal basis is published as `domestic-only` until the year ends, or
the operator sets another basis.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from tokenschain.control import revisions
from tokenschain.control.audit import admin_log
from tokenschain.core.call_record import CallRecord
from tokenschain.core.compliance.transfers import (
    LIMITS,
    Basis,
    basis_of,
    day_of,
    is_near,
    is_over,
    is_sensitive,
    zone_abroad,
)
from tokenschain.core.snapshot.zones import DOMESTIC_ONLY, Sovereignty
from tokenschain.infra.config.sovereignty import SovereigntySettings
from tokenschain.infra.database.engine import insert_new, upsert
from tokenschain.infra.database.transfer_tables import (
    transfer_days,
    transfer_stops,
    transfer_subjects,
)

ACTION = "transfers:stopped"
_SUBJECT_COLUMNS = ("id", "tenant", "year", "sensitive", "day")


def note(
    connection: Connection,
    calls: Sequence[CallRecord],
    zones: Mapping[str, str],
    settings: SovereigntySettings,
) -> None:
    """Count those calls whose data went abroad; stop tenants that reach their limit.

    Args:
        calls: just entered, each for the first time.
        zones: of upstreams, by id.
    """
    days: Counter[tuple[str, int, str]] = Counter()
    unnamed: Counter[tuple[str, int, str]] = Counter()
    people: dict[str, tuple[str, str, int, bool, int]] = {}
    for call in calls:
        zone = zone_abroad(call, zones) if call.attempts else None
        if zone is None:
            continue
        day = day_of(call.started_ms)
        days[call.tenant, day, zone] += 1
        if not call.subject:
            unnamed[call.tenant, day, zone] += 1
            continue
        year = _year_of(day)
        kinds = (False, True) if is_sensitive(call, settings.sensitive_classes) else (False,)
        for sensitive in kinds:
            name = f"{year}{'s' if sensitive else 'a'}{call.subject}"
            people[name] = name, call.tenant, year, sensitive, day
    if not days:
        return
    for key in sorted(days):
        _add(connection, key, days[key], unnamed[key])
    rows = [people[name] for name in sorted(people)]
    new = insert_new(connection, transfer_subjects, _SUBJECT_COLUMNS, rows)
    for tenant, year in sorted({(people[name][1], people[name][2]) for name in new}):
        _stop_if(connection, tenant, year, basis_of(settings.transfer_basis, tenant))


def _add(connection: Connection, key: tuple[str, int, str], calls: int, unnamed: int) -> None:
    tenant, day, zone = key
    table = transfer_days
    given = {"tenant": tenant, "day": day, "zone": zone, "calls": calls, "unnamed_calls": unnamed}
    connection.execute(
        upsert(connection.engine, table).values(given).on_conflict_do_update(
            index_elements=["tenant", "day", "zone"],
            set_={
                "calls": table.c.calls + calls,
                "unnamed_calls": table.c.unnamed_calls + unnamed,
            },
        )
    )  # fmt: skip


def _stop_if(connection: Connection, tenant: str, year: int, basis: Basis) -> None:
    limit = LIMITS[basis]
    if limit.people is None and limit.sensitive is None:
        return
    if not is_over(limit, *_people(connection, tenant, year)[tenant]):
        return
    row = {"tenant": tenant, "year": year, "basis": basis}
    stop = {**row, "at_s": _now_s()}
    made = connection.execute(
        upsert(connection.engine, transfer_stops).values(stop).on_conflict_do_nothing()
    )
    if made.rowcount > 0:
        admin_log.note(connection, admin_log.SYSTEM, ACTION, tenant, str(year), row)
        revisions.bump(connection)


def _people(connection: Connection, tenant: str | None, year: int) -> Mapping[str, tuple[int, int]]:
    """Distinct people of a year, and those of them with sensitive data, by tenant."""
    table = transfer_subjects.c
    query = (
        select(table.tenant, table.sensitive, func.count())
        .where(table.year == year)
        .group_by(table.tenant, table.sensitive)
    )
    if tenant is not None:
        query = query.where(table.tenant == tenant)
    counts: Counter[tuple[str, bool]] = Counter()
    for name, sensitive, count in connection.execute(query):
        counts[name, bool(sensitive)] = int(count)
    return {name: (counts[name, False], counts[name, True]) for name, _ in counts}


def in_force(connection: Connection, settings: SovereigntySettings) -> dict[str, Sovereignty]:
    """The modes of tenants that reached the limit of their basis this year, by scope."""
    table = transfer_stops.c
    year = _year_of(day_of(_now_s() * 1_000))
    rows = connection.execute(select(table.tenant, table.basis).where(table.year == year))
    return {
        f"tenant/{tenant}": DOMESTIC_ONLY
        for tenant, basis in sorted(tuple(row) for row in rows)
        if basis_of(settings.transfer_basis, tenant) == basis
    }


def report(
    connection: Connection,
    settings: SovereigntySettings,
    tenant: str | None,
    month: str,
    recipients: Callable[[str], list[str]] = lambda tenant: [],
) -> list[dict[str, Any]]:
    """What went abroad in a month, by tenant, and how many people of the year so far.

    Args:
        tenant: None for all.
        month: as `2026-11`, in China.
        recipients: who abroad a tenant's calls may go to, as the register of processors has it.

    Raises:
        ValueError: there is no such month.
    """
    first = datetime.date.fromisoformat(f"{month}-01")
    after = (first.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
    begins, ends = ((one - datetime.date(1970, 1, 1)).days for one in (first, after))
    table, subjects = transfer_days.c, transfer_subjects.c
    query = (
        select(
            table.tenant,
            func.sum(table.calls).label("calls"),
            func.sum(table.unnamed_calls).label("unnamed_calls"),
        )
        .where(table.day >= begins, table.day < ends)
        .group_by(table.tenant)
        .order_by(table.tenant)
    )
    new = (
        select(subjects.tenant, func.count())
        .where(subjects.day >= begins, subjects.day < ends, subjects.sensitive.is_(False))
        .group_by(subjects.tenant)
    )
    if tenant is not None:
        query, new = query.where(table.tenant == tenant), new.where(subjects.tenant == tenant)
    first_seen = {name: count for name, count in connection.execute(new)}
    people_of = _people(connection, tenant, first.year)
    stopped = in_force(connection, settings)
    found = []
    for row in connection.execute(query).mappings():
        name = row["tenant"]
        basis = basis_of(settings.transfer_basis, name)
        people, sensitive = people_of.get(name, (0, 0))
        found.append(
            {
                "tenant": name, "month": month, "calls": int(row["calls"]),
                "unnamed_calls": int(row["unnamed_calls"]),
                "new_end_users": first_seen.get(name, 0),
                "end_users_in_year": people, "sensitive_end_users_in_year": sensitive,
                "basis": basis, "end_users_max": LIMITS[basis].people,
                "sensitive_end_users_max": LIMITS[basis].sensitive,
                "warning": is_near(LIMITS[basis], people, sensitive),
                "stopped": f"tenant/{name}" in stopped,
                "recipients": recipients(name),
            }
        )  # fmt: skip
    return found


def _year_of(day: int) -> int:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).year


def _now_s() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp())
