"""Admin API: what waits for a second person, and how it is decided.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar, Literal

import msgspec
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
from tokenschain.control.identity import approvals, signing_keys
from tokenschain.control.identity.approvals import Wanted
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.identity.signing_keys import SIGN_IT
from tokenschain.control.identity.users import OPERATOR, PLATFORM_OWNER
from tokenschain.core.errors import ApiError
from tokenschain.infra.config.value_types import GuardedOperation

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["approvals"])
Reading = Annotated[RequestContext, Depends(Permission("approvals:read", Extent.ROWS))]
Deciding = Annotated[
    RequestContext,
    Depends(Permission("approvals:write", Extent.TENANT, "approvals:read", step_up=StepUp.ALWAYS)),
]


_OF_THE_MACHINE = {OPERATOR.id, PLATFORM_OWNER.id}
"""Who has the machine has both, so that one does not approve for the other."""


class DecisionReason(RequestBody):
    """Why it is approved or rejected."""

    example: ClassVar[Example] = {"reason": "as agreed in change 17"}
    reason: Annotated[str, Field(max_length=500)] = ""


class Approval(AnswerBody):
    """An act that takes two people."""

    id: str
    operation: GuardedOperation
    tenant: str
    """`*`: of the platform."""
    target: str
    """What it is about."""
    state: Literal["pending", "approved", "rejected", "used", "expired"]
    requested_by: str
    requested_at_s: int
    expires_at_s: int
    """Until then it is approved and done, or not at all."""
    decided_by: str | None
    decided_at_s: int | None
    reason: str


@router.get("/approvals")
def list_approvals(asked: Reading, page: Paged, tenant: NameQuery = None) -> ListAnswer[Approval]:
    """List acts that wait or waited for a second person, the latest first."""
    found = approvals.page(asked.db, page, asked.tenant(tenant), int(time.time()))
    return listed(ListAnswer[Approval], found, asked.visible(found.rows))


@router.post("/approvals/{approval_id}/approve")
def approve(asked: Deciding, approval_id: str, wanted: DecisionReason) -> Approval:
    """Approve an act of another person: who asked for it sends the same request again."""
    return _decided(asked, approval_id, wanted.reason, approves=True)


@router.post("/approvals/{approval_id}/reject")
def reject(asked: Deciding, approval_id: str, wanted: DecisionReason) -> Approval:
    """Reject an act of another person."""
    return _decided(asked, approval_id, wanted.reason, approves=False)


def _decided(asked: RequestContext, approval_id: str, reason: str, *, approves: bool) -> Approval:
    now_s = int(time.time())
    found = approvals.find(asked.db, approval_id, now_s)
    found = need_found(asked, found, "approvals:read", "approval")
    asked.need_step_up()
    one_person = {asked.actor.id}
    if one_person & _OF_THE_MACHINE:
        one_person = set(_OF_THE_MACHINE)
        if found["operation"] == "keys":  # whoever asked has the machine, too
            one_person.add(found["requested_by"])
    approvals.decide(
        asked.db, approval_id, asked.actor.id, one_person, now_s, approve=approves, reason=reason
    )
    decided = approvals.find(asked.db, approval_id, now_s)
    assert decided is not None
    asked.note(
        found["tenant"], approval_id, {"state": decided["state"], "operation": found["operation"]}
    )
    return Approval.model_validate(decided)


def need_signature(asked: RequestContext, *operations: GuardedOperation) -> None:
    """Insist that the request is signed by who sends it, where one of the operations takes that.

    Raises:
        ApiError: `signature_required`; `invalid_signature`: it was used before.
    """
    signed = asked.author.signed
    wanted = asked.context.settings.control.signature_for
    if signed is None:
        if any(one in wanted for one in operations):
            raise ApiError("signature_required", SIGN_IT)
    elif not asked.only_reads:
        signing_keys.use(asked.db, signed)


def need_second_person(
    asked: RequestContext,
    operation: GuardedOperation,
    tenant: str,
    target: str,
    request: object,
    *,
    keeps: bool = False,
) -> None:
    """Insist that somebody else has approved this very request, and that who sends it has signed
    it, where the operation takes that.

    Args:
        request: all of it that says what is done.
        keeps: whether it may be done again until the approval ends, as what only reads.

    Raises:
        ApprovalRequired: nobody has yet; it waits from now on.
        ApiError: see `need_signature`.
    """
    need_signature(asked, operation)
    need_approval(asked, operation, tenant, target, request, keeps=keeps)


def need_approval(
    asked: RequestContext,
    operation: GuardedOperation,
    tenant: str,
    target: str,
    request: object,
    *,
    keeps: bool = False,
) -> None:
    """The same without a signature, for a request that is several of these operations."""
    if operation not in asked.context.settings.control.second_person_for:
        return
    encoded = msgspec.json.encode([operation, tenant, target, request], order="deterministic")
    wanted = Wanted(
        operation, tenant, target, asked.context.suite.hex_digest(encoded), asked.author
    )
    approvals.use(asked.db, wanted, int(time.time()), keeps=keeps or asked.only_reads)
