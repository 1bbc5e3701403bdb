"""Feedback of reviewers: words and hard negatives that they propose for keyword packs."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.moderation_tables import moderation_proposals as proposals
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import secrets

ProposalKind = Literal["word", "hard_negative"]
ProposalState = Literal["proposed", "accepted", "refused"]
UNDECIDED_MAX = 1_000
"""Of one tenant."""


def add(connection: Connection, row: dict[str, Any]) -> dict[str, Any]:
    """Propose.

    Args:
        row: what is proposed, by whom and when.

    Raises:
        ApiError: `conflict`: the same waits, or too many do.
    """
    table = proposals.c
    waiting = (
        select(func.count())
        .select_from(proposals)
        .where(table.tenant == row["tenant"], table.state == "proposed")
    )
    same = waiting.where(
        table.kind == row["kind"], table.word == row["word"], table.phrase == row["phrase"]
    )
    if connection.execute(same).scalar():
        raise ApiError("conflict", "The same is proposed already.")
    if (connection.execute(waiting).scalar() or 0) >= UNDECIDED_MAX:
        raise ApiError("conflict", f"{UNDECIDED_MAX} proposals wait: decide some of them first.")
    made = row | {
        "id": secrets.new_id("prop"), "state": "proposed", "decided_by": None,
        "decided_at_s": None, "reason": None,
    }  # fmt: skip
    connection.execute(insert(proposals).values(made))
    return made


def find(connection: Connection, proposal_id: str) -> dict[str, Any] | None:
    """One proposal."""
    query = select(proposals).where(proposals.c.id == proposal_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def page(
    connection: Connection, page_: Page, tenant: str | None, state: ProposalState | None
) -> Rows:
    """One page of proposals, the latest first."""
    query = select(proposals)
    if state is not None:
        query = query.where(proposals.c.state == state)
    order = (proposals.c.created_at_s, proposals.c.id)
    return paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)


def decide(
    connection: Connection, row: dict[str, Any], state: ProposalState, reason: str, by: str,
    now_s: int,
) -> None:  # fmt: skip
    """Accept or refuse.

    Raises:
        ApiError: `conflict`: it is decided, or theirs.
    """
    if row["proposed_by"] == by:
        raise ApiError("conflict", "Another person than who proposed it is to decide.")
    table = proposals.c
    done = connection.execute(
        update(proposals)
        .where(table.id == row["id"], table.state == "proposed")
        .values(state=state, reason=reason, decided_by=by, decided_at_s=now_s)
    )
    if not done.rowcount:
        raise ApiError("conflict", "It is decided.")
