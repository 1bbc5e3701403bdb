"""Admin API: incidents with their clocks, timeline and pre-filled report.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    AdminRoute,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found, need_tenant
from tokenschain.control.duties import incidents
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.compliance import incident_report
from tokenschain.core.compliance.incidents import (
    ClockName,
    ClockState,
    IncidentKind,
    OperatorKind,
    Severity,
)
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["compliance"])
Listing = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.ROWS))]
Reading = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.TENANT))]
Opening = Annotated[RequestContext, Depends(Permission("compliance:write", Extent.TENANT))]
Changing = Annotated[
    RequestContext, Depends(Permission("compliance:write", Extent.TENANT, "compliance:read"))
]
Second = Annotated[int, Field(ge=0, le=2**42)]
"""Unix time."""
_Text = Annotated[str, Field(max_length=4_000, pattern=r"^[^\x00]*$")]
_Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
_Model = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")]


class NewIncident(RequestBody):
    """What happened, to whom, and since when."""

    example: ClassVar[Example] = {"title": "key leaked", "kind": "security", "severity": "larger"}
    tenant: MaybeLabel = ""
    """Empty: the whole platform's, which takes the permission there."""
    title: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
    kind: IncidentKind = "security"
    severity: Severity = "general"
    """From `larger` on its report is due within hours."""
    operator: OperatorKind = "operator"
    """Whose it is: reports of critical infrastructure are due within an hour, of central bodies
    within two, of others within four."""
    model: _Model = ""
    """Empty: all."""
    description: _Text = ""
    began_at_s: Second | None = None
    """By default when it was detected."""
    detected_at_s: Second | None = None
    """Now by default: clocks run from here."""


class IncidentChange(RequestBody):
    """What is known by now; what is left out stays."""

    example: ClassVar[Example] = {"measures": "key revoked", "note": "told the tenant"}
    title: (
        Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")] | None
    ) = None
    kind: IncidentKind | None = None
    severity: Severity | None = None
    operator: OperatorKind | None = None
    model: _Model | None = None
    description: _Text | None = None
    measures: _Text | None = None
    began_at_s: Second | None = None
    ended_at_s: Second | None = None
    note: Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")] = ""
    """For the timeline."""


class MadeReport(RequestBody):
    """That a report was made to an authority."""

    example: ClassVar[Example] = {"reported_to": "the province's office", "reference": "2026-17"}
    final: bool = False
    """Whether it is the final one, after the end."""
    reported_to: _Line
    reference: _Line = ""
    """The authority's number for it."""
    at_s: Second | None = None
    """Now by default."""


class IncidentClock(AnswerBody):
    """A report that is due."""

    name: ClockName
    started_at_s: int
    due_at_s: int
    done_at_s: int | None
    state: ClockState
    rule: str
    confirmed: bool
    """False: known from secondary sources only."""


class Incident(AnswerBody):
    """What happened, and by when it is reported."""

    id: str
    tenant: str
    title: str
    kind: IncidentKind
    severity: Severity
    operator: OperatorKind
    model: str
    description: str
    measures: str
    began_at_s: int
    detected_at_s: int
    ended_at_s: int | None
    reported_at_s: int | None
    final_at_s: int | None
    reported_to: str
    reference: str
    created_by: str
    created_at_s: int
    clocks: list[IncidentClock]


class IncidentEvent(AnswerBody):
    """Something that was done."""

    at_s: int
    actor: str
    action: str
    text: str


class IncidentDetail(Incident):
    """An incident with its timeline."""

    timeline: list[IncidentEvent]


class CallGroupAnswer(AnswerBody):
    """Calls in the time of an incident that are alike."""

    tenant: str
    model_asked: str
    model_served: str
    upstream: str
    filing: str
    outcome: str
    calls: int
    first_ms: int
    last_ms: int


class IncidentReport(AnswerBody):
    """A report to be completed by a person."""

    markdown: str
    missing: list[str]
    """What a person has to add."""
    complete: bool
    """Whether all calls of the time are counted."""
    end_users: int
    groups: list[CallGroupAnswer]


@router.post("/incidents", status_code=201)
def create_incident(asked: Opening, wanted: NewIncident) -> Incident:
    """Open an incident: its clocks run from when it was detected."""
    asked.need(wanted.tenant or PLATFORM)
    if wanted.tenant:
        need_tenant(asked, wanted.tenant)
    now_s = int(time.time())
    values = wanted.model_dump()
    values["detected_at_s"] = now_s if wanted.detected_at_s is None else wanted.detected_at_s
    if wanted.began_at_s is None:
        values["began_at_s"] = values["detected_at_s"]
    made = incidents.add(asked.db, values, asked.actor.id, now_s)
    asked.note(wanted.tenant, made["id"], {"title": wanted.title, "severity": wanted.severity})
    return _shown(made, now_s)


