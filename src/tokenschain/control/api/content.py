"""Admin API: content of calls: what is kept of it, opening, export and erasure.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, BackgroundTasks, Depends
from pydantic import Field

from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.clearance import need_cleared
from tokenschain.control.api.context import (
    AdminRoute,
    ApiContext,
    Label,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_tenant
from tokenschain.control.audit import admin_log
from tokenschain.control.configuration import store
from tokenschain.control.content import content_archive, content_policies, erasure
from tokenschain.control.content.content_archive import ContentArchive, OpenedContent
from tokenschain.control.content.erasure import DestroyedKeys, Erased, Selection
from tokenschain.control.content.key_hierarchy import ContentKeys, KeyDestroyed
from tokenschain.control.duties import subject_requests
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.paging import page_of
from tokenschain.infra.security.suite import Sealer

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["content"])
Seeing = Annotated[RequestContext, Depends(Permission("content:read", Extent.ROWS))]
Setting = Annotated[
    RequestContext, Depends(Permission("content:write", Extent.TENANT, step_up=StepUp.ALWAYS))
]
Opening = Annotated[
    RequestContext,
    Depends(Permission("content:open", Extent.TENANT, step_up=StepUp.ALWAYS, keeps_answer=False)),
]
"""Words that erasure must reach are in no answer that is kept for an `Idempotency-Key`."""
Erasing = Annotated[
    RequestContext, Depends(Permission("content:erase", Extent.TENANT, step_up=StepUp.ALWAYS))
]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
EndUser = Annotated[str, Field(max_length=512, pattern=r"^[^\x00-\x1f]*$")]
Moment = Annotated[int, Field(ge=0, le=2**40)]
DAY_MS = 86_400_000
EXPORT_MAX = 50
"""Calls in one page of an export: each may have megabytes."""


class ContentPolicy(AnswerBody):
    """What is kept of what calls say, and how long."""

    tenant: str
    """Empty: of all tenants that have none."""
    project: str
    """Empty: of all of the tenant's projects that have none."""
    content: Literal["none", "hash", "redacted", "full"]
    retention: str
    """`6 months`, `3 years` or `days:N`."""
    changed_by: str
    changed_at_ms: int


class NewContentPolicy(RequestBody):
    """What is kept from now on, and how long."""

    example: ClassVar[Example] = {"tenant": "acme", "content": "redacted", "retention": "3 years"}
    tenant: MaybeLabel = ""
    project: MaybeLabel = ""
    content: Literal["none", "hash", "redacted", "full"]
    """`none`; `hash`: salted commitments alone; `redacted`: the words, personal data masked;
    `full`: the words."""
    retention: Annotated[str, Field(max_length=20)] = "6 months"
    """`6 months`, `3 years` or `days:N`; it only goes upwards."""


class OpenRequest(RequestBody):
    """Why somebody has to read what a call said."""

    example: ClassVar[Example] = {"reason": "complaint 4711"}
    reason: Reason


class CallContent(AnswerBody):
    """What a call said."""

    call_id: str
    tenant: str
    project: str
    started_ms: int
    kept: Literal["hash", "redacted", "full"]
    blocked: bool
    input: str
    """The request in the canonical form: JSON, byte for byte as it is committed to."""
    output: str
    """The answer as the model gave it, JSON; of a stream put together."""
    released: str
    """Of a blocked answer: what the caller got."""
    cut: bool
    """Whether a part is missing."""
    salt: str
    """With it anyone computes the commitments: HMAC-SHA-256 over `input\\0` and the bytes."""
    input_commitment: str
    """As the audit log's record `content_CALL` has it; empty where commitments alone are kept."""
    output_commitment: str


class ExportRequest(RequestBody):
    """Whose content is exported, of which time, and why."""

    example: ClassVar[Example] = {"tenant": "acme", "end_user": "ada", "reason": "request 12"}
    tenant: Label
    end_user: EndUser = ""
    """As callers name it; empty: all of the tenant's."""
    from_s: Moment = 0
    until_s: Moment | None = None
    reason: Reason
    cursor: Annotated[str, Field(max_length=500)] = ""
    """`next_cursor` of the page before."""


