"""Admin API: requests of data subjects: access, copy, correction, deletion, restriction.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from fastapi import APIRouter, BackgroundTasks, Depends
from pydantic import Field

from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.content import end_user_hash, erased, keys_of
from tokenschain.control.api.context import (
    AdminRoute,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found, need_tenant
from tokenschain.control.content.erasure import Selection
from tokenschain.control.duties import subject_requests
from tokenschain.control.duties.subject_requests import DUE_DAYS, RequestKind
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.core.errors import ApiError

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["compliance"])
Listing = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.ROWS))]
Reading = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.TENANT))]
Taking = Annotated[RequestContext, Depends(Permission("compliance:write", Extent.TENANT))]
Deciding = Annotated[
    RequestContext,
    Depends(
        Permission(
            "compliance:write", Extent.TENANT, "compliance:read", step_up=StepUp.ALWAYS
        )
    ),
]  # fmt: skip
_Text = Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")]


class NewSubjectRequest(RequestBody):
    """What an end user asks."""

    example: ClassVar[Example] = {"tenant": "acme", "kind": "access", "end_user": "user-17"}
    tenant: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.@-]*$")]
    kind: RequestKind
    end_user: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f]*$")]
    """As the tenant's calls name it (`user`, `safety_identifier`); a keyed hash of it is kept."""
    note: _Text = ""
    """How it came, what is to be corrected; no personal data that is not needed."""
    received_at_s: Annotated[int, Field(ge=0, le=2**42)] | None = None
    """Now by default."""
    due_days: Annotated[int, Field(ge=1, le=365)] = DUE_DAYS


class SubjectRequestDecision(RequestBody):
    """What becomes of a request."""

    example: ClassVar[Example] = {"decision": "done", "reason": "sent by mail"}
    decision: Literal["done", "refused"]
    """`done` of a `deletion` deletes."""
    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00]*$")]


class SubjectRequest(AnswerBody):
    """A request, by when it is due, and what was done."""

    id: str
    tenant: str
    kind: RequestKind
    end_user: str
    """A keyed hash."""
    note: str
    state: Literal["open", "done", "refused"]
    received_at_s: int
    due_at_s: int
    created_by: str
    decided_by: str | None
    decided_at_s: int | None
    reason: str
    outcome: dict[str, int]
    """What was deleted, in rows; `held`: contents that a legal hold keeps."""


class HeldCall(AnswerBody):
    """A call of an end user."""

    event_id: str
    started_ms: int
    api: str
    project: str
    model_asked: str
    model_served: str
    upstream: str
    outcome: str
    moderation: str
    prompt_tokens: int
    completion_tokens: int
    filing: str


class HeldSuspension(AnswerBody):
    """A suspension of an end user."""

    id: str
    cause: str
    blocked_calls: int
    created_at_s: int
    until_s: int
    released_at_s: int | None


class HeldData(AnswerBody):
    """What is held about an end user, and what cannot be said of it."""

    request: SubjectRequest
    calls: list[HeldCall]
    suspensions: list[HeldSuspension]
    complete: bool
    gaps: list[str]
    """What else may be held, or is not tied to an end user."""


_GAPS = [
    "Calls are tied to an end user for two days, and only where a moderation policy counts end "
    "users; older calls, and those of other policies, cannot be told by end user.",
    "What calls said is not in this export: content is kept only where a policy keeps it.",
]


@router.post("/subject-requests", status_code=201)
def create_subject_request(asked: Taking, wanted: NewSubjectRequest) -> SubjectRequest:
    """Take a request of an end user: from now on it is due."""
    asked.need(wanted.tenant)
    need_tenant(asked, wanted.tenant)
    now_s = int(time.time())
    hashed = end_user_hash(asked, wanted.tenant, wanted.end_user)
    received_at_s = now_s if wanted.received_at_s is None else wanted.received_at_s
    subjects: list[str] = []
    if wanted.kind == "deletion":
        # Content may come until it is done.
        keys = keys_of(asked.context)
        subjects = keys.made_subjects(asked.db, wanted.tenant, wanted.end_user)
    made = subject_requests.add(
        asked.db, wanted.tenant, wanted.kind, hashed, wanted.note, received_at_s,
        wanted.due_days, asked.actor.id, now_s, subjects,
    )  # fmt: skip
    asked.note(wanted.tenant, made["id"], {"kind": wanted.kind, "end_user": hashed})
    return _shown(made)


