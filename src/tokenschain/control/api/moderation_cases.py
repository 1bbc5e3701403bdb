"""Admin API: the review queue of moderation: list, claim, open and decide cases."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tokenschain.control.api.bodies import (
    AnswerBody,
    Example,
    Items,
    ListAnswer,
    RequestBody,
    listed,
)
from tokenschain.control.api.clearance import need_cleared
from tokenschain.control.api.context import (
    AdminRoute,
    Label,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.billing import call_filters
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.moderation import offenders, review_queue
from tokenschain.control.moderation.review_queue import BULK_MAX, CaseFilter, CaseState, Decision
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Reading = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.ROWS))]
Seeing = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.TENANT))]
Reviewing = Annotated[
    RequestContext, Depends(Permission("moderation:review", Extent.TENANT, "moderation:read"))
]
Opening = Annotated[
    RequestContext,
    Depends(Permission("moderation:review", Extent.TENANT, "moderation:read", keeps_answer=False)),
]
"""What is shown is in no answer that is kept for an `Idempotency-Key`."""
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class ModerationCase(AnswerBody):
    """A call that people look at; never its texts."""

    id: str
    event_id: str
    """Of the call; see `GET /calls/{event_id}`."""
    tenant: str
    project: str
    key_id: str
    api: str
    model: str
    started_ms: int
    moderation: str
    """`review` or `blocked`; `masked` or `replaced` where something else was for review."""
    detail: str
    """Categories, levels and rules."""
    category: str
    """Of the first finding."""
    created_at_s: int
    due_at_s: int
    overdue: bool
    state: CaseState
    second_review: bool
    """Whether a second person has to decide the same."""
    claimed_by: str | None
    claimed_until_s: int | None
    first_decision: Decision | None
    first_reason: str | None
    first_by: str | None
    decision: Decision | None
    reason: str | None
    decided_by: str | None
    decided_at_s: int | None
    has_texts: bool
    """Whether the policy had what was found kept."""
    language: str
    """Of the kept texts, by their script: `zh`, `en`, `ja`, `ko`, `ru` or `ar`; empty: not
    known."""
    appeal_of: str
    """The call that its caller appeals about, whose verdict is what is judged; empty: no appeal."""
    reply: str
    """What who appealed is told beside the decision."""


class CaseText(AnswerBody):
    """A text of a call, or the part of it that something was found in."""

    direction: str
    """`input`: the caller's words; `output`: the model's."""
    text: str
    spans: list[tuple[int, int]]
    """From and to of what was found, in characters."""
    cut: bool
    """Whether it is only a part."""


class CaseDecision(RequestBody):
    """What is decided of a case, and why."""

    example: ClassVar[Example] = {"decision": "release", "reason": "quoted from a statute"}
    decision: Decision
    """`uphold`: moderation was right; `release`: it was not; `escalate`: a person with
    `moderation:write` is to decide."""
    reason: Reason
    """For the platform's own people."""
    reply: Annotated[str, Field(max_length=1_000)] = ""
    """Of an appeal: what its caller is told beside the decision."""


class CaseDecisions(CaseDecision):
    """The same decision on several cases."""

    example: ClassVar[Example] = {
        "tenant": "acme", "case_ids": ["case_1", "case_2"], "decision": "uphold", "reason": "spam",
    }  # fmt: skip
    tenant: Label
    case_ids: Annotated[list[Annotated[str, Field(max_length=64)]],
                        Field(min_length=1, max_length=BULK_MAX)]  # fmt: skip


class DecidedCase(AnswerBody):
    """What became of one of several cases."""

    id: str
    state: CaseState | None
    """Null: it was not decided."""
    error: str
    """Why not; empty where it was."""


class QueueCounts(AnswerBody):
    """How many cases wait."""

    open: int
    second: int
    escalated: int
    overdue: int


@router.get("/moderation-cases")
def list_cases(
    asked: Reading,
    page: Paged,
    tenant: NameQuery = None,
    state: CaseState | None = None,
    category: Annotated[str, Query(max_length=64, pattern=r"^([a-z]+/([a-z_]+|\*))?$")] = "",
    overdue: bool = False,
    mine: bool = False,
    appeals: bool | None = None,
) -> ListAnswer[ModerationCase]:
    """List cases of the review queue, what is due first first; never their texts."""
    whose = asked.tenant(tenant)
    wanted = CaseFilter(state, category, overdue, asked.actor.id if mine else "", appeals)
    found = review_queue.page(asked.db, page, whose, wanted, int(time.time()))
    return listed(ListAnswer[ModerationCase], found, asked.visible(found.rows))