class NewErasure(RequestBody):
    """What is erased, and why."""

    example: ClassVar[Example] = {
        "tenant": "acme", "end_user": "ada", "reason": "request 12", "dry_run": True,
    }  # fmt: skip
    tenant: Label
    end_user: EndUser = ""
    """As callers name it; empty: all of the tenant's, its keys and what callers stored too."""
    before_s: Moment | None = None
    """Only calls that began before that Unix time."""
    reason: Reason
    dry_run: bool = False
    """Only count what would be erased."""


class ErasureDone(AnswerBody):
    """What an erasure did; of a dry run, what it would do."""

    id: str
    """Empty: a dry run."""
    contents: int
    held: int
    """Contents that legal holds keep."""
    keys: list[str]
    """Keys that were destroyed."""


class Erasure(AnswerBody):
    """An erasure on record."""

    id: str
    tenant: str
    subject: str
    """The end user, as a keyed hash; empty: all of the tenant's."""
    before_ms: int
    reason: str
    erased_by: str
    erased_at_ms: int
    contents: int
    held: int
    keys: list[str]


def keys_of(context: ApiContext) -> ContentKeys:
    """The keys of kept content."""
    return ContentKeys(context.engine, context.sealer, context.suite)


def archive_of(context: ApiContext, shared: Sealer) -> ContentArchive:
    """The archive of a control.

    Args:
        shared: opens what gateways sealed.
    """
    audited = context.settings.audit.sealing
    return ContentArchive(
        context.engine, shared, keys_of(context), audited=audited, rules=store.data_classes
    )


@router.put("/content-policies")
def put_content_policy(asked: Setting, wanted: NewContentPolicy) -> ContentPolicy:
    """Set what is kept of what a tenant's or a project's calls say, and how long.

    In force at all gateways within seconds. A shorter time than what holds there is refused.
    """
    asked.need(wanted.tenant or PLATFORM)
    asked.need_step_up()
    if wanted.tenant:
        need_tenant(asked, wanted.tenant)
    made = content_policies.put(
        asked.db, asked.context.engine, wanted.tenant, wanted.project, KeptContent(wanted.content),
        wanted.retention, asked.actor.id, _now_ms(),
    )  # fmt: skip
    target = f"{wanted.tenant}/{wanted.project}"
    asked.note(wanted.tenant, target, {"content": made["content"], "retention": made["retention"]})
    return ContentPolicy.model_validate(made)


@router.get("/content-policies")
def list_content_policies(
    asked: Seeing, page: Paged, tenant: NameQuery = None
) -> ListAnswer[ContentPolicy]:
    """List what is kept of what calls say, by tenant and project."""
    found = content_policies.page(asked.db, page, asked.tenant(tenant))
    return listed(ListAnswer[ContentPolicy], found, asked.visible(found.rows))


@router.post("/audit-log/content/{call_id}/open")
def open_content(asked: Opening, call_id: str, wanted: OpenRequest) -> CallContent:
    """Read what a call said; that it was read, by whom and why stands in the audit log."""
    row = content_archive.find(asked.db, call_id)
    if row is None or not asked.permitted(row["tenant"]):
        raise _nothing()
    asked.need_step_up()
    need_cleared(asked, row["tenant"], row["data_class"])
    _need_second_of_many(asked, row["tenant"])
    try:
        opened = content_archive.open_content(asked.db, keys_of(asked.context), row)
    except KeyDestroyed:
        raise _nothing() from None
    asked.note(row["tenant"], call_id, {"reason": wanted.reason})
    return _shown(row, opened)


def _need_second_of_many(asked: RequestContext, tenant: str) -> None:
    """Insist on a second person for whoever opens many, one by one."""
    day_ago_ms, most = _now_ms() - DAY_MS, asked.context.settings.control.contents_opened_alone_max
    opened = admin_log.count_of(asked.db, asked.actor.id, asked.action, day_ago_ms)
    if opened >= most:
        target = f"{tenant}: more than {most} within a day"
        need_second_person(asked, "content:open", tenant, target, None, keeps=True)


def end_user_hash(asked: RequestContext, tenant: str, named: str) -> str:
    """What stands for an end user where nobody is to read who it is."""
    context = asked.context
    secrets = context.publisher.shared_secrets
    return subject_requests.end_user_hash(context.suite, secrets, tenant, named)


