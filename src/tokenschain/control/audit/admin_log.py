"""Who changed what: one row for every change, in the same transaction as the change."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, insert

from tokenschain.infra.database.tables import audit_events
from tokenschain.infra.security import secrets


class Author(NamedTuple):
    """Who does something, and from where."""

    id: str
    address: str = ""


SYSTEM = Author("system")


def note(
    connection: Connection,
    author: Author,
    action: str,
    tenant: str,
    target: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down a change.

    Args:
        action: of `core.tenancy.ACTIONS`, or what people do about themselves, as `login`.
        detail: what it is now; never a secret.
    """
    connection.execute(
        insert(audit_events).values(
            id=secrets.new_id("evt"),
            at_ms=time.time_ns() // 1_000_000,
            actor=author.id,
            tenant=tenant,
            action=action,
            target=target,
            detail=msgspec.json.encode(detail or {}).decode(),
            address=author.address,
        )
    )
