"""Legal holds: content that nothing erases while somebody has to keep it as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, insert, not_, or_, select, true, update

from tokenschain.core.errors import ApiError
from tokenschain.infra.database import held_calls, paging
from tokenschain.infra.database.content_tables import call_contents, legal_holds
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import secrets

FOREVER_MS = 2**53
IN_FORCE_MAX = 200
"""Of one tenant at one time: each is a condition of every erasure."""


class NewHold(NamedTuple):
    """What is to be held, and why."""

    tenant: str
    subjects: Sequence[str]
    """The hashes that an end user may be known by; none: all of the tenant's."""
    from_ms: int
    until_ms: int
    reason: str


def add(connection: Connection, wanted: NewHold, by: str, now_ms: int) -> dict[str, Any]:
    """Hold from now on.

    Raises:
        ApiError: `invalid_value`: it ends before it begins; `conflict`: there are too many.
    """
    if wanted.until_ms <= wanted.from_ms:
        raise ApiError("invalid_value", "The period ends before it begins.", param="until_s")
    if len(held_calls.live(connection, [wanted.tenant])) >= IN_FORCE_MAX:
        raise ApiError("conflict", f"A tenant has at most {IN_FORCE_MAX} holds at one time.")
    row = wanted._asdict() | {
        "subjects": msgspec.json.encode(wanted.subjects).decode(),
        "id": secrets.new_id("hold"), "created_by": by, "created_at_ms": now_ms,
        "released_by": None, "released_at_ms": None, "release_reason": None,
    }  # fmt: skip
    connection.execute(insert(legal_holds).values(row))
    return _shown(row)


def release(connection: Connection, hold_id: str, by: str, reason: str, now_ms: int) -> bool:
    """End a hold; whether it was in force."""
    c = legal_holds.c
    done = connection.execute(
        update(legal_holds)
        .where(c.id == hold_id, c.released_at_ms.is_(None))
        .values(released_by=by, released_at_ms=now_ms, release_reason=reason)
    )
    return done.rowcount == 1


def find(connection: Connection, hold_id: str) -> dict[str, Any] | None:
    """One hold."""
    query = select(legal_holds).where(legal_holds.c.id == hold_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _shown(dict(row))


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of holds, the latest first."""
    order = (legal_holds.c.created_at_ms, legal_holds.c.id)
    query = select(legal_holds)
    found = paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)
    return found._replace(rows=[_shown(row) for row in found.rows])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    subjects = held_calls.subjects_of(row.pop("subjects"))
    return row | {"subject": subjects[0] if subjects else ""}


def is_held(connection: Connection, tenants: Sequence[str]) -> ColumnElement[bool]:
    """Whether a row of `call_contents` is held; for rows of these tenants."""
    c, held = call_contents.c, []
    for one in held_calls.live(connection, tenants):
        of_it = [c.tenant == one.tenant, c.started_ms >= one.from_ms, c.started_ms < one.until_ms]
        if subjects := held_calls.subjects_of(one.subjects):
            of_it.append(c.subject.in_(subjects))
        held.append(and_(*of_it))
    return or_(*held) if held else not_(true())


def tenants_held(connection: Connection) -> list[str]:
    """Tenants of which something is held."""
    c = legal_holds.c
    query = select(c.tenant).where(c.released_at_ms.is_(None)).distinct()
    return list(connection.execute(query).scalars())