@router.post("/audit-log/content/export")
def export_content(asked: Opening, wanted: ExportRequest) -> ListAnswer[CallContent]:
    """Export what a tenant's or one end user's calls said, page by page; each is on record."""
    asked.need(wanted.tenant)
    asked.need_step_up()
    need_tenant(asked, wanted.tenant)
    keys, named = keys_of(asked.context), wanted.end_user
    whose = [end_user_hash(asked, wanted.tenant, named), wanted.from_s, wanted.until_s]
    target = f"{wanted.tenant} {wanted.from_s}..{wanted.until_s or ''}: {wanted.reason}"
    need_second_person(asked, "content:export", wanted.tenant, target, whose, keeps=True)
    subjects = keys.subjects(asked.db, wanted.tenant, named) if named else None
    until_ms = None if wanted.until_s is None else wanted.until_s * 1_000
    found = content_archive.page(
        asked.db, page_of(EXPORT_MAX, wanted.cursor), wanted.tenant, subjects,
        wanted.from_s * 1_000, until_ms,
    )  # fmt: skip
    for classes in {row["data_class"] for row in found.rows}:
        need_cleared(asked, wanted.tenant, classes)
    rows = content_archive.open_all(asked.db, keys, found.rows)
    subject = subjects[0] if subjects else ""
    detail = {"reason": wanted.reason, "subject": subject, "contents": len(rows)}
    asked.note(wanted.tenant, wanted.tenant, detail)
    shown = [_shown(row, opened) for row, opened in rows]
    return ListAnswer[CallContent](data=shown, next_cursor=found.next_cursor)


@router.post("/content-erasures")
def erase_content(asked: Erasing, wanted: NewErasure, background: BackgroundTasks) -> ErasureDone:
    """Erase what calls of an end user or a tenant said: its keys are destroyed.

    What legal holds keep stays. The audit log keeps its records, and gets one of the erasure.
    """
    asked.need(wanted.tenant)
    asked.need_step_up()
    need_tenant(asked, wanted.tenant)
    if not wanted.dry_run:
        whose = [end_user_hash(asked, wanted.tenant, wanted.end_user), wanted.before_s]
        target = f"{wanted.tenant}: {wanted.reason}"
        need_second_person(asked, "content:erase", wanted.tenant, target, whose)
    keys = keys_of(asked.context)
    # Content of who is erased may be on its way.
    named = keys.subjects if wanted.dry_run else keys.made_subjects
    subjects = named(asked.db, wanted.tenant, wanted.end_user) if wanted.end_user else None
    now_ms = _now_ms()
    before_ms = now_ms if wanted.before_s is None else min(now_ms, wanted.before_s * 1_000)
    whole = subjects is None and wanted.before_s is None
    selection = Selection(wanted.tenant, subjects, before_ms, whole)
    if wanted.dry_run:
        done = erasure.preview(asked.db, selection)
    else:
        done = erased(asked, background, selection, wanted.reason, now_ms)
    return ErasureDone(**done._asdict())


def erased(
    asked: RequestContext, background: BackgroundTasks, wanted: Selection, reason: str, now_ms: int
) -> Erased:
    """Erase, so that no backup and no free space has it."""
    done = erasure.erase(asked.db, wanted, reason, asked.author, now_ms)
    DestroyedKeys(asked.context.settings.destroyed_keys_path).note(done.keys)
    background.add_task(erasure.clean, asked.context.engine)
    return done


@router.get("/content-erasures")
def list_erasures(asked: Seeing, page: Paged, tenant: NameQuery = None) -> ListAnswer[Erasure]:
    """List erasures, those that retention classes made too; the latest first."""
    found = erasure.page(asked.db, page, asked.tenant(tenant))
    return listed(ListAnswer[Erasure], found, asked.visible(found.rows))


def _shown(row: Mapping[str, Any], opened: OpenedContent) -> CallContent:
    found = opened.content
    return CallContent(
        call_id=row["call_id"], tenant=row["tenant"], project=row["project"],
        started_ms=row["started_ms"], kept=row["kept"], blocked=row["blocked"],
        input=found.input.decode(), output=found.output.decode(), released=found.released.decode(),
        cut=found.cut, salt=found.salt.hex(), input_commitment=opened.commitments[0],
        output_commitment=opened.commitments[1],
    )  # fmt: skip


def _nothing() -> ApiError:
    why = "Nothing is kept of what this call said, or it was erased."
    return ApiError("not_found", why, param="call_id")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
