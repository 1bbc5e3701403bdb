"""Switcher of the console: whose data pages show, a tenant's or one project's."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import Query
from tokenschain.console.rendering import Renderer
from tokenschain.console.session_cookie import own_path
from tokenschain.console.visit import Visit

LISTED_MAX = 200


class OrganizationUnit(msgspec.Struct):
    """A tenant or a project; see `GET /organization/units`."""

    tenant: str
    name: str
    title: str
    closed_at_s: int | None


class OrganizationUnits(msgspec.Struct):
    """Those of one kind."""

    data: list[OrganizationUnit]
    next_cursor: str | None = None


async def tenants(visit: Visit) -> OrganizationUnits:
    """Those that somebody of the platform picks from."""
    query: Query = {"kind": "tenant", "limit": LISTED_MAX, "tenant": None}
    return await visit.api.get("/organization/units", OrganizationUnits, query)


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Tenants, for the platform's people, and the projects of the one that is shown."""
    back = own_path(visit.query.get("back", ""))
    tenant = visit.shown_tenant

    reads: dict[str, Awaitable[object]] = {"tenants": tenants(visit)} if visit.on_platform else {}
    if tenant:
        query: Query = {"kind": "project", "limit": LISTED_MAX, "tenant": tenant}
        reads["projects"] = visit.api.get("/organization/units", OrganizationUnits, query)
    parts = await visit.parts(**reads)
    return renderer.page(
        "scope.html", visit, back=back.partition("?")[0], shown=tenant,
        tenants=parts.get("tenants"), projects=parts.get("projects"),
    )  # fmt: skip
