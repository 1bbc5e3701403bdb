"""Duties pages: what is due, incidents, requests of end users, the register of filings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core import presentation
from tokenschain.infra.security import secrets

PATH = "/console/duties"
INCIDENTS, INCIDENT = f"{PATH}/incidents", f"{PATH}/incident"
REQUESTS, FILINGS = f"{PATH}/requests", f"{PATH}/filings"
LISTED_MAX = 100
WRITE = "compliance:write"
KINDS = ("content", "personal-data", "security", "availability")
SEVERITIES = ("general", "larger", "major", "extremely-major")
OPERATORS = ("operator", "central-body", "critical-infrastructure")
REQUEST_KINDS = ("access", "copy", "correction", "deletion", "restriction")
DRAFT_NAME = "incident-report.md"


class DutyRow(msgspec.Struct):
    """Something that is due; see `GET /compliance/deadlines`."""

    subject: str
    id: str
    tenant: str
    duty: str
    due_at_s: int
    due_on: str
    certain: bool
    state: str
    rule: str
    working_days: int | None = None
    calendar_ends_on: str | None = None


class DutyRows(msgspec.Struct):
    """All of them."""

    data: list[DutyRow]


class ClockRow(msgspec.Struct):
    """A report that is due, of an incident."""

    name: str
    due_at_s: int
    done_at_s: int | None
    state: str
    rule: str
    confirmed: bool


class TimelineEntry(msgspec.Struct):
    """Something that was done about an incident."""

    at_s: int
    actor: str
    action: str
    text: str


class IncidentRow(msgspec.Struct):
    """An incident; see `GET /incidents`."""

    id: str
    tenant: str
    title: str
    kind: str
    severity: str
    operator: str
    model: str
    description: str
    measures: str
    began_at_s: int
    detected_at_s: int
    ended_at_s: int | None
    reported_to: str
    reference: str
    clocks: list[ClockRow]
    timeline: list[TimelineEntry] = []


class IncidentRows(msgspec.Struct):
    """A page of them."""

    data: list[IncidentRow]
    next_cursor: str | None = None


class IncidentDraft(msgspec.Struct):
    """A report to be completed; see `GET /incidents/{incident_id}/report`."""

    markdown: str
    missing: list[str]
    complete: bool


class SubjectRow(msgspec.Struct):
    """A request of an end user; see `GET /subject-requests`."""

    id: str
    tenant: str
    kind: str
    end_user: str
    note: str
    state: str
    received_at_s: int
    due_at_s: int
    decided_by: str | None
    decided_at_s: int | None
    reason: str
    outcome: dict[str, int]


class SubjectRows(msgspec.Struct):
    """A page of them."""

    data: list[SubjectRow]
    next_cursor: str | None = None


class RegisteredNumber(msgspec.Struct):
    """What a filing says."""

    number: str
    source: str
    models: list[str]
    kind: str = "generative-ai"
    title: str = ""
    filer: str = ""
    province: str = ""
    filed_on: str = ""
    ended_on: str = ""
    modified: bool = False

    def state(self, today: date) -> str:
        """Whether it holds: `holds`, `to-come` or `ended`."""
        day = today.isoformat()
        if self.filed_on > day:
            return "to-come"
        return "ended" if self.ended_on and self.ended_on <= day else "holds"


class FilingRow(msgspec.Struct):
    """A filing of the register; see `GET /filings`."""

    name: str
    spec: RegisteredNumber


class FilingRows(msgspec.Struct):
    """A page of them."""

    data: list[FilingRow]
    next_cursor: str | None = None


class PolicyTerms(msgspec.Struct):
    """What of a moderation policy says whether filed models alone may answer; its answer leaves
    out what is by default."""

    state: str = "shadow"
    audience: str = "public"
    require_filed: bool = False


class PolicyRow(msgspec.Struct):
    """A moderation policy; see `GET /moderation-policies`."""

    name: str
    tenant: str
    spec: PolicyTerms


class PolicyRows(msgspec.Struct):
    """A page of them."""

    data: list[PolicyRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """What is due, the first due first; what is done comes last."""
    query = {"tenant": visit.tenant}
    parts = await visit.parts(found=visit.api.get("/compliance/deadlines", DutyRows, query))
    return renderer.page("duties.html", visit, found=parts["found"])


# --- incidents -----------------------------------------------------------------------------------


async def list_incidents(visit: Visit, renderer: Renderer) -> Response:
    """Incidents, the latest first."""
    found = visit.api.get("/incidents", IncidentRows, _listed(visit))
    parts = await visit.parts(found=found)
    return renderer.page("incidents.html", visit, found=parts["found"])


async def ask_incident(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new incident."""
    if not visit.reader.may(WRITE):
        raise forbidden(WRITE)
    given = {"of": visit.shown_tenant or "", "kind": "security", "severity": "larger",
             "operator": "operator"}  # fmt: skip
    return _incident_form(visit, renderer, given, None)


async def open_incident(visit: Visit, renderer: Renderer) -> Response:
    """Open an incident: its clocks run from now."""
    given = _given(visit, "of", "title", "kind", "severity", "operator", "model", "description")
    body = {("tenant" if name == "of" else name): value for name, value in given.items()}
    try:
        made = await visit.api.send("POST", "/incidents", IncidentRow, body, visit.once)
    except ApiRefusal as refusal:
        return _incident_form(visit, renderer, given, refusal)
    return RedirectResponse(visit.link(INCIDENT, incident=made.id), 303)


