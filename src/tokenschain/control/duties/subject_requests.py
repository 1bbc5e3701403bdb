"""Requests of data subjects (PIPL, Arts. 44 to 47): what is asked, what is held, what was done.

An end user is known by a keyed hash alone, as moderation keeps it; the id that the request names is
not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.duty_tables import subject_requests as requests
from tokenschain.infra.database.moderation_tables import end_user_calls, end_user_suspensions
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import ledger
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Suite

RequestKind = Literal["access", "copy", "correction", "deletion", "restriction"]
DUE_DAYS = 30
"""PIPL asks for an answer in time and names no days; thirty are those of GB/T 35273-2020, 8.7."""
DAY_S = 86_400
OPEN_MAX = 10_000
"""Of one tenant."""
CALLS_SHOWN_MAX = 10_000
Row = dict[str, Any]
_OF_CALLS = (
    "event_id", "started_ms", "api", "project", "model_asked", "model_served", "upstream",
    "outcome", "moderation", "prompt_tokens", "completion_tokens", "filing",
)  # fmt: skip
_OF_SUSPENSIONS = ("id", "cause", "blocked_calls", "created_at_s", "until_s", "released_at_s")


def end_user_hash(suite: Suite, internal: Sequence[str], tenant: str, named: str) -> str:
    """How gateways note an end user; see `gateway.moderation.step`.

    Args:
        internal: secrets that control and gateways share, the one in force first.
    """
    key = suite.derive(internal[0], b"moderation")
    return suite.keyed_digest(key, f"end user\0{tenant}\0{named}".encode())[:16].hex()


def add(
    connection: Connection, tenant: str, kind: RequestKind, end_user: str, note: str,
    received_at_s: int, due_days: int, by: str, now_s: int, content_subjects: Sequence[str] = (),
) -> Row:  # fmt: skip
    """Register a request.

    Args:
        content_subjects: hashes that kept content of the end user goes by.

    Raises:
        ApiError: `conflict`: too many are open; `invalid_value`: it is from the future.
    """
    if received_at_s > now_s + 60:
        raise ApiError("invalid_value", "`received_at_s` is yet to come.", param="received_at_s")
    held = select(func.count()).where(requests.c.tenant == tenant, requests.c.state == "open")
    if (connection.execute(held).scalar() or 0) >= OPEN_MAX:
        raise ApiError("conflict", f"At most {OPEN_MAX} requests of a tenant are open.")
    row = {
        "id": secrets.new_id("dsr"), "tenant": tenant, "kind": kind, "end_user": end_user,
        "content_subjects": msgspec.json.encode(list(content_subjects)).decode(),
        "note": note, "state": "open", "received_at_s": received_at_s,
        "due_at_s": received_at_s + due_days * DAY_S, "created_by": by, "decided_by": None,
        "decided_at_s": None, "reason": "", "outcome": "{}",
    }  # fmt: skip
    connection.execute(insert(requests).values(row))
    return row


def find(connection: Connection, request_id: str) -> Row | None:
    """One request."""
    row = connection.execute(select(requests).where(requests.c.id == request_id)).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None, *, is_open: bool) -> Rows:
    """One page of requests, the first due first.

    Args:
        is_open: only those that were not decided.
    """
    query = select(requests)
    if is_open:
        query = query.where(requests.c.state == "open")
    order = (requests.c.due_at_s, requests.c.id)
    return paging.read_page(connection, query, page_, order, tenant=tenant)


def due(connection: Connection, tenant: str | None, most: int) -> list[Row]:
    """Open requests, the first due first."""
    query = select(requests).where(requests.c.state == "open")
    if tenant is not None:
        query = query.where(requests.c.tenant == tenant)
    query = query.order_by(requests.c.due_at_s, requests.c.id).limit(most)
    return [dict(row) for row in connection.execute(query).mappings()]


class Held(NamedTuple):
    """What is held about an end user."""

    calls: list[Row]
    complete: bool
    suspensions: list[Row]


def held(connection: Connection, tenant: str, end_user: str) -> Held:
    """What is held about an end user by its hash: calls of the days in which they are counted, and
    suspensions."""
    users, calls = end_user_calls.c, ledger.c
    found = connection.execute(
        select(*(calls[name] for name in _OF_CALLS))
        .join(end_user_calls, users.event_id == calls.event_id)
        .where(users.tenant == tenant, users.end_user == end_user, calls.tenant == tenant)
        .order_by(calls.started_ms, calls.event_id)
        .limit(CALLS_SHOWN_MAX + 1)
    ).mappings()
    rows = [dict(row) for row in found]
    kept = end_user_suspensions.c
    suspended = connection.execute(
        select(*(kept[name] for name in _OF_SUSPENSIONS))
        .where(kept.tenant == tenant, kept.end_user == end_user)
        .order_by(kept.created_at_s, kept.id)
        .limit(CALLS_SHOWN_MAX)
    ).mappings()
    return Held(rows[:CALLS_SHOWN_MAX], len(rows) <= CALLS_SHOWN_MAX, [dict(r) for r in suspended])


def erase(connection: Connection, tenant: str, end_user: str, now_s: int) -> dict[str, int]:
    """Take away what ties calls to an end user. What the law has kept stays, without that tie:
    the ledger and the sealed log never name an end user. A suspension in force stays until it
    ends: it protects others. Returns how many rows."""
    users, kept = end_user_calls.c, end_user_suspensions.c
    calls = connection.execute(
        delete(end_user_calls).where(users.tenant == tenant, users.end_user == end_user)
    ).rowcount
    suspended = connection.execute(
        delete(end_user_suspensions).where(
            kept.tenant == tenant, kept.end_user == end_user, kept.until_s <= now_s
        )
    ).rowcount
    return {"calls": calls, "suspensions": suspended}


def decide(
    connection: Connection, request_id: str, state: Literal["done", "refused"], reason: str,
    outcome: Mapping[str, int], by: str, now_s: int,
) -> bool:  # fmt: skip
    """Close a request; whether it was open."""
    done = connection.execute(
        update(requests)
        .where(requests.c.id == request_id, requests.c.state == "open")
        .values(
            state=state,
            reason=reason,
            decided_by=by,
            decided_at_s=now_s,
            outcome=msgspec.json.encode(dict(outcome)).decode(),
        )
    )
    return done.rowcount == 1
