"""Revisions pages: who changed the configuration and how, with a preview of rolling back."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.configuration import AppliedChange, ChangedResource, ChangeEffects
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH as ROUTING
from tokenschain.console.visit import Visit
from tokenschain.infra.security import secrets

PATH = f"{ROUTING}/revisions"
LISTED_MAX = 50
DONE = ("", "applied", "removed", "rolled_back")


class RevisionRefusal(msgspec.Struct):
    """A gateway that could not use a revision."""

    at_ms: int
    gateway: str = ""
    why: str = ""


class RevisionRow(msgspec.Struct):
    """One change of the configuration; see `GET /revisions`."""

    revision: int
    at_ms: int
    actor: str
    origin: str
    tenant: str
    reason: str
    resources: list[str]
    changed: int
    rolled_back_of: int | None = None
    refusals: list[RevisionRefusal] = []


class WholeRevision(RevisionRow, kw_only=True):
    """One change with its diff and effects."""

    changes: list[ChangedResource]
    effects: ChangeEffects


class RevisionList(msgspec.Struct):
    """A page of revisions."""

    data: list[RevisionRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The changes, the latest first."""
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    parts = await visit.parts(found=visit.api.get("/revisions", RevisionList, query))
    return renderer.page("revisions.html", visit, found=parts["found"])


async def read(visit: Visit, renderer: Renderer) -> Response:
    """One change: who, when, why, what differs and what it did."""
    return await _page(visit, renderer, _number(visit))


async def roll_back(visit: Visit, renderer: Renderer) -> Response:
    """Preview undoing a revision, then undo it, by a new revision."""
    number, is_seen = _number(visit), visit.form.get("step") == "apply"
    body = {"reason": visit.form.get("reason", "").strip(), "dry_run": not is_seen}
    headers = visit.once if is_seen else None
    try:
        done = await visit.api.send(
            "POST", f"/revisions/{number}/rollback", AppliedChange, body, headers
        )
    except ApiRefusal as refusal:
        return await _page(visit, renderer, number, refusal=refusal)
    if not is_seen:
        return await _page(visit, renderer, number, would=done)
    made = number if done.revision is None else str(done.revision)
    return RedirectResponse(visit.link(f"{ROUTING}/revision", number=made, done="rolled_back"), 303)


async def _page(
    visit: Visit,
    renderer: Renderer,
    number: str,
    *,
    would: AppliedChange | None = None,
    refusal: ApiRefusal | None = None,
) -> Response:
    found = await visit.api.get(f"/revisions/{number}", WholeRevision)
    return renderer.form(
        "revision.html", visit, refusal, found=found, would=would, once=secrets.new_id("once"),
        reason=visit.form.get("reason", ""), done=visit.choice("done", DONE),
    )  # fmt: skip


def _number(visit: Visit) -> str:
    """The revision that is named, fit for a path."""
    given = (visit.form or visit.query).get("number", "")
    return segment(given) if given else "0"


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{ROUTING}/revision"): read,
    ("POST", f"{ROUTING}/revision"): roll_back,
}
