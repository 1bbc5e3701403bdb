"""Appeals of callers against moderation's verdicts: which are taken, and what their callers see."""

from __future__ import annotations

from typing import Literal

import msgspec
from sqlalchemy import Connection, or_, select

from tokenschain.core.moderation.case_record import CaseRecord
from tokenschain.infra.database.moderation_tables import moderation_cases as cases
from tokenschain.infra.database.tables import ledger

OPEN_TO_APPEAL = ("blocked", "review", "masked", "replaced")
"""Outcomes by which moderation did something to a call."""
SUSPENDED = "end_user_suspended"
_STATES: dict[str, Literal["open", "decided"]] = {"decided": "decided"}
_DECISIONS: dict[str, Literal["upheld", "released"]] = {"uphold": "upheld", "release": "released"}


class Appeal(msgspec.Struct, frozen=True, kw_only=True):
    """An appeal as its caller sees it."""

    id: str
    object: Literal["moderation.appeal"] = "moderation.appeal"
    call_id: str
    status: Literal["open", "decided"]
    decision: Literal["upheld", "released"] | None
    reply: str
    created_at: int
    decided_at: int | None


def about(connection: Connection, record: CaseRecord) -> CaseRecord | None:
    """An appeal's record with what the ledger knows of its call; None where the project that
    appeals has no such call, or moderation did nothing to it."""
    row = connection.execute(
        select(
            ledger.c.started_ms, ledger.c.key_id, ledger.c.api, ledger.c.model_asked,
            ledger.c.moderation, ledger.c.moderation_detail,
        ).where(
            ledger.c.event_id == record.appeal_of,
            ledger.c.tenant == record.tenant,
            ledger.c.project == record.project,
            or_(ledger.c.moderation.in_(OPEN_TO_APPEAL), ledger.c.error == SUSPENDED),
        )
    ).first()  # fmt: skip
    if row is None:
        return None
    return msgspec.structs.replace(
        record, started_ms=row.started_ms, key_id=row.key_id, api=row.api, model=row.model_asked,
        moderation=row.moderation, detail=row.moderation_detail,
    )  # fmt: skip


def find(connection: Connection, tenant: str, project: str, appeal_id: str) -> Appeal | None:
    """A project's appeal."""
    table = cases.c
    row = connection.execute(
        select(
            table.appeal_of, table.state, table.decision, table.reply, table.created_at_s,
            table.decided_at_s,
        ).where(
            table.event_id == appeal_id,
            table.appeal_of != "",
            table.tenant == tenant,
            table.project == project,
        )
    ).first()  # fmt: skip
    if row is None:
        return None
    decided = row.state == "decided"
    return Appeal(
        id=appeal_id,
        call_id=row.appeal_of,
        status=_STATES.get(row.state, "open"),
        decision=_DECISIONS.get(row.decision) if decided else None,
        reply=row.reply if decided else "",
        created_at=row.created_at_s,
        decided_at=row.decided_at_s,
    )