@router.get("/subject-requests")
def list_subject_requests(
    asked: Listing, page: Paged, tenant: NameQuery = None, is_open: bool = False
) -> ListAnswer[SubjectRequest]:
    """List requests of end users, the first due first."""
    found = subject_requests.page(asked.db, page, asked.tenant(tenant), is_open=is_open)
    rows = [_decoded(row) for row in asked.visible(found.rows)]
    return listed(ListAnswer[SubjectRequest], found, rows)


@router.get("/subject-requests/{request_id}")
def read_subject_request(asked: Reading, request_id: str) -> SubjectRequest:
    """Read a request of an end user."""
    return _shown(_found(asked, request_id))


@router.get("/subject-requests/{request_id}/export")
def export_held_data(asked: Reading, request_id: str) -> HeldData:
    """Export what is held about the end user of a request; it stands in the audit log."""
    found = _found(asked, request_id)
    if found["kind"] not in ("access", "copy"):
        why = "Only requests for access or a copy are answered by what is held."
        raise ApiError("conflict", why, param="request_id")
    data = subject_requests.held(asked.db, found["tenant"], found["end_user"])
    asked.note(found["tenant"], request_id, {"exported_calls": len(data.calls)})
    return HeldData(
        request=_shown(found), complete=data.complete, gaps=_GAPS,
        calls=[HeldCall(**row) for row in data.calls],
        suspensions=[HeldSuspension(**row) for row in data.suspensions],
    )  # fmt: skip


@router.post("/subject-requests/{request_id}/decide")
def decide_subject_request(
    asked: Deciding, request_id: str, wanted: SubjectRequestDecision, background: BackgroundTasks
) -> SubjectRequest:
    """Decide a request of an end user. A deletion that is done takes away what ties calls to it,
    and erases what they said but for what a legal hold keeps: the ledger keeps the calls, which
    name no end user."""
    found = _found(asked, request_id)
    asked.need_step_up()
    if found["state"] != "open":
        raise ApiError("conflict", "It was decided before.", param="request_id")
    outcome, now_s = {}, int(time.time())
    if wanted.decision == "done" and found["kind"] == "deletion":
        need_second_person(asked, "content:erase", found["tenant"], request_id, "decide")
        outcome = subject_requests.erase(asked.db, found["tenant"], found["end_user"], now_s)
        outcome |= _erase_content(asked, found, background)
    subject_requests.decide(
        asked.db, request_id, wanted.decision, wanted.reason, outcome, asked.actor.id, now_s
    )
    detail = {"decision": wanted.decision, "kind": found["kind"], "deleted": outcome}
    asked.note(found["tenant"], request_id, detail)
    return _shown(_found(asked, request_id))


def _erase_content(
    asked: RequestContext, found: Mapping[str, Any], background: BackgroundTasks
) -> dict[str, int]:
    """Destroy the keys of what the end user's calls said; gives how many contents, and how many
    are held."""
    subjects, now_ms = msgspec.json.decode(found["content_subjects"]), time.time_ns() // 1_000_000
    wanted = Selection(found["tenant"], subjects, now_ms)
    done = erased(asked, background, wanted, f"request {found['id']}", now_ms)
    return {"contents": done.contents, "held": done.held}


def _found(asked: RequestContext, request_id: str) -> dict[str, Any]:
    found = subject_requests.find(asked.db, request_id)
    return need_found(asked, found, "compliance:read", "request")


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    shown = {**row, "outcome": msgspec.json.decode(row["outcome"])}
    del shown["content_subjects"]
    return shown


def _shown(row: dict[str, Any]) -> SubjectRequest:
    return SubjectRequest.model_validate(_decoded(row))
