"""Freezes page: models and tenants that are not served for now; set and lifted by step-up."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.infra.security import secrets

PATH = "/console/moderation/freezes"
LISTED_MAX = 100
FIELDS = ("of", "model", "reason")
_WRITE = "moderation:write"


class FreezeRow(msgspec.Struct):
    """What is not served; see `GET /moderation-freezes`."""

    id: str
    tenant: str
    model: str
    reason: str
    created_by: str
    created_at_s: int
    lifted_by: str | None
    lifted_at_s: int | None


class FreezeRows(msgspec.Struct):
    """A page of them."""

    data: list[FreezeRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Freezes, the latest first."""
    return await _page(visit, renderer, None)


async def _page(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    parts = await visit.parts(found=visit.api.get("/moderation-freezes", FreezeRows, query))
    return renderer.form("freezes.html", visit, refusal, found=parts["found"])


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new freeze."""
    if not visit.reader.may(_WRITE):
        raise forbidden(_WRITE)
    given = {"of": visit.query.get("of") or visit.shown_tenant or "",
             "model": visit.query.get("model", ""), "reason": ""}  # fmt: skip
    return _form(visit, renderer, given, None)


async def freeze(visit: Visit, renderer: Renderer) -> Response:
    """Freeze a model, a tenant, or a tenant's use of a model."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body = {"tenant": given["of"], "model": given["model"], "reason": given["reason"]}
    try:
        await visit.api.send("POST", "/moderation-freezes", FreezeRow, body, visit.once)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, refusal)
    return RedirectResponse(visit.link(PATH), 303)


def _form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    once = secrets.new_id("once")
    return renderer.form("freeze_new.html", visit, refusal, given=given, once=once)


async def lift(visit: Visit, renderer: Renderer) -> Response:
    """Serve again what was frozen."""
    name = segment(visit.form.get("freeze", ""))
    try:
        await visit.api.send("POST", f"/moderation-freezes/{name}/lift", FreezeRow)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(visit.link(PATH), 303)


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/new"): ask,
    ("POST", f"{PATH}/new"): freeze,
    ("POST", f"{PATH}/lift"): lift,
}