def _incident_form(
    visit: Visit, renderer: Renderer, given: Mapping[str, str], refusal: ApiRefusal | None
) -> Response:
    return renderer.form(
        "incident_new.html", visit, refusal, given=given, once=secrets.new_id("once"),
        kinds=KINDS, severities=SEVERITIES, operators=OPERATORS,
    )  # fmt: skip


async def show_incident(visit: Visit, renderer: Renderer) -> Response:
    """One incident: clocks, what is known, timeline, and the report as far as it is filled in."""
    return await _incident(visit, renderer, visit.query.get("incident", ""), None)


async def _incident(
    visit: Visit, renderer: Renderer, named: str, refusal: ApiRefusal | None
) -> Response:
    one = _address(named)
    found = await visit.api.get(one, IncidentRow)
    query = {"language": visit.language}
    parts = await visit.parts(draft=visit.api.get(f"{one}/report", IncidentDraft, query))
    return renderer.form(
        "incident.html", visit, refusal, incident=found, draft=parts["draft"],
        may_write=visit.reader.may_at(WRITE, found.tenant),
    )  # fmt: skip


async def change_incident(visit: Visit, renderer: Renderer) -> Response:
    """Add to what is known, end it, or note that it was reported."""
    named = visit.form.get("incident", "")
    one, act = _address(named), visit.form.get("act", "")
    try:
        if act in ("report", "report-final"):
            body: dict[str, Any] = _given(visit, "reported_to", "reference")
            body["final"] = act == "report-final"
            await visit.api.send("POST", f"{one}/report", IncidentRow, body)
        else:
            typed = _given(visit, "measures", "note")
            body = {name: value for name, value in typed.items() if value}
            if act == "end":
                body["ended_at_s"] = int(time.time())
            await visit.api.send("PATCH", one, IncidentRow, body)
    except ApiRefusal as refusal:
        return await _incident(visit, renderer, named, refusal)
    return RedirectResponse(visit.link(INCIDENT, incident=named), 303)


async def download_draft(visit: Visit, _renderer: Renderer) -> Response:
    """The report as far as it is filled in, as a file."""
    one = _address(visit.query.get("incident", ""))
    query = {"language": visit.language}
    found = await visit.api.get(f"{one}/report", IncidentDraft, query)
    response = Response(found.markdown, media_type="text/markdown; charset=utf-8")
    response.headers["content-disposition"] = f'attachment; filename="{DRAFT_NAME}"'
    return response


def _address(named: str) -> str:
    if not named:
        raise ApiRefusal(404, "not_found", "There is no such incident.")
    return f"/incidents/{segment(named)}"


# --- requests of end users -----------------------------------------------------------------------


async def list_requests(visit: Visit, renderer: Renderer) -> Response:
    """Requests of end users, the first due first, and the form for another."""
    return await _requests(visit, renderer, None)


async def _requests(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    found = visit.api.get("/subject-requests", SubjectRows, _listed(visit))
    parts = await visit.parts(found=found)
    return renderer.form(
        "subject_requests.html", visit, refusal, found=parts["found"], kinds=REQUEST_KINDS,
        once=secrets.new_id("once"), may_take=visit.reader.may(WRITE),
    )  # fmt: skip


async def take_request(visit: Visit, renderer: Renderer) -> Response:
    """Take a request: from now on it is due."""
    given = _given(visit, "of", "kind", "end_user", "note")
    body = {"tenant": given.pop("of"), **given}
    try:
        await visit.api.send("POST", "/subject-requests", SubjectRow, body, visit.once)
    except ApiRefusal as refusal:
        return await _requests(visit, renderer, refusal)
    return RedirectResponse(visit.link(REQUESTS), 303)


async def decide_request(visit: Visit, renderer: Renderer) -> Response:
    """Say that a request was done or is refused; a deletion that is done deletes."""
    name = segment(visit.form.get("request", ""))
    decision = "done" if visit.form.get("decision") == "done" else "refused"
    body = {"decision": decision, "reason": visit.form.get("reason", "").strip()}
    try:
        await visit.api.send("POST", f"/subject-requests/{name}/decide", SubjectRow, body)
    except ApiRefusal as refusal:
        return await _requests(visit, renderer, refusal)
    return RedirectResponse(visit.link(REQUESTS), 303)


# --- filings -------------------------------------------------------------------------------------


async def list_filings(visit: Visit, renderer: Renderer) -> Response:
    """The register of filings, and which policies let filed models alone answer."""
    parts = await visit.parts(
        found=visit.api.get("/filings", FilingRows, _listed(visit)),
        policies=visit.api.get("/moderation-policies", PolicyRows, {"limit": LISTED_MAX}),
    )
    return renderer.page(
        "filings.html", visit, found=parts["found"], policies=parts["policies"],
        today=date.fromisoformat(presentation.date(time.time())),
    )  # fmt: skip


def _listed(visit: Visit) -> dict[str, Any]:
    return {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}


def _given(visit: Visit, *names: str) -> dict[str, str]:
    return {name: visit.form.get(name, "").strip() for name in names}


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", INCIDENTS): list_incidents,
    ("GET", f"{INCIDENTS}/new"): ask_incident,
    ("POST", f"{INCIDENTS}/new"): open_incident,
    ("GET", INCIDENT): show_incident,
    ("POST", f"{INCIDENT}/change"): change_incident,
    ("GET", f"{INCIDENT}/draft"): download_draft,
    ("GET", REQUESTS): list_requests,
    ("POST", f"{REQUESTS}/new"): take_request,
    ("POST", f"{REQUESTS}/decide"): decide_request,
    ("GET", FILINGS): list_filings,
}
