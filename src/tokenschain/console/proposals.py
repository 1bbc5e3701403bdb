"""Proposals page: words and hard negatives for keyword packs, proposed from cases and decided."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.moderation import risk_names
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit

PATH = "/console/moderation/proposals"
LISTED_MAX = 50
ProposalState = Literal["proposed", "accepted", "refused"]
STATES = get_args(ProposalState)


class ProposalRow(msgspec.Struct):
    """A word, or a phrase in which one is harmless; see `GET /moderation-proposals`."""

    id: str
    tenant: str
    case_id: str
    kind: Literal["word", "hard_negative"]
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


class ProposalRows(msgspec.Struct):
    """A page of them."""

    data: list[ProposalRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Proposals, those that wait unless others are asked for."""
    return await _page(visit, renderer, None)


async def _page(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    state = visit.choice("state", STATES)
    query: dict[str, str | int | None] = {
        "state": state, "limit": LISTED_MAX, "cursor": visit.query.get("cursor"),
        "tenant": visit.tenant,
    }  # fmt: skip
    parts = await visit.parts(found=visit.api.get("/moderation-proposals", ProposalRows, query))
    return renderer.form(
        "proposals.html", visit, refusal, found=parts["found"], state=state, states=STATES,
        risks=risk_names(visit),
    )  # fmt: skip


async def decide(visit: Visit, renderer: Renderer) -> Response:
    """Accept or refuse what another person proposed."""
    path = f"/moderation-proposals/{segment(visit.form.get('proposal', ''))}/decide"
    body = {
        "accept": visit.form.get("decision") == "accept",
        "reason": visit.form.get("reason", "").strip(),
    }
    try:
        await visit.api.send("POST", path, ProposalRow, body)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(visit.link(PATH), 303)


PAGES: Pages = {("GET", PATH): show, ("POST", f"{PATH}/decide"): decide}
