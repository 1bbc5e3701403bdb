"""Pages of the platform's people: system, tenants and the night view."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import Query
from tokenschain.console.alerts import AlertList, AlertRow, sentence
from tokenschain.console.models import MeasuredModels
from tokenschain.console.organization import TreeUnit, TreeUnits
from tokenschain.console.platform_state import RUNBOOK, Concern, Diagnosis, concerns
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.revisions import RevisionList
from tokenschain.console.silences import AlertSilence, silences, upstream_silence
from tokenschain.console.visit import PagePart, Visit, forbidden
from tokenschain.core import presentation
from tokenschain.core.call_record import UNKNOWN_MODEL

SYSTEM, TENANTS, NIGHT = "/console/system", "/console/tenants", "/console/night"
READ = "models:read"
ALERTS_READ = 50
LISTED_MAX = 200
HOUR_S = 3_600
NIGHT_HOURS = 2
"""Of the models' figures at night: this hour and the one before."""
MODELS_SHOWN = 8
ACTIONS_SHOWN = 5
"""Latest changes of the configuration, each to be rolled back."""
MEASURED_S = 900
"""How far back the waits of the night view go."""


class ModelSum(msgspec.Struct):
    """Calls of one model; see `GET /usage`."""

    model: str
    calls: int
    failed_calls: int


class ModelSums(msgspec.Struct):
    """Those of a range."""

    data: list[ModelSum]


class TenantSum(msgspec.Struct):
    """A tenant's calls in one currency; see `GET /usage`."""

    tenant: str
    charge_currency: str
    calls: int
    failed_calls: int
    charge_pico: int


class TenantSums(msgspec.Struct):
    """Those of a range."""

    data: list[TenantSum]


class TenantLine(NamedTuple):
    """A tenant with its health and what it spent this month."""

    unit: TreeUnit
    calls: int
    failed: int
    spent: list[tuple[str, int]]
    """Currency, and 10^-12 of it."""
    alerts: int


class ModelHealth(NamedTuple):
    """A model at night."""

    model: str
    calls: int
    failed: int
    first_token_ms: tuple[str, float] | None = None
    """Which percentile of the last minutes' waits, and how long; None where too few calls tell."""


