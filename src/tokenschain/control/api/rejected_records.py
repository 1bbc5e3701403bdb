"""Admin API: rejected records, which the ledger could not take: list, retry, discard."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends
from pydantic import JsonValue

from tokenschain.control.api.bodies import (
    AnswerBody,
    Deleted,
    Example,
    ListAnswer,
    RequestBody,
    listed,
)
from tokenschain.control.api.context import AdminRoute, Paged, Permission, RequestContext
from tokenschain.control.billing import rejected_records
from tokenschain.control.billing.rejected_records import Rejected
from tokenschain.control.identity.ownership import Extent
from tokenschain.core import call_record
from tokenschain.core.errors import ApiError

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["rejected records"])
Reading = Annotated[RequestContext, Depends(Permission("records:read", Extent.PLATFORM))]
Writing = Annotated[RequestContext, Depends(Permission("records:write", Extent.PLATFORM))]


class RejectedRecord(AnswerBody):
    """A call record that could not be entered, and why."""

    id: str
    """Of its bytes."""
    received_at_s: int
    reason: str
    bytes: int
    readable: bool
    """Whether it is a record at all; the fields that follow are of one that is."""
    event_id: str = ""
    started_ms: int = 0
    tenant: str = ""
    project: str = ""
    key_id: str = ""
    gateway: str = ""
    model_asked: str = ""
    upstream: str = ""


class WholeRecord(AnswerBody):
    """All that a rejected record says."""

    id: str
    reason: str
    record: dict[str, JsonValue] | None
    """Null: the bytes are no record."""


class Retry(RequestBody):
    """How a record is entered."""

    example: ClassVar[Example] = {"reduced": True}
    reduced: bool = False
    """Cut what is out of bounds: its counts are entered as estimates, an impossible amount of
    money as an unknown price."""


class Retried(AnswerBody):
    """A record that is in the ledger now."""

    id: str
    event_id: str


@router.get("/rejected-records")
def list_rejected(asked: Reading, page: Paged) -> ListAnswer[RejectedRecord]:
    """List call records that could not be entered, with the reason; the latest first."""
    found = rejected_records.page(asked.db, page)
    return listed(ListAnswer[RejectedRecord], found, found.rows)


@router.get("/rejected-records/{record_id}")
def read_rejected(asked: Reading, record_id: str) -> WholeRecord:
    """Show all that a rejected record says."""
    found = _find(asked, record_id)
    return WholeRecord(id=record_id, reason=found.reason, record=_plain(found))


@router.post("/rejected-records/{record_id}/retry")
def retry_rejected(asked: Writing, record_id: str, wanted: Retry) -> Retried:
    """Enter a rejected record: as it is, or reduced to what fits."""
    record = _find(asked, record_id).record
    if record is None:
        raise ApiError("conflict", "The bytes are no record: it can only be discarded.")
    if wanted.reduced:
        record = call_record.reduced(record)
    try:
        asked.context.ledger.enter_again(asked.db, record)
    except ValueError as error:
        reason = call_record.fitting(str(error), rejected_records.REASON_CHARACTERS_MAX)
        raise ApiError("conflict", f"It is refused again: {reason}.") from None
    rejected_records.discard(asked.db, record_id)
    asked.note("", record_id, {"event_id": record.event_id, "reduced": wanted.reduced})
    return Retried(id=record_id, event_id=record.event_id)


@router.delete("/rejected-records/{record_id}")
def discard_rejected(asked: Writing, record_id: str) -> Deleted:
    """Give a rejected record up: the call stays out of the ledger."""
    found = _find(asked, record_id)
    rejected_records.discard(asked.db, record_id)
    detail = {"discarded": True, "reason": found.reason[:200]}
    if found.record is not None:
        detail["event_id"] = found.record.event_id[:64]
    asked.note("", record_id, detail)
    return Deleted(id=record_id)


def _find(asked: RequestContext, record_id: str) -> Rejected:
    found = rejected_records.find(asked.db, record_id)
    if found is None:
        raise ApiError("not_found", "There is no such record.", param="record_id")
    return found


def _plain(found: Rejected) -> dict[str, Any] | None:
    return None if found.record is None else rejected_records.plain(found.record)