@router.get("/moderation-cases/counts")
def count_cases(asked: Seeing, tenant: NameQuery = None) -> QueueCounts:
    """Count the cases that wait, by state, and those that are overdue."""
    whose = tenant if tenant is not None or asked.actor.tenant == PLATFORM else asked.actor.tenant
    asked.need(whose or PLATFORM)
    return QueueCounts.model_validate(review_queue.counts(asked.db, whose, int(time.time())))


@router.get("/moderation-cases/{case_id}")
def read_case(asked: Seeing, case_id: str) -> ModerationCase:
    """Show a case, without its texts."""
    found = review_queue.find(asked.db, case_id, int(time.time()))
    if found is None or not asked.permitted(found["tenant"]):
        raise _no_case()
    return ModerationCase.model_validate(found)


@router.post("/moderation-cases/decide")
def decide_cases(asked: Reviewing, wanted: CaseDecisions) -> Items[DecidedCase]:
    """Decide several cases in the same way; each is decided by itself or says why not."""
    asked.need(wanted.tenant)
    asked.need_also("moderation:read", wanted.tenant)
    _ = asked.db  # what is wrong with the request itself is not said of each case
    made = []
    for case_id in dict.fromkeys(wanted.case_ids):
        try:
            state, why = _decide(asked, case_id, wanted, wanted.tenant), ""
        except ApiError as error:
            state, why = None, error.message
        made.append(DecidedCase(id=case_id, state=state, error=why))
    return Items[DecidedCase](data=made)


@router.post("/moderation-cases/{case_id}/open")
def open_case(asked: Opening, case_id: str) -> Items[CaseText]:
    """Read the texts of a case; that it was opened stands in the audit log."""
    case = _case(asked, case_id)
    tenant = case["tenant"]
    call = case["appeal_of"] or case["event_id"]
    need_cleared(asked, tenant, call_filters.data_class_of(asked.db, tenant, call))
    texts = review_queue.texts_of(asked.db, asked.context.sealer, case_id)
    asked.note(tenant, case_id, {"opened": len(texts)})
    return Items[CaseText](data=[CaseText(
        direction=one.direction, text=one.text, spans=list(one.spans), cut=one.cut
    ) for one in texts])  # fmt: skip


@router.post("/moderation-cases/{case_id}/claim")
def claim_case(asked: Reviewing, case_id: str) -> ModerationCase:
    """Take a case for 15 minutes: no other person decides it meanwhile."""
    tenant = _case(asked, case_id)["tenant"]
    review_queue.claim(asked.db, case_id, asked.actor.id, int(time.time()))
    asked.note(tenant, case_id, {"claimed": True})
    return _now(asked, case_id)


@router.post("/moderation-cases/{case_id}/return")
def return_case(asked: Reviewing, case_id: str) -> ModerationCase:
    """Put a case back that you had taken."""
    _case(asked, case_id)
    review_queue.give_back(asked.db, case_id, asked.actor.id)
    return _now(asked, case_id)


@router.post("/moderation-cases/{case_id}/decide")
def decide_case(asked: Reviewing, case_id: str, wanted: CaseDecision) -> ModerationCase:
    """Decide a case; where the policy wants two people, the second decides the same or it is
    escalated."""
    _decide(asked, case_id, wanted)
    return _now(asked, case_id)


def _decide(
    asked: RequestContext, case_id: str, wanted: CaseDecision, of: str | None = None
) -> CaseState:
    case = _case(asked, case_id, of)
    tenant = case["tenant"]
    state = review_queue.decide(
        asked.db, case, wanted.decision, wanted.reason, asked.actor.id, int(time.time()),
        senior=asked.may("moderation:write", tenant), reply=wanted.reply,
    )  # fmt: skip
    detail: dict[str, object] = {
        "decision": wanted.decision, "reason": wanted.reason, "state": state,
    }  # fmt: skip
    if state == "decided" and wanted.decision == "release":
        call = case["appeal_of"] or case["event_id"]
        freed = offenders.forgive(
            asked.db, tenant, call, asked.actor.id, wanted.reason, int(time.time())
        )
        if freed:
            detail["released_end_user"] = freed
    asked.note(tenant, case_id, detail)
    return state


def _case(asked: RequestContext, case_id: str, of: str | None = None) -> dict[str, Any]:
    """A case that is to be acted on.

    Args:
        of: the tenant that it has to be of.

    Raises:
        ApiError: `not_found` or `permission_denied`.
    """
    found = review_queue.find(asked.db, case_id, int(time.time()))
    if found is None or not asked.may("moderation:read", found["tenant"]):
        raise _no_case()
    if of is not None and found["tenant"] != of:
        raise _no_case()
    asked.need(found["tenant"])
    return found


def _now(asked: RequestContext, case_id: str) -> ModerationCase:
    found = review_queue.find(asked.db, case_id, int(time.time()))
    return ModerationCase.model_validate(found)


def _no_case() -> ApiError:
    return ApiError("not_found", "There is no such case.", param="case_id")