class SilencedConcern(NamedTuple):
    """Something that is wrong, and need not be told again."""

    concern: Concern
    silence: AlertSilence


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Gateways, control and its ledger, and what is wrong with them."""
    return await _state_page(visit, renderer, "system.html", "_system.html")


async def night(visit: Visit, renderer: Renderer) -> Response:
    """One dark page for whoever is on duty: what is wrong, since when, what to do."""
    visit.theme = "dark"
    return await _state_page(visit, renderer, "night.html", "_night.html")


async def _state_page(visit: Visit, renderer: Renderer, page: str, part: str) -> Response:
    if not visit.reader.may_at(READ):
        raise forbidden(READ)
    now_s = int(time.time())
    reads: dict[str, Awaitable[object]] = {"seen": visit.api.get("/diagnostics", Diagnosis)}
    if visit.reader.may_at("alerts:read"):
        reads["alerts"] = visit.api.get("/alerts", AlertList, {"limit": ALERTS_READ})
        reads["silences"] = silences(visit)
    at_night = page == "night.html"
    if at_night and visit.reader.may_at("configuration:read"):
        latest: Query = {"limit": ACTIONS_SHOWN}
        reads["actions"] = visit.api.get("/revisions", RevisionList, latest)
    if at_night and visit.reader.may_at("usage:read"):
        until_s = (now_s // HOUR_S + 1) * HOUR_S
        query: Query = {
            "group_by": "model",
            "from_s": until_s - NIGHT_HOURS * HOUR_S,
            "until_s": until_s,
        }
        reads["models"] = visit.api.get("/usage", ModelSums, query)
        waits: Query = {"range_s": MEASURED_S}
        reads["waits"] = visit.api.get("/insight/latency", MeasuredModels, waits)
    parts = await visit.parts(**reads)
    seen: Diagnosis | None = parts["seen"].data
    found, silenced = _apart([] if seen is None else concerns(seen), parts.get("silences"), now_s)
    opened = _open(parts.get("alerts"), now_s)
    actions = parts.get("actions")
    response = renderer.page(
        part if visit.fragment else page, visit, diagnosis=parts["seen"], concerns=found,
        alerts=[(one, sentence(visit, one)) for one in opened], silenced=silenced,
        models=_models(parts.get("models"), parts.get("waits")),
        waiting=0 if seen is None else sum(one.waiting for one in seen.latest_gateways),
        actions=actions.data.data if actions is not None and actions.data is not None else [],
        bad=sum(one.is_bad for one in found), since=_said_since(found, opened), runbook=RUNBOOK,
    )  # fmt: skip
    return response


def _apart(
    found: Sequence[Concern], part: PagePart | None, now_s: float
) -> tuple[list[Concern], list[SilencedConcern]]:
    """What is to be told, and what a silence of its upstream holds for."""
    known = [] if part is None or part.data is None else part.data.data
    told, held = [], []
    for one in found:
        silence = upstream_silence(known, one.upstream, now_s) if one.upstream else None
        if silence is None:
            told.append(one)
        else:
            held.append(SilencedConcern(one, silence))
    return told, held


def _open(part: PagePart | None, now_s: float) -> list[AlertRow]:
    rows = [] if part is None or part.data is None else part.data.data
    return [one for one in rows if one.is_open(now_s) and not one.silenced_by]


def _said_since(found: Sequence[Concern], opened: Sequence[AlertRow]) -> float | None:
    """Since when something has been wrong, where that is known."""
    times = [one.since_s for one in found if one.since_s is not None]
    return min([*times, *(float(one.at_s) for one in opened)], default=None)


def _models(part: PagePart | None, waits: PagePart | None) -> list[ModelHealth]:
    """The models whose calls failed most, then the busiest."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in [] if part is None or part.data is None else part.data.data:
        if row.model in ("", UNKNOWN_MODEL):
            continue  # callers' mistakes: no model was asked
        sums[row.model][0] += row.calls
        sums[row.model][1] += row.failed_calls
    measured = {} if waits is None or waits.data is None else {
        one.model: one for one in waits.data.data
    }  # fmt: skip
    found = []
    for model, (calls, failed) in sums.items():
        wait = None
        if (one := measured.get(model)) is not None:
            wait = next(
                ((name, ms) for name, ms in (
                    ("p99", one.first_token_p99_ms), ("p95", one.first_token_p95_ms),
                    ("p50", one.first_token_p50_ms),
                ) if ms is not None),
                None,
            )  # fmt: skip
        found.append(ModelHealth(model, calls, failed, wait))
    found.sort(key=lambda one: (-one.failed, -one.calls, one.model))
    return found[:MODELS_SHOWN]


async def tenants(visit: Visit, renderer: Renderer) -> Response:
    """The tenants with their spend of the month, failures and open alerts."""
    if not visit.reader.may_at("org:read"):
        raise forbidden("org:read")
    now_s = int(time.time())
    units: Query = {"kind": "tenant", "limit": LISTED_MAX, "cursor": visit.query.get("cursor")}
    reads: dict[str, Awaitable[object]] = {
        "units": visit.api.get("/organization/units", TreeUnits, units)
    }
    if visit.reader.may_at("usage:read"):
        query: Query = {"group_by": "tenant", "from_s": presentation.month_start(now_s),
                 "until_s": now_s + HOUR_S}  # fmt: skip
        reads["sums"] = visit.api.get("/usage", TenantSums, query)
    if visit.reader.may_at("alerts:read"):
        reads["alerts"] = visit.api.get("/alerts", AlertList, {"limit": LISTED_MAX})
    parts = await visit.parts(**reads)
    opened = _open(parts.get("alerts"), now_s)
    sums = parts["sums"].data.data if "sums" in parts and parts["sums"].data else []
    listed = [] if parts["units"].data is None else parts["units"].data.data
    lines = [
        TenantLine(
            unit,
            sum(row.calls for row in sums if row.tenant == unit.name),
            sum(row.failed_calls for row in sums if row.tenant == unit.name),
            [(row.charge_currency, row.charge_pico) for row in sums if row.tenant == unit.name],
            sum(one.tenant == unit.name for one in opened),
        )
        for unit in listed
    ]
    return renderer.page(
        "tenants.html", visit, units=parts["units"], lines=lines, sums=parts.get("sums")
    )


PAGES: Pages = {("GET", SYSTEM): show, ("GET", NIGHT): night, ("GET", TENANTS): tenants}
