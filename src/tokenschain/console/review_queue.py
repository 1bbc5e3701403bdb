"""Review queue pages: cases by filter, claimed, opened and decided, one by one or several."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.moderation import category_names, risk_names
from tokenschain.console.proposals import PATH as PROPOSALS
from tokenschain.console.proposals import ProposalRow
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit

PATH = "/console/moderation/queue"
CASE = "/console/moderation/case"
LISTED_MAX = 50
CaseState = Literal["open", "second", "escalated", "decided"]
Decision = Literal["uphold", "release", "escalate"]
STATES = get_args(CaseState)
DECISIONS = get_args(Decision)
FILTERS = ("state", "category", "overdue", "mine", "appeals")
REPLY_CHARACTERS_MAX = 1_000
_REVIEW = "moderation:review"
_CHOSEN = "case-"
"""What the fields of cases begin with that were ticked."""


class CaseRow(msgspec.Struct):
    """A call that people look at; see `GET /moderation-cases`."""

    id: str
    event_id: str
    tenant: str
    project: str
    key_id: str
    api: str
    model: str
    started_ms: int
    moderation: str
    detail: str
    category: str
    due_at_s: int
    overdue: bool
    state: CaseState
    second_review: bool
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
    language: str = ""
    appeal_of: str = ""
    reply: str = ""


class CaseRows(msgspec.Struct):
    """A page of them."""

    data: list[CaseRow]
    next_cursor: str | None = None


class OpenedText(msgspec.Struct):
    """A text of a case, once it was opened."""

    direction: str
    text: str
    spans: list[tuple[int, int]]
    cut: bool

    @property
    def pieces(self) -> list[TextPiece]:
        """The text, cut where something was found."""
        found, at = [], 0
        for begin, end in sorted(self.spans):
            start, until = max(begin, at), max(end, at)
            found += [
                TextPiece(self.text[at:start], found=False),
                TextPiece(self.text[start:until], found=True),
            ]
            at = until
        return [one for one in [*found, TextPiece(self.text[at:], found=False)] if one.text]


class TextPiece(NamedTuple):
    """A part of a text, and whether it is what was found."""

    text: str
    found: bool


class OpenedTexts(msgspec.Struct):
    """All texts of a case."""

    data: list[OpenedText]


class CaseOutcome(msgspec.Struct):
    """What became of one of several cases."""

    id: str
    state: CaseState | None
    error: str


class CaseOutcomes(msgspec.Struct):
    """Of all of them."""

    data: list[CaseOutcome]


# --- the list --------------------------------------------------------------------------------


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Cases, what is due first first."""
    return await _list(visit, renderer)


async def _list(
    visit: Visit,
    renderer: Renderer,
    refusal: ApiRefusal | None = None,
    wrong: str = "",
    done: list[CaseOutcome] | None = None,
) -> Response:
    given = {name: visit.query.get(name, "").strip() for name in FILTERS}
    query = {
        "state": given["state"] if given["state"] in STATES else None,
        "category": given["category"] or None,
        "overdue": "true" if given["overdue"] else None,
        "mine": "true" if given["mine"] else None,
        "appeals": "true" if given["appeals"] else None,
        "limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant,
    }  # fmt: skip
    parts = await visit.parts(cases=visit.api.get("/moderation-cases", CaseRows, query))
    values = {
        "cases": parts["cases"], "given": given, "states": STATES, "decisions": DECISIONS,
        "names": category_names(visit), "filtered": any(given.values()), "done": done or [],
        "may_review": visit.reader.may(_REVIEW),
    }  # fmt: skip
    if visit.fragment:
        return renderer.page_or_part("review_queue.html", "_review_queue.html", visit, **values)
    return renderer.form("review_queue.html", visit, refusal, wrong, **values)


