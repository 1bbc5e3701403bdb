"""Suspensions page: end users that are not served after blocked calls, and their release."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit

PATH = "/console/moderation/suspensions"
LISTED_MAX = 50


class SuspensionRow(msgspec.Struct):
    """An end user; see `GET /moderation-suspensions`."""

    id: str
    tenant: str
    end_user: str
    cause: str
    blocked_calls: int
    created_at_s: int
    until_s: int
    released_by: str | None
    released_at_s: int | None
    release_reason: str | None

    def holds(self, now_s: float) -> bool:
        """Whether calls that name the end user are refused."""
        return self.released_at_s is None and self.until_s > now_s


class SuspensionRows(msgspec.Struct):
    """A page of them."""

    data: list[SuspensionRow]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Suspensions, the latest first."""
    return await _page(visit, renderer, None)


async def _page(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    in_force = visit.query.get("in_force", "")
    query = {
        "in_force": "true" if in_force else None, "limit": LISTED_MAX,
        "cursor": visit.query.get("cursor"), "tenant": visit.tenant,
    }  # fmt: skip
    found = visit.api.get("/moderation-suspensions", SuspensionRows, query)
    parts = await visit.parts(found=found)
    return renderer.form(
        "suspensions.html", visit, refusal, found=parts["found"], in_force=in_force
    )


async def release(visit: Visit, renderer: Renderer) -> Response:
    """Serve an end user again, with the reason on record."""
    path = f"/moderation-suspensions/{segment(visit.form.get('suspension', ''))}/release"
    body = {"reason": visit.form.get("reason", "").strip()}
    try:
        await visit.api.send("POST", path, SuspensionRow, body)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(visit.link(PATH), 303)


PAGES: Pages = {("GET", PATH): show, ("POST", f"{PATH}/release"): release}
