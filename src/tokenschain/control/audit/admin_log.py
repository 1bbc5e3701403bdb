"""Audit log of administration: one row per change, in the transaction of the change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, func, insert, select

from tokenschain.control.audit import pending
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import audit_events
from tokenschain.infra.security import secrets


class Author(NamedTuple):
    """Who does something, and from where."""

    id: str
    address: str = ""
    signed: Mapping[str, object] | None = None
    """The signature of who does it; see `identity.signing_keys.evidence`."""


SYSTEM = Author("system")
BOOT = "boot"
"""The event of a control that starts: what it started from."""
ADDRESS_CHARACTERS_MAX = 64
"""What a proxy calls an address may be longer than one."""
_TARGET_CHARACTERS_MAX = 300


def note(
    connection: Connection,
    author: Author,
    action: str,
    tenant: str,
    target: str,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write down a change.

    Args:
        action: of `core.tenancy.ACTIONS`, or what people do about themselves, as `login`.
        detail: what it is now; never a secret.
    """
    row = event(author, action, tenant, target, detail)
    connection.execute(insert(audit_events).values(**row))
    pending.add_event(connection, row)


def event(
    author: Author,
    action: str,
    tenant: str,
    target: str,
    detail: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A change as a row of `audit_events`; see `note`."""
    if author.signed is not None:
        detail = {**(detail or {}), "signed": author.signed}
    return {
        "id": secrets.new_id("evt"),
        "at_ms": time.time_ns() // 1_000_000,
        "actor": author.id,
        "tenant": tenant,
        "action": action,
        "target": target[:_TARGET_CHARACTERS_MAX],
        "detail": msgspec.json.encode(detail or {}).decode(),
        "address": author.address[:ADDRESS_CHARACTERS_MAX],
    }


def latest(connection: Connection, action: str) -> dict[str, object] | None:
    """The detail of the latest line of an action; None where there is none."""
    c = audit_events.c
    query = select(c.detail).where(c.action == action).order_by(c.at_ms.desc()).limit(1)
    found = connection.execute(query).scalar()
    return None if found is None else msgspec.json.decode(found, type=dict[str, object])


def count_of(connection: Connection, actor: str, action: str | None, from_ms: int) -> int:
    """How often somebody did something since a moment; Unix time."""
    c = audit_events.c
    query = select(func.count()).where(c.actor == actor, c.action == action, c.at_ms >= from_ms)
    return int(connection.execute(query).scalar_one())


def page(
    connection: Connection,
    page_: Page,
    tenant: str | None,
    where: Mapping[str, str],
    from_s: int | None = None,
    until_s: int | None = None,
) -> Rows:
    """One page of changes, the latest first.

    Args:
        where: values that columns must have, as `actor`.
        from_s: of that Unix time and later.
        until_s: before that Unix time.
    """
    order = (audit_events.c.at_ms, audit_events.c.id)
    query = select(audit_events).where(*(audit_events.c[n] == v for n, v in where.items()))
    if from_s is not None:
        query = query.where(audit_events.c.at_ms >= from_s * 1_000)
    if until_s is not None:
        query = query.where(audit_events.c.at_ms < until_s * 1_000)
    found = paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)
    return found._replace(
        rows=[row | {"detail": msgspec.json.decode(row["detail"])} for row in found.rows]
    )