async def decide_several(visit: Visit, renderer: Renderer) -> Response:
    """Decide the cases that were ticked, of one tenant or several."""
    chosen: dict[str, list[str]] = {}
    for name, tenant in visit.form.items():
        if name.startswith(_CHOSEN):
            chosen.setdefault(tenant, []).append(name.removeprefix(_CHOSEN))
    reason = visit.form.get("reason", "").strip()
    if not chosen or not reason:
        return await _list(visit, renderer, wrong="queue.nothing_chosen")
    done: list[CaseOutcome] = []
    for tenant, ids in chosen.items():
        body = {"tenant": tenant, "case_ids": ids, "reason": reason,
                "decision": visit.form.get("decision", "")}  # fmt: skip
        try:
            found = await visit.api.send("POST", "/moderation-cases/decide", CaseOutcomes, body)
        except ApiRefusal as refusal:
            return await _list(visit, renderer, refusal, done=done)
        done += found.data
    return await _list(visit, renderer, done=done)


# --- one case --------------------------------------------------------------------------------


async def read(visit: Visit, renderer: Renderer) -> Response:
    """A case, without its texts."""
    return await _case(visit, renderer, visit.query.get("case", ""))


async def _case(
    visit: Visit,
    renderer: Renderer,
    case_id: str,
    refusal: ApiRefusal | None = None,
    texts: list[OpenedText] | None = None,
) -> Response:
    case = await visit.api.get(f"/moderation-cases/{segment(case_id)}", CaseRow)
    may_decide = visit.reader.may_at(_REVIEW, case.tenant) and case.state != "decided"
    return renderer.form(
        "review_case.html", visit, refusal, case=case, texts=texts, decisions=DECISIONS,
        names=category_names(visit), may_open=visit.reader.may_at(_REVIEW, case.tenant),
        may_decide=may_decide and case.claimed_by in (None, visit.reader.id),
        risks=risk_names(visit), reply_max=REPLY_CHARACTERS_MAX,
    )  # fmt: skip


async def open_texts(visit: Visit, renderer: Renderer) -> Response:
    """The texts of a case, which the API notes in the audit log; shown in this answer only."""
    case_id = visit.form.get("case", "")
    path = f"/moderation-cases/{segment(case_id)}/open"
    try:
        found = await visit.api.send("POST", path, OpenedTexts)
    except ApiRefusal as refusal:
        return await _case(visit, renderer, case_id, refusal)
    return await _case(visit, renderer, case_id, texts=found.data)


async def claim(visit: Visit, renderer: Renderer) -> Response:
    """Take a case for a while."""
    return await _act(visit, renderer, "claim", None)


async def give_back(visit: Visit, renderer: Renderer) -> Response:
    """Put a case back."""
    return await _act(visit, renderer, "return", None)


async def decide(visit: Visit, renderer: Renderer) -> Response:
    """Decide a case."""
    body = {name: visit.form.get(name, "").strip() for name in ("decision", "reason", "reply")}
    return await _act(visit, renderer, "decide", body)


async def propose(visit: Visit, renderer: Renderer) -> Response:
    """Propose what the case shows that packs lack; another person decides."""
    case_id, kind = visit.form.get("case", ""), visit.form.get("kind", "")
    body = {name: visit.form.get(name, "").strip() for name in ("kind", "word", "phrase")}
    if kind == "word":
        body |= {"risk": visit.form.get("risk", ""), "phrase": ""}
    path = f"/moderation-cases/{segment(case_id)}/proposals"
    try:
        await visit.api.send("POST", path, ProposalRow, body)
    except ApiRefusal as refusal:
        return await _case(visit, renderer, case_id, refusal)
    return RedirectResponse(visit.link(PROPOSALS), 303)


async def _act(
    visit: Visit, renderer: Renderer, verb: str, body: dict[str, str] | None
) -> Response:
    case_id = visit.form.get("case", "")
    path = f"/moderation-cases/{segment(case_id)}/{verb}"
    try:
        await visit.api.send("POST", path, CaseRow, body)
    except ApiRefusal as refusal:
        return await _case(visit, renderer, case_id, refusal)
    return RedirectResponse(visit.link(CASE, case=case_id), 303)


PAGES: Pages = {
    ("GET", PATH): show,
    ("POST", PATH): decide_several,
    ("GET", CASE): read,
    ("POST", f"{CASE}/open"): open_texts,
    ("POST", f"{CASE}/claim"): claim,
    ("POST", f"{CASE}/return"): give_back,
    ("POST", f"{CASE}/decide"): decide,
    ("POST", f"{CASE}/propose"): propose,
}
