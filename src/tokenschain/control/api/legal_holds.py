"""Admin API: legal holds: content that nothing erases for now.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends

from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.content import EndUser, Moment, Reason, Seeing, Setting, keys_of
from tokenschain.control.api.context import (
    AdminRoute,
    Label,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found, need_tenant
from tokenschain.control.content import legal_holds
from tokenschain.control.content.legal_holds import FOREVER_MS, NewHold
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.core.errors import ApiError

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["content"])
Releasing = Annotated[
    RequestContext,
    Depends(Permission("content:write", Extent.TENANT, "content:read", step_up=StepUp.ALWAYS)),
]


class NewLegalHold(RequestBody):
    """What is held, and why: a tenant's content, one end user's, or that of a period."""

    example: ClassVar[Example] = {"tenant": "acme", "end_user": "ada", "reason": "case 7 of 2026"}
    tenant: Label
    end_user: EndUser = ""
    """As callers name it; empty: all of the tenant's."""
    from_s: Moment = 0
    """Of calls that began from that Unix time on."""
    until_s: Moment | None = None
    """And before that one; unset: also of those to come. What is past needs `from_s`."""
    reason: Reason


class HoldRelease(RequestBody):
    """Why a hold ends."""

    example: ClassVar[Example] = {"reason": "case 7 is closed"}
    reason: Reason


class LegalHold(AnswerBody):
    """What is held, since when and why."""

    id: str
    tenant: str
    subject: str
    """The end user, as a keyed hash; empty: all of the tenant's."""
    from_ms: int
    until_ms: int
    reason: str
    created_by: str
    created_at_ms: int
    released_by: str | None
    released_at_ms: int | None
    """Null: it is in force."""
    release_reason: str | None


@router.post("/legal-holds", status_code=201)
def create_hold(asked: Setting, wanted: NewLegalHold) -> LegalHold:
    """Hold content: neither people nor retention classes erase it until the hold is released.

    With it what reviewers have of the calls and responses that callers stored, unless it is known
    that those are of another end user.
    """
    asked.need(wanted.tenant)
    asked.need_step_up()
    need_tenant(asked, wanted.tenant)
    now_ms = time.time_ns() // 1_000_000
    if not wanted.from_s and wanted.until_s is not None and wanted.until_s * 1_000 < now_ms:
        why = (
            "`until_s` is over: it ends the time of the calls that are held, not the hold, which "
            "people release. Name `from_s` as well to hold a time that is past."
        )
        raise ApiError("invalid_value", why, param="until_s")
    keys, named = keys_of(asked.context), wanted.end_user
    subjects = keys.made_subjects(asked.db, wanted.tenant, named) if named else []
    until_ms = FOREVER_MS if wanted.until_s is None else wanted.until_s * 1_000
    hold = NewHold(wanted.tenant, subjects, wanted.from_s * 1_000, until_ms, wanted.reason)
    made = legal_holds.add(asked.db, hold, asked.actor.id, now_ms)
    asked.note(wanted.tenant, made["id"], {"subject": made["subject"], "reason": wanted.reason})
    return LegalHold.model_validate(made)


@router.get("/legal-holds")
def list_holds(asked: Seeing, page: Paged, tenant: NameQuery = None) -> ListAnswer[LegalHold]:
    """List legal holds, those that were released too; the latest first."""
    found = legal_holds.page(asked.db, page, asked.tenant(tenant))
    return listed(ListAnswer[LegalHold], found, asked.visible(found.rows))


@router.post("/legal-holds/{hold_id}/release")
def release_hold(asked: Releasing, hold_id: str, wanted: HoldRelease) -> LegalHold:
    """Release a hold, once: what it kept is erased when it is due or asked for."""
    found = need_found(asked, legal_holds.find(asked.db, hold_id), "content:read", "hold")
    asked.need_step_up()
    over = ApiError("conflict", "The hold is released already.", param="hold_id")
    if found["released_at_ms"] is not None:
        raise over
    need_second_person(asked, "holds:release", found["tenant"], hold_id, None)
    now_ms = time.time_ns() // 1_000_000
    if not legal_holds.release(asked.db, hold_id, asked.actor.id, wanted.reason, now_ms):
        raise over
    asked.note(found["tenant"], hold_id, {"released": wanted.reason})
    return LegalHold.model_validate(legal_holds.find(asked.db, hold_id))
