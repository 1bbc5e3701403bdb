"""Overview page: calls, cost, availability and cache over a range, cost by model, live calls."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import Query
from tokenschain.console.alerts import AlertList, sentence
from tokenschain.console.calls import CallList
from tokenschain.console.costs import CostSeries, dearest, main_currency
from tokenschain.console.models import MeasuredModels
from tokenschain.console.rendering import Renderer, first_page
from tokenschain.console.visit import PagePart, Visit
from tokenschain.core import presentation
from tokenschain.core.pricing.catalog import PICO_PER_UNIT

RANGES = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24}
"""By name, in hours."""
LIVE_CALLS = 12
ALERTS_READ = 20
STEPS = 48
"""Of courses in tiles, about."""
POINT_MIN = 5e-5
"""A smaller difference of shares is shown as none."""
HOUR_S, DAY_S = 3_600, 86_400
LATENCY_RANGE_S, LATENCY_STEP_S = DAY_S, 1_800
"""As far back as figures of each minute are kept."""


class HourRow(msgspec.Struct):
    """Sums of one model's calls in one hour; see `GET /usage`."""

    hour: str
    charge_currency: str
    calls: int
    charge_pico: int
    failed_calls: int = 0
    model: str = ""

    @property
    def at_s(self) -> int:
        """When the hour begins; Unix time."""
        return int(datetime.fromisoformat(self.hour).timestamp())


class HourRows(msgspec.Struct):
    """Those of a range."""

    data: list[HourRow]


class CacheRow(msgspec.Struct):
    """What the cache did for calls of one outcome; see `GET /cache/stats`."""

    cache: str
    calls: int
    saved_pico: int
    currency: str


class CacheHour(CacheRow, kw_only=True):
    """The same of one hour."""

    hour: str

    @property
    def at_s(self) -> int:
        """When the hour begins; Unix time."""
        return int(datetime.fromisoformat(self.hour).timestamp())


class CacheHours(msgspec.Struct):
    """Those of a range."""

    data: list[CacheHour]


class Tile(NamedTuple):
    """One figure with its change against the time before, and its course."""

    key: str
    value: str
    exact: str
    change: str
    tone: str
    """Of the change: `good`, `bad` or `flat`; dearer is neither."""
    course: list[float]
    hint: str = ""


class LatencyCourse(NamedTuple):
    """The first token over the last day; a gap is None."""

    labels: list[str]
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    p99_ms: list[float | None]
    calls: list[int]
    goal_ms: float

    @property
    def lines(self) -> list[tuple[str, list[float | None]]]:
        """By name."""
        return [("p50", self.p50_ms), ("p95", self.p95_ms), ("p99", self.p99_ms)]


