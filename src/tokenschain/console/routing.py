"""Routing page: upstreams with health, breakers, keys, waits and errors; taken away by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.configuration import (
    AppliedChange,
    ListedResource,
    ListedResources,
    if_match,
    named_in,
)
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import PagePart, Visit

PATH = "/console/routing"
LISTED_MAX = 50
REMOVED = {
    "upstreams": PATH,
    "virtual-models": f"{PATH}/models",
    "moderation-policies": "/console/moderation",
}
"""Kinds of resources that are taken away here, with where they are listed."""


class KeyStanding(msgspec.Struct):
    """One key of an upstream, where it fares worst."""

    number: int
    state: str
    retry_after_s: float


class UpstreamStanding(msgspec.Struct):
    """An upstream as gateways and calls found it; see `GET /upstream-health`."""

    id: str
    provider: str
    base_url: str
    zone: str
    health: str
    drain: bool
    running: int
    breaker: str
    keys: list[KeyStanding]
    succeeded: int
    failed: int
    last_error: str
    first_byte_p50_ms: float | None
    first_byte_p95_ms: float | None

    @property
    def is_up(self) -> bool | None:
        """None where nothing tells."""
        if self.health.startswith("up"):
            return True
        return False if self.health.startswith("down") else None

    @property
    def keys_ready(self) -> int:
        """How many can be used now."""
        return sum(key.state == "ready" for key in self.keys)


class UpstreamStandings(msgspec.Struct):
    """All upstreams."""

    data: list[UpstreamStanding]


class UpstreamFields(msgspec.Struct):
    """What pages show of an upstream's settings."""

    provider: str = "custom"
    base_url: str = ""
    zone: str = ""
    credential: list[str] = []
    drain: bool = False


class UpstreamRow(NamedTuple):
    """An upstream: what was set, and how it is; either may be missing."""

    id: str
    resource: ListedResource | None
    spec: UpstreamFields
    state: UpstreamStanding | None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The upstreams of the platform, or a tenant's own."""
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    reads = {"upstreams": visit.api.get("/upstreams", ListedResources, query)}
    if visit.on_platform:
        parts = await visit.parts(**reads, states=states_of(visit))
    else:
        parts = await visit.parts(**reads)
    states = parts.get("states")
    rows = _rows(parts["upstreams"], states, built_in=not (visit.tenant or query["cursor"]))
    template = "_upstreams.html" if visit.fragment == "upstreams" else "routing.html"
    return renderer.page(
        template, visit, upstreams=parts["upstreams"], states=states, rows=rows,
        troubled=sum(1 for one in rows if one.state is not None and one.state.is_up is False),
    )  # fmt: skip


async def states_of(visit: Visit) -> UpstreamStandings:
    """How all upstreams are; the platform's people alone may see it."""
    return await visit.api.get("/upstream-health", UpstreamStandings)


def row_of(resource: ListedResource, states: Sequence[UpstreamStanding]) -> UpstreamRow:
    """A stored upstream with its state."""
    found = f"{resource.tenant}/{resource.name}" if resource.tenant else resource.name
    state = next((one for one in states if one.id == found), None)
    return UpstreamRow(found, resource, _spec(resource), state)


def credentials_of(resource: ListedResource) -> list[str]:
    """Where an upstream's keys are; never the keys."""
    given = resource.spec.get("credential", [])
    return msgspec.convert([given] if isinstance(given, str) else given, list[str])


def _spec(resource: ListedResource) -> UpstreamFields:
    return msgspec.convert(resource.spec | {"credential": credentials_of(resource)}, UpstreamFields)


def _rows(stored: PagePart, states: PagePart | None, *, built_in: bool) -> list[UpstreamRow]:
    """Those that are set up, and those that the platform brings itself."""
    known: list[UpstreamStanding] = [] if states is None or not states.data else states.data.data
    rows = [row_of(one, known) for one in (stored.data.data if stored.data else ())]
    if built_in and stored.data is not None and stored.data.next_cursor is None:
        named = {row.id for row in rows}
        rows += [
            UpstreamRow(one.id, None, UpstreamFields(one.provider, one.base_url, one.zone), one)
            for one in known
            if one.id not in named
        ]
    return rows


# --- taken away ----------------------------------------------------------------------------


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """What taking a resource away does, with its name to type."""
    return await _confirmation(visit, renderer, "", None)


async def remove(visit: Visit, renderer: Renderer) -> Response:
    """Take a resource away whose name was typed; its revision can be rolled back."""
    named, kind = named_in(visit), _kind(visit)
    if visit.form.get("typed", "") != named.name:
        return await _confirmation(visit, renderer, "keys.not_the_name", None)
    query = {**named.query, "reason": visit.form.get("reason", "").strip()[:500]}
    try:
        done = await visit.api.send(
            "DELETE", named.path(kind), AppliedChange, headers=if_match(visit), query=query
        )
    except ApiRefusal as refusal:
        return await _confirmation(visit, renderer, "", refusal)
    where = visit.link(f"{PATH}/revision", number=str(done.revision), done="removed")
    return RedirectResponse(where if done.revision else visit.link(REMOVED[kind]), 303)


async def _confirmation(
    visit: Visit, renderer: Renderer, wrong: str, refusal: ApiRefusal | None
) -> Response:
    named, kind = named_in(visit), _kind(visit)
    resource = await visit.api.get(named.path(kind), ListedResource, named.query)
    row = None
    parts = await visit.parts(
        would=visit.api.send(
            "DELETE", named.path(kind), AppliedChange, query={**named.query, "dry_run": "true"}
        )
    )
    if kind == "upstreams":
        states = await visit.parts(all=states_of(visit)) if visit.on_platform else {}
        known = states["all"].data.data if states and states["all"].data else []
        row = row_of(resource, known)
    return renderer.form(
        "resource_remove.html", visit, refusal, wrong, resource=resource, kind=kind, row=row,
        would=parts["would"], back=REMOVED[kind],
    )  # fmt: skip


def _kind(visit: Visit) -> str:
    given = (visit.form or visit.query).get("kind", "")
    return given if given in REMOVED else "upstreams"


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/remove"): confirm,
    ("POST", f"{PATH}/remove"): remove,
}
