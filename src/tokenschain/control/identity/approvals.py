"""Dual approval: named operations are done only once a second person has approved them.

Whoever asks for one is refused at first; a second person approves within a time, and then the very
same request is done once. What was approved is a digest of the request: nothing else is done by it.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select, update

from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.core.errors import ApiError
from tokenschain.infra.config.value_types import GuardedOperation
from tokenschain.infra.database import paging
from tokenschain.infra.database.compliance_tables import approvals
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import secrets

REQUESTED = "approval:request"
"""The event in the audit log."""
KEPT_S = 90 * 86_400
"""After it has ended; the audit log keeps what was asked for and decided."""
_TARGET_CHARACTERS_MAX = 300

Row = dict[str, Any]


class Wanted(NamedTuple):
    """What somebody asks for that takes a second person."""

    operation: GuardedOperation
    tenant: str
    """`*`: of the platform."""
    target: str
    """What it is about, for people."""
    request_hash: str
    author: Author


class ApprovalRequired(ApiError):
    """It waits for a second person. The refused request's transaction is undone: what is asked for
    is kept afterwards, by `keep`."""

    def __init__(self, approval_id: str, wanted: Wanted, *, known: bool) -> None:
        super().__init__(
            "approval_required",
            f"This takes a second person: once approval {approval_id} is approved, "
            "send the same request again.",
        )
        self.approval_id = approval_id
        self.wanted = wanted
        self.known = known
        """Whether it was asked for before."""


def use(connection: Connection, wanted: Wanted, now_s: int, *, keeps: bool) -> None:
    """Go on with what was approved, once.

    Args:
        keeps: of what only reads: it may be read again until the approval ends.

    Raises:
        ApprovalRequired: nobody has approved it yet.
    """
    c = approvals.c
    row = connection.execute(
        select(c.id, c.state)
        .where(
            c.request_hash == wanted.request_hash,
            c.requested_by == wanted.author.id,
            c.operation == wanted.operation,
            c.tenant == wanted.tenant,
            c.expires_at_s > now_s,
            c.state.in_(("pending", "approved")),
        )
        .order_by(c.state)
        .limit(1)
    ).first()
    if row is None:
        raise ApprovalRequired(secrets.new_id("apr"), wanted, known=False)
    if row.state == "pending":
        raise ApprovalRequired(row.id, wanted, known=True)
    if keeps:
        return
    approved = update(approvals).where(c.id == row.id, c.state == "approved")
    if not connection.execute(approved.values(state="used")).rowcount:  # another took it first
        raise ApprovalRequired(secrets.new_id("apr"), wanted, known=False)


def keep(engine: Engine, refused: ApprovalRequired, lasts_s: int) -> None:
    """Have it wait for a second person, in a transaction of its own."""
    wanted, now_s = refused.wanted, int(time.time())
    target = wanted.target[:_TARGET_CHARACTERS_MAX]
    with engine.begin() as connection:
        connection.execute(
            insert(approvals).values(
                id=refused.approval_id,
                operation=wanted.operation,
                tenant=wanted.tenant,
                target=target,
                request_hash=wanted.request_hash,
                requested_by=wanted.author.id,
                requested_at_s=now_s,
                expires_at_s=now_s + lasts_s,
                state="pending",
            )
        )
        detail = {"operation": wanted.operation, "target": target}
        admin_log.note(
            connection, wanted.author, REQUESTED, wanted.tenant, refused.approval_id, detail
        )


def find(connection: Connection, approval_id: str, now_s: int) -> Row | None:
    """One by its id, or None."""
    row = connection.execute(select(approvals).where(approvals.c.id == approval_id)).mappings()
    found = row.first()
    return None if found is None else _shown(dict(found), now_s)


def page(connection: Connection, page_: Page, tenant: str | None, now_s: int) -> Rows:
    """One page, the latest first."""
    order = (approvals.c.requested_at_s, approvals.c.id)
    found = paging.read_page(
        connection, select(approvals), page_, order, newest=True, tenant=tenant
    )
    return found._replace(rows=[_shown(row, now_s) for row in found.rows])


def _shown(row: Row, now_s: int) -> Row:
    del row["request_hash"]
    if row["state"] in ("pending", "approved") and row["expires_at_s"] <= now_s:
        row["state"] = "expired"
    return row


def decide(
    connection: Connection,
    approval_id: str,
    by: str,
    one_person: Collection[str],
    now_s: int,
    *,
    approve: bool,
    reason: str,
) -> None:
    """Approve or reject what waits.

    Args:
        one_person: by which names whoever decides may have asked for it.

    Raises:
        ApiError: `conflict`: it does not wait any more, or is one's own.
    """
    c = approvals.c
    changed = connection.execute(
        update(approvals)
        .where(
            c.id == approval_id,
            c.state == "pending",
            c.requested_by.not_in(one_person),
            c.expires_at_s > now_s,
        )
        .values(
            state="approved" if approve else "rejected",
            decided_by=by,
            decided_at_s=now_s,
            reason=reason,
        )
    ).rowcount
    if not changed:
        raise ApiError("conflict", "It is decided already, has expired, or is your own.")


def sweep(connection: Connection, now_s: float) -> None:
    """Forget what ended long ago."""
    connection.execute(delete(approvals).where(approvals.c.expires_at_s < int(now_s) - KEPT_S))