class OverviewFigures(NamedTuple):
    """What the overview shows of a range."""

    tiles: list[Tile]
    labels: list[str]
    by_model: list[CostSeries]
    currency: str
    by_day: bool


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The overview; who may not read it is led to the first page that they may."""
    if not visit.reader.may("usage:read"):
        home = first_page(visit)
        if home is not None:
            return RedirectResponse(home, 303)
    name = visit.choice("range", tuple(RANGES))
    hours, now_s = RANGES[name], int(time.time())
    until_s = (now_s // HOUR_S + 1) * HOUR_S
    query: Query = {
        "group_by": "model,hour",
        "from_s": until_s - 2 * hours * HOUR_S,
        "until_s": until_s,
        "tenant": visit.tenant,
        "project": visit.project("usage:read"),
    }
    reads: dict[str, Awaitable[object]] = {
        "usage": visit.api.get("/usage", HourRows, query),
        "calls": _latest(visit),
        "cache": _cache(visit, until_s - 2 * hours * HOUR_S, until_s),
    }
    if visit.reader.may("alerts:read"):
        read: Query = {"limit": ALERTS_READ, "tenant": visit.tenant}
        reads["alerts"] = visit.api.get("/alerts", AlertList, read)
    parts = await visit.parts(**reads)
    usage = parts["usage"]
    figures = None
    if usage.data is not None:
        figures = _figures(visit, usage.data.data, until_s, hours)
        if parts["cache"].data is not None:
            rows, from_s = parts["cache"].data.data, until_s - hours * HOUR_S
            if any(row.at_s >= from_s for row in rows):
                figures.tiles[-1] = _cache_tile(visit, rows, from_s, hours, figures.currency)
    return renderer.page(
        "overview.html", visit, usage=usage, calls=parts["calls"], figures=figures, chosen=name,
        ranges=tuple(RANGES),
        has_course=not visit.project("usage:read"), alerts=_warnings(visit, parts.get("alerts")),
    )  # fmt: skip


def _warnings(visit: Visit, part: PagePart | None) -> list[str]:
    """What is open and nobody has looked after, the latest first."""
    rows = [] if part is None or part.data is None else part.data.data
    now_s = time.time()
    return [
        sentence(visit, one) for one in rows
        if one.is_open(now_s) and one.kind != "test" and not one.silenced_by
        and one.acknowledged_at_s is None
    ]  # fmt: skip


async def first_token(visit: Visit, renderer: Renderer) -> Response:
    """The first token over the last day, which the overview asks for when it is there; of single
    projects it is not kept."""
    query: Query = {"tenant": visit.tenant, "step_s": LATENCY_STEP_S}
    parts = await visit.parts(latency=visit.api.get("/insight/latency", MeasuredModels, query))
    found = parts["latency"].data
    return renderer.page(
        "_first_token.html", visit, 200, **parts,
        course=None if found is None else _course(found, int(time.time())),
    )  # fmt: skip


def _course(found: MeasuredModels, now_s: int) -> LatencyCourse | None:
    """Every step of the last day; None where no call was measured."""
    if not found.steps:
        return None
    last_s = now_s - now_s % LATENCY_STEP_S
    times = range(last_s - LATENCY_RANGE_S + LATENCY_STEP_S, last_s + 1, LATENCY_STEP_S)
    steps = {one.at_s: one for one in found.steps}
    there = [steps.get(at) for at in times]
    return LatencyCourse(
        [_label(at, by_day=False) for at in times],
        [None if one is None else one.first_token_p50_ms for one in there],
        [None if one is None else one.first_token_p95_ms for one in there],
        [None if one is None else one.first_token_p99_ms for one in there],
        [0 if one is None else one.answered for one in there],
        found.first_token_slo_ms,
    )


async def live_calls(visit: Visit, renderer: Renderer) -> Response:
    """The latest calls, as the overview asks for them every two seconds."""
    parts = await visit.parts(calls=_latest(visit))
    return renderer.page("_live.html", visit, calls=parts["calls"])


async def _latest(visit: Visit) -> CallList:
    project = visit.project("usage:read")
    query = {"limit": LIVE_CALLS, "tenant": visit.tenant, "project": project}
    return await visit.api.get("/calls", CallList, query)


async def _cache(visit: Visit, from_s: int, until_s: int) -> CacheHours:
    """What the cache did; of single projects it is not kept."""
    if visit.project("cache:read"):
        return CacheHours([])
    query: Query = {
        "from_s": from_s, "until_s": until_s, "tenant": visit.tenant, "group_by": "hour"
    }  # fmt: skip
    return await visit.api.get("/cache/stats", CacheHours, query)


def _cache_tile(
    visit: Visit, rows: list[CacheHour], from_s: int, hours: int, currency: str
) -> Tile:
    now_rows = [row for row in rows if row.at_s >= from_s]
    hits, calls = _hits(now_rows)
    hits_before, calls_before = _hits([row for row in rows if row.at_s < from_s])
    saved = sum(row.saved_pico for row in now_rows if row.currency == currency)
    by_hour = [[0, 0] for _ in range(hours)]
    for row in now_rows:
        sums = by_hour[(row.at_s - from_s) // HOUR_S]
        sums[0] += row.calls if row.cache.startswith("hit") else 0
        sums[1] += row.calls
    course = [hit / total if total else 0.0 for hit, total in _steps(by_hour)]
    now = hits / calls if calls else None
    change = _difference(now, hits_before / calls_before if calls_before else None)
    amount = presentation.money(saved, currency, visit.language, short=True)
    hint = visit.text("tile.cache.saved", amount=amount)
    return Tile("cache", presentation.share(now), f"{hits:,} / {calls:,}", *change, course, hint)


def _hits(rows: Sequence[CacheRow]) -> tuple[int, int]:
    """Of how many calls."""
    return sum(row.calls for row in rows if row.cache.startswith("hit")), sum(
        row.calls for row in rows
    )


def _figures(visit: Visit, rows: list[HourRow], until_s: int, hours: int) -> OverviewFigures:
    """The range beside the one before it."""
    from_s = until_s - hours * HOUR_S
    now = [row for row in rows if row.at_s >= from_s]
    before = [row for row in rows if row.at_s < from_s]
    currency = main_currency(now or before)
    by_day = hours > 48
    step_s = DAY_S if by_day else HOUR_S
    first = presentation.midnight(from_s) if by_day else from_s
    starts = list(range(first, until_s, step_s))
    cells = (
        (row.model, (row.at_s - first) // step_s, row.charge_pico)
        for row in now
        if row.charge_currency == currency
    )
    models = dearest(cells, len(starts), visit.text("overview.other"))
    labels = [_label(at, by_day=by_day) for at in starts]
    tiles = _tiles(visit, now, before, from_s, hours, currency)
    return OverviewFigures(tiles, labels, models, currency, by_day)


def _label(at_s: int, *, by_day: bool) -> str:
    day, _, clock = presentation.stamp(at_s).partition(" ")
    return day[5:] if by_day else clock[:5]


def _tiles(
    visit: Visit,
    now: list[HourRow],
    before: list[HourRow],
    from_s: int,
    hours: int,
    currency: str,
) -> list[Tile]:
    language = visit.language
    calls, calls_before = sum(r.calls for r in now), sum(r.calls for r in before)
    cost, cost_before = (
        sum(r.charge_pico for r in rows if r.charge_currency == currency) for rows in (now, before)
    )
    failed = sum(r.failed_calls for r in now)
    fine = None if not calls else 1 - failed / calls
    fine_before = None
    if calls_before:
        fine_before = 1 - sum(r.failed_calls for r in before) / calls_before
    by_hour: dict[int, list[int]] = {from_s + n * HOUR_S: [0, 0, 0] for n in range(hours)}
    for row in now:
        sums = by_hour[row.at_s]
        sums[0] += row.calls
        sums[1] += row.charge_pico if row.charge_currency == currency else 0
        sums[2] += row.failed_calls
    courses = _courses(list(by_hour.values()))
    return [
        Tile("calls", presentation.count(calls, language), f"{calls:,}",
             _relative(calls, calls_before), "flat", courses[0]),
        Tile("cost", presentation.money(cost, currency, language, short=True),
             presentation.exact_money(cost, currency), _relative(cost, cost_before), "flat",
             courses[1]),
        Tile("availability", presentation.share(fine, 3), f"{calls - failed:,} / {calls:,}",
             *_difference(fine, fine_before), courses[2],
             visit.text("tile.availability.hint", n=presentation.count(failed, language))),
        Tile("failed", presentation.count(failed, language), f"{failed:,}", "", "flat",
             courses[3]),
    ]  # fmt: skip


def _steps(hours: list[list[int]]) -> list[list[int]]:
    """Sums of hours, added up to at most some fifty steps."""
    size = max(1, len(hours) // STEPS)
    return [
        [sum(column) for column in zip(*hours[at : at + size], strict=True)]
        for at in range(0, len(hours), size)
    ]


def _courses(hours: list[list[int]]) -> list[list[float]]:
    """In steps: calls, cost, share that succeeded, failed calls."""
    steps = _steps(hours)
    return [
        [float(calls) for calls, _, _ in steps],
        [cost / PICO_PER_UNIT for _, cost, _ in steps],
        [1 - failed / calls if calls else 1.0 for calls, _, failed in steps],
        [float(failed) for _, _, failed in steps],
    ]


def _relative(now: int, before: int) -> str:
    return presentation.change(now / before - 1) if before else ""


def _difference(now: float | None, before: float | None) -> tuple[str, str]:
    if now is None or before is None:
        return "", "flat"
    tone = "flat" if abs(now - before) < POINT_MIN else "good" if now > before else "bad"
    return presentation.points(now - before), tone
