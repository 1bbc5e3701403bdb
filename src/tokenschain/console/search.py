"""Search page: what has a name or id, of all that the reader may see."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit

ASKED_MIN, ASKED_MAX = 2, 100
"""Characters."""


class HitRow(msgspec.Struct):
    """Something that was found; see `GET /me/search`."""

    kind: str
    id: str
    name: str
    tenant: str
    project: str

    def address(self, visit: Visit) -> str:
        """Where it is shown."""
        match self.kind:
            case "call":
                return visit.link("/console/calls", call=self.id)
            case "model":
                return visit.link("/console/models/model", name=self.id)
            case "upstream":
                return visit.link("/console/routing/upstream", name=self.id, of=self.tenant)
            case "virtual_model":
                return visit.link("/console/routing/models/edit", name=self.id, of=self.tenant)
            case "key":
                return visit.link("/console/keys", tenant=self.tenant, project=self.project)
            case "unit":
                return visit.link("/console", tenant=self.tenant, project=self.project)
        return ""


class HitRows(msgspec.Struct):
    """All of them."""

    data: list[HitRow]


async def show(visit: Visit, renderer: Renderer) -> Response:
    """What was found; a call's id leads to the call at once."""
    asked = visit.query.get("q", "").strip()[:ASKED_MAX]
    parts = {}
    if len(asked) >= ASKED_MIN:
        parts = await visit.parts(hits=visit.api.get("/me/search", HitRows, {"text": asked}))
    hits = parts.get("hits")
    rows = hits.data.data if hits is not None and hits.data is not None else []
    if len(rows) == 1 and rows[0].kind == "call":
        return RedirectResponse(rows[0].address(visit), 303)
    return renderer.page("search.html", visit, hits=hits, rows=rows, asked=asked)
