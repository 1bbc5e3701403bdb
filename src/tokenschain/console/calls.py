"""Calls page: the log of calls with filters in the address, and each call's drawer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable
from typing import NamedTuple, get_args

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal, Query, segment
from tokenschain.console.keys import ApiKeyList
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import PagePart, Visit
from tokenschain.core.call_record import CallResult, result_of

RANGES = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""By name, in seconds."""
DEFAULT_RANGE = "24h"
HOUR_S = 3_600
SHOWN_MAX = 50
BINS = 48
FILTERS = ("result", "model", "upstream", "key_id", "tag")
PICKED = FILTERS[1:]
"""Filters that are chosen from what the range's calls have."""
CHOICES_MAX = 200
"""Of more, those with the most calls."""


class CallAttempt(msgspec.Struct):
    """One upstream tried for a call; see the API's `Attempt`."""

    upstream: str
    started_ms: float = 0.0
    first_byte_ms: float | None = None
    ended_ms: float | None = None
    outcome: str = ""


class CallSummary(msgspec.Struct):
    """A call as lists show it; see `GET /calls`."""

    event_id: str
    started_ms: int
    tenant: str
    project: str
    key_id: str
    model_asked: str
    model_served: str
    upstream: str
    status: int
    outcome: str
    cache: str
    first_token_ms: float | None
    total_ms: float
    prompt_tokens: int
    completion_tokens: int
    charge_pico: int | None
    charge_currency: str
    attempts: list[CallAttempt]

    @property
    def at_s(self) -> float:
        """When it began; Unix time."""
        return self.started_ms / 1_000

    @property
    def result(self) -> CallResult:
        """What became of it; see `outcome.` in the catalogue."""
        return result_of(self.status, self.outcome, self.cache, len(self.attempts))


class CallCandidate(msgspec.Struct):
    """One upstream as the first choice weighed it; see the API's `RouteCandidate`."""

    upstream: str
    first_token_ms: float
    load: float
    meets_slo: bool
    excluded: str
    cost_pico: float | None = None
    """Only the platform's to see."""


class CallDetail(CallSummary, kw_only=True):
    """A call with all that is known of it; see `GET /calls/{event_id}`."""

    api: str
    environment: str
    error: str
    finish_reason: str
    streamed: bool
    cached_tokens: int
    reasoning_tokens: int
    usage_source: str
    trace_id: str
    tags: str
    moderation: str
    route_reason: str
    route: list[CallCandidate] | None = None
    cache_reason: str = ""
    cache_confidence: float = 0.0
    saved_pico: int = 0
    snapshot_version: str = ""


class TimeBin(NamedTuple):
    """Calls that began within one part of the range."""

    ok: int
    cached: int
    bad: int


class PickedSum(msgspec.Struct):
    """Calls of one model, upstream, key or tag; see `GET /usage`."""

    calls: int
    model: str = ""
    upstream: str = ""
    key_id: str = ""
    tag: str = ""


class PickedSums(msgspec.Struct):
    """Those of a range."""

    data: list[PickedSum]


class FilterChoice(NamedTuple):
    """A value that a filter may have."""

    value: str
    label: str


class CallList(msgspec.Struct):
    """A page of calls."""

    data: list[CallSummary]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The calls of a range, and one of them in the drawer where the address names it.

    A fragment is asked for by the filters (the results), by a row (the drawer), or by the page
    itself (what filters may be chosen from).
    """
    opened = visit.query.get("call", "").strip()
    if visit.fragment == "drawer-body" and opened:
        return renderer.page("_call.html", visit, part=await _read(visit, opened))
    chosen = visit.choice("range", tuple(RANGES), DEFAULT_RANGE)
    given = {name: visit.query.get(name, "") for name in FILTERS}
    now_s = int(time.time())
    query = {
        **given,
        "from_s": now_s - RANGES[chosen],
        "until_s": now_s + 60,
        "limit": SHOWN_MAX,
        "cursor": visit.query.get("cursor"),
        "tenant": visit.tenant,
        "project": visit.project("usage:read"),
    }
    if visit.fragment == "pickers":
        found = await visit.parts(**_choice_reads(visit, now_s - RANGES[chosen], now_s))
        choices = {
            name: _choices(found[name], name, given[name], found.get("keys")) for name in PICKED
        }
        return renderer.page("_pickers.html", visit, given=given, choices=choices)
    parts = await visit.parts(calls=visit.api.get("/calls", CallList, query))
    calls = parts["calls"]
    return renderer.page_or_part(
        "calls.html", "_calls.html", visit, calls=calls, given=given, chosen=chosen,
        ranges=tuple(RANGES), results=get_args(CallResult), bins=_bins(calls),
        filtered=any(given.values()), choices=dict.fromkeys(PICKED),
        part=await _read(visit, opened) if opened and not visit.fragment else None,
    )  # fmt: skip


def _choice_reads(visit: Visit, from_s: int, until_s: int) -> dict[str, Awaitable[object]]:
    """What calls of the range have, by filter, and the names of keys where they may be seen."""
    span: Query = {
        "from_s": from_s - from_s % HOUR_S,
        "until_s": until_s + HOUR_S,
        "tenant": visit.tenant,
        "project": visit.project("usage:read"),
    }
    reads: dict[str, Awaitable[object]] = {
        name: visit.api.get("/usage", PickedSums, {**span, "group_by": name}) for name in PICKED
    }
    if visit.reader.may("keys:read"):
        listed: Query = {"tenant": visit.tenant, "limit": CHOICES_MAX}
        reads["keys"] = visit.api.get("/keys", ApiKeyList, listed)
    return reads


def _choices(
    part: PagePart, name: str, given: str, keys: PagePart | None
) -> list[FilterChoice] | None:
    """What may be chosen, the most called first, with what is chosen; None where it is not
    known: then it is typed."""
    if part.data is None:
        return None
    sums: Counter[str] = Counter()
    for row in part.data.data:
        sums[getattr(row, name)] += row.calls
    del sums[""]
    values = [value for value, _ in sums.most_common(CHOICES_MAX)]
    if given and given not in values:
        values.append(given)
    names = {}
    if name == "key_id" and keys is not None and keys.data is not None:
        names = {one.id: f"{one.name or one.prefix} …{one.id[-8:]}" for one in keys.data.data}
    return [FilterChoice(value, names.get(value, value)) for value in values]


async def _read(visit: Visit, event_id: str) -> PagePart:
    """One call; that it is another tenant's looks as if it were not there."""
    try:
        detail = await visit.api.get(f"/calls/{segment(event_id)}", CallDetail)
    except ApiRefusal as refusal:
        return PagePart(None, refusal)
    return PagePart(detail, None)


def _bins(calls: PagePart) -> list[TimeBin]:
    """The shown calls over the time that they took place in."""
    if calls.data is None or not calls.data.data:
        return []
    rows = calls.data.data
    first, last = rows[-1].started_ms, rows[0].started_ms + 1
    sums = [[0, 0, 0] for _ in range(BINS)]
    for row in rows:
        at = min(BINS - 1, (row.started_ms - first) * BINS // (last - first))
        sums[at][{"ok": 0, "rescued": 0, "cached": 1}.get(row.result, 2)] += 1
    return [TimeBin(*one) for one in sums]