@router.get("/incidents")
def list_incidents(
    asked: Listing, page: Paged, tenant: NameQuery = None, is_open: bool = False
) -> ListAnswer[Incident]:
    """List incidents, the latest first."""
    now_s = int(time.time())
    found = incidents.page(asked.db, page, asked.tenant(tenant), is_open=is_open)
    rows = [_with_clocks(row, now_s) for row in asked.visible(found.rows)]
    return listed(ListAnswer[Incident], found, rows)


@router.get("/incidents/{incident_id}")
def read_incident(asked: Reading, incident_id: str) -> IncidentDetail:
    """Read an incident with its clocks and timeline."""
    found = _found(asked, incident_id)
    timeline = [
        {name: one[name] for name in ("at_s", "actor", "action", "text")}
        for one in incidents.timeline(asked.db, incident_id)
    ]
    shown = _with_clocks(found, int(time.time())) | {"timeline": timeline}
    return IncidentDetail.model_validate(shown)


@router.patch("/incidents/{incident_id}")
def change_incident(asked: Changing, incident_id: str, wanted: IncidentChange) -> Incident:
    """Change what is known of an incident, or add a note to its timeline; `ended_at_s` ends it."""
    found = _found(asked, incident_id)
    values = wanted.model_dump(exclude_none=True, exclude={"note"})
    if not values and not wanted.note:
        raise ApiError("invalid_value", "Nothing is to be changed: name a field, or a note.")
    said = wanted.note or ", ".join(values)
    action = "ended" if wanted.ended_at_s is not None else "changed" if values else "noted"
    return _changed(asked, found, values, action, said)


@router.post("/incidents/{incident_id}/report")
def report_incident(asked: Changing, incident_id: str, wanted: MadeReport) -> Incident:
    """Note that an incident was reported to an authority: that stops its clock."""
    found = _found(asked, incident_id)
    at_s = int(time.time()) if wanted.at_s is None else wanted.at_s
    field = "final_at_s" if wanted.final else "reported_at_s"
    if found[field] is not None:
        raise ApiError("conflict", "That report is noted already.")
    values: dict[str, Any] = {field: at_s, "reported_to": wanted.reported_to}
    if wanted.reference:
        values["reference"] = wanted.reference
    said = " ".join((wanted.reported_to, wanted.reference)).strip()
    return _changed(asked, found, values, "reported", said)


@router.get("/incidents/{incident_id}/report")
def draft_incident_report(
    asked: Reading, incident_id: str, language: Literal["zh", "en"] = "zh"
) -> IncidentReport:
    """Draft the report of an incident from what the platform knows: the calls concerned, by tenant,
    model, upstream and outcome, its timeline and freezes; what is missing is named."""
    found = _found(asked, incident_id)
    now_s = int(time.time())
    facts = incidents.concerned(asked.db, found, now_s)
    draft = incident_report.draft(
        found, facts.groups, complete=facts.complete, end_users=facts.end_users,
        freezes=facts.freezes, timeline=incidents.timeline(asked.db, incident_id),
        language=language,
    )  # fmt: skip
    return IncidentReport(
        markdown=draft.markdown, missing=draft.missing, complete=facts.complete,
        end_users=facts.end_users,
        groups=[CallGroupAnswer(**one._asdict()) for one in facts.groups],
    )  # fmt: skip


def _changed(
    asked: RequestContext, found: dict[str, Any], values: Mapping[str, Any], action: str, text: str
) -> Incident:
    now_s = int(time.time())
    row = incidents.change(asked.db, found, values, action, text, asked.actor.id, now_s)
    asked.note(found["tenant"], found["id"], {"action": action, "fields": sorted(values)})
    return _shown(row, now_s)


def _found(asked: RequestContext, incident_id: str) -> dict[str, Any]:
    return need_found(asked, incidents.find(asked.db, incident_id), "compliance:read", "incident")


def _with_clocks(row: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    clocks = [IncidentClock.model_validate(one) for one in incidents.clocks(row, now_s)]
    return {**row, "clocks": clocks}


def _shown(row: Mapping[str, Any], now_s: int) -> Incident:
    return Incident.model_validate(_with_clocks(row, now_s))
