"""Compliance pages: controls of a standard as the platform answers them; second persons."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, refusal_of, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit

PATH = "/console/compliance"
APPROVALS = f"{PATH}/approvals"
STANDARDS = ("mlps3", "gbt45654", "labelling", "pipl", "gbt39786", "owasp-llm")
LISTED_MAX = 100
WAIT_MAX_S = 20.0
"""Queries of a report look at the last segments of the audit log, and at all keys."""


class TwoLanguageText(msgspec.Struct):
    """A text in both languages."""

    en: str
    zh: str


class ControlLine(msgspec.Struct):
    """A control; see `GET /compliance/reports/{standard}`."""

    id: str
    clause: str
    asks: TwoLanguageText
    state: str
    gaps: list[TwoLanguageText]
    values: dict[str, object]
    confidence: str


class ReportPage(msgspec.Struct):
    """A report."""

    title: TwoLanguageText
    source: str
    at_ms: int
    counts: dict[str, int]
    controls: list[ControlLine]


class ApprovalRow(msgspec.Struct):
    """An act that takes two people; see `GET /approvals`."""

    id: str
    operation: str
    tenant: str
    target: str
    state: str
    requested_by: str
    requested_at_s: int
    expires_at_s: int
    decided_by: str | None
    reason: str


class ApprovalRows(msgspec.Struct):
    """A page of them."""

    data: list[ApprovalRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The controls of one standard, those with something missing first."""
    standard = _standard(visit)
    api = visit.api.with_wait(WAIT_MAX_S)
    parts = await visit.parts(found=api.get(f"/compliance/reports/{standard}", ReportPage))
    return renderer.page(
        "compliance.html", visit, found=parts["found"], standard=standard, standards=STANDARDS
    )


def _standard(visit: Visit) -> str:
    wanted = visit.query.get("standard", STANDARDS[0])
    if wanted not in STANDARDS:
        raise ApiRefusal(404, "not_found", "There is no such standard.")
    return wanted


async def download(visit: Visit, _renderer: Renderer) -> Response:
    """The signed bundle of a standard."""
    standard = _standard(visit)
    api = visit.api.with_wait(WAIT_MAX_S)
    answer = await api.ask("GET", f"/compliance/reports/{standard}/bundle")
    if answer.status >= 300:
        raise refusal_of(answer)
    response = Response(answer.body, media_type="application/x-tar")
    name = f"compliance-{standard}.tar"
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


async def list_approvals(visit: Visit, renderer: Renderer) -> Response:
    """What waits for a second person, and what was decided; the latest first."""
    return await _approvals(visit, renderer, None)


async def _approvals(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    parts = await visit.parts(found=visit.api.get("/approvals", ApprovalRows, query))
    return renderer.form("approvals.html", visit, refusal, found=parts["found"])


async def decide(visit: Visit, renderer: Renderer) -> Response:
    """Approve or reject what somebody else asked for."""
    name = segment(visit.form.get("approval", ""))
    verb = "approve" if visit.form.get("decision") == "approve" else "reject"
    body = {"reason": visit.form.get("reason", "").strip()}
    try:
        await visit.api.send("POST", f"/approvals/{name}/{verb}", ApprovalRow, body)
    except ApiRefusal as refusal:
        return await _approvals(visit, renderer, refusal)
    return RedirectResponse(visit.link(APPROVALS), 303)


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/export"): download,
    ("GET", APPROVALS): list_approvals,
    ("POST", f"{APPROVALS}/decide"): decide,
}
