"""Admin API: words and hard negatives that reviewers propose for keyword packs."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    AdminRoute,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.moderation import proposals, review_queue
from tokenschain.control.moderation.proposals import ProposalKind, ProposalState
from tokenschain.core.errors import ApiError
from tokenschain.core.moderation.risks import BY_ID

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Reading = Annotated[RequestContext, Depends(Permission("moderation:review", Extent.ROWS))]
Reviewing = Annotated[
    RequestContext, Depends(Permission("moderation:review", Extent.TENANT, "moderation:read"))
]
Text = Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class NewProposal(RequestBody):
    """A word that packs lack, or a phrase in which one of their words is harmless."""

    example: ClassVar[Example] = {
        "kind": "hard_negative", "word": "洗钱通道", "phrase": "反洗钱通道",
    }  # fmt: skip
    kind: ProposalKind
    word: Annotated[Text, Field(min_length=1)]
    phrase: Text = ""
    """Of a hard negative: what the word is harmless in."""
    risk: Annotated[str, Field(max_length=16)] = "A.1.h"
    """Of a word: its risk by the standard's annex, as `A.1.h`."""
    level: Annotated[int, Field(ge=1, le=3)] = 3
    """Of a word: 1 to 3."""


class Proposal(AnswerBody):
    """What a reviewer proposes, and what became of it."""

    id: str
    tenant: str
    case_id: str
    kind: ProposalKind
    word: str
    phrase: str
    risk: str
    level: int
    state: ProposalState
    proposed_by: str
    created_at_s: int
    decided_by: str | None
    decided_at_s: int | None
    reason: str | None


class ProposalDecision(RequestBody):
    """Whether a proposal is taken, and why."""

    example: ClassVar[Example] = {"accept": True, "reason": "seen in three cases"}
    accept: bool
    reason: Reason


@router.post("/moderation-cases/{case_id}/proposals", status_code=201)
def create_proposal(asked: Reviewing, case_id: str, wanted: NewProposal) -> Proposal:
    """Propose a word or a hard negative that a case shows; another person decides."""
    case = review_queue.find(asked.db, case_id, int(time.time()))
    if case is None or not asked.may("moderation:read", case["tenant"]):
        raise ApiError("not_found", "There is no such case.", param="case_id")
    asked.need(case["tenant"])
    if wanted.risk not in BY_ID:
        raise ApiError("invalid_value", f"There is no risk `{wanted.risk}`.", param="risk")
    if wanted.kind == "word" and wanted.phrase:
        raise ApiError("invalid_value", "`phrase` is a hard negative's.", param="phrase")
    if wanted.kind == "hard_negative" and (
        wanted.word not in wanted.phrase or wanted.word == wanted.phrase
    ):
        why = "`phrase` holds the word and more, as `反洗钱通道` holds `洗钱通道`."
        raise ApiError("invalid_value", why, param="phrase")
    row: dict[str, Any] = wanted.model_dump() | {
        "tenant": case["tenant"], "case_id": case_id, "proposed_by": asked.actor.id,
        "created_at_s": int(time.time()),
    }  # fmt: skip
    made = proposals.add(asked.db, row)
    asked.note(case["tenant"], made["id"], {"proposed": wanted.kind, "case": case_id})
    return Proposal.model_validate(made)


@router.get("/moderation-proposals")
def list_proposals(
    asked: Reading, page: Paged, tenant: NameQuery = None, state: ProposalState | None = None
) -> ListAnswer[Proposal]:
    """List proposed words and hard negatives, the latest first."""
    found = proposals.page(asked.db, page, asked.tenant(tenant), state)
    return listed(ListAnswer[Proposal], found, asked.visible(found.rows))


@router.post("/moderation-proposals/{proposal_id}/decide")
def decide_proposal(asked: Reviewing, proposal_id: str, wanted: ProposalDecision) -> Proposal:
    """Accept or refuse a proposal of another person; what is accepted goes into the next draft of
    a pack."""
    found = need_found(asked, proposals.find(asked.db, proposal_id), "moderation:read", "proposal")
    state: ProposalState = "accepted" if wanted.accept else "refused"
    now_s = int(time.time())
    proposals.decide(asked.db, found, state, wanted.reason, asked.actor.id, now_s)
    asked.note(found["tenant"], proposal_id, {"decided": state, "reason": wanted.reason})
    return Proposal.model_validate(proposals.find(asked.db, proposal_id))
