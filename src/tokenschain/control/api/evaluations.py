"""Admin API: the signed report of an evaluation draw.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from tokenschain.control.api.audit_log import note_secret
from tokenschain.control.api.bodies import Example, RequestBody
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.audit import log
from tokenschain.control.compliance import evaluation_report
from tokenschain.control.compliance.evaluation_report import DrawStatement, QuestionBank
from tokenschain.control.compliance.template_facts import EVALUATED
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.compliance.evaluation import Judge, JudgedItem, QuestionKind
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import DOCUMENTS_BOUNDS, JsonBounds
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1/compliance", route_class=AdminRoute, tags=["compliance"])
Signing = Annotated[RequestContext, Depends(Permission("compliance:write", Extent.PLATFORM))]
ITEMS_MAX = 5_000
BANKS_MAX, RULES_MAX = 100, 1_000
_Line = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class EvaluatedBank(RequestBody):
    """A file that questions were drawn from."""

    name: _Name
    digest: _Digest
    """SHA-256, in hex."""
    size: _Count


class EvaluatedItem(RequestBody):
    """What became of one question."""

    id: _Name
    kind: QuestionKind
    request_id: _Line
    """Of the call that asked it."""
    blocked: bool = False
    """Whether moderation refused it, or ended the answer."""
    verdicts: dict[Judge, bool]
    """Of content whether it is without risk, else whether it is a refusal; by judge."""


class NewEvaluation(RequestBody):
    """A draw that was asked and judged."""

    bounds: ClassVar[JsonBounds] = DOCUMENTS_BOUNDS
    example: ClassVar[Example] = {
        "model": "chat", "seed": 1, "began_at_s": 1_790_000_000, "answers_digest": "0" * 64,
        "banks": [{"name": "bank.jsonl", "digest": "0" * 64, "size": 3}],
        "items": [{"id": "c-1", "kind": "content", "request_id": "req_1",
                   "verdicts": {"keywords": True}}],
    }  # fmt: skip
    model: _Name
    seed: Annotated[int, Field(ge=0, le=2**53)]
    began_at_s: Annotated[int, Field(ge=0, le=2**42)]
    is_trial: bool = False
    """Whether banks had fewer questions than are to be drawn."""
    banks: Annotated[list[EvaluatedBank], Field(min_length=1, max_length=BANKS_MAX)]
    rules: Annotated[list[_Name], Field(max_length=RULES_MAX, default_factory=list)]
    """Keyword packs and their versions."""
    judge_model: _Line = ""
    answers_digest: _Digest
    """Of the file `answers.jsonl` that goes with it, SHA-256 in hex."""
    items: Annotated[list[EvaluatedItem], Field(min_length=1, max_length=ITEMS_MAX)]


@router.post(
    "/evaluations",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string"}}}}},
)
def sign_evaluation(asked: Signing, wanted: NewEvaluation) -> Response:
    """Sign the report of an evaluation draw, as `tokenschain compliance draw` asks for it.

    Shares and intervals are computed here, and calls are looked up in the ledger. The answer is a
    tar file; `tokenschain compliance verify` checks it. It is in the audit log with its digest.
    """
    asked.need(PLATFORM)
    if len({one.id for one in wanted.items}) < len(wanted.items):
        raise ApiError("invalid_value", "A question is there twice.", param="items")
    secret, note = note_secret(asked), log.latest_checkpoint(asked.db)
    if note is None:
        raise ApiError("not_found", "Nothing is sealed yet.")
    sizes = dict.fromkeys(("content", "refuse", "answer"), 0)
    for one in wanted.items:
        sizes[one.kind] += 1
    statement = DrawStatement(
        model=wanted.model, seed=wanted.seed, began_at_s=wanted.began_at_s,
        is_trial=wanted.is_trial, rules=wanted.rules, judge_model=wanted.judge_model,
        banks=[QuestionBank(one.name, one.digest, one.size) for one in wanted.banks],
        answers_digest=wanted.answers_digest, sizes=sizes,
    )  # fmt: skip
    items = [JudgedItem(one.id, one.kind, one.blocked, one.verdicts) for one in wanted.items]
    calls = [one.request_id for one in wanted.items]
    made = evaluation_report.make(
        asked.db, statement, items, calls, log.checkpoint_of(note).origin, int(time.time() * 1e3)
    )
    found = evaluation_report.bundle(made, secret)
    detail = {"passes": made.passes, "on_record": made.on_record, "asked": made.asked,
              "manifest": found.manifest_digest}  # fmt: skip
    asked.note(PLATFORM, wanted.model, detail, action=EVALUATED)
    head = {"content-disposition": 'attachment; filename="evaluation.tar"'}
    return Response(found.tar, media_type="application/x-tar", headers=head)
