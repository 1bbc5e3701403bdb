"""Usage and cost page: what calls came to, by day and by model, project, key, cloud or tag."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import Query, refusal_of
from tokenschain.console.costs import CostSeries, dearest, main_currency
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import PagePart, Visit
from tokenschain.core import presentation

PATH = "/console/usage"
RANGES = ("30d", "7d", "month", "last_month")
GROUPS = {
    "model": "model", "project": "project", "key": "key_id", "cloud": "cloud", "tag": "tag",
    "day": "day",
}  # fmt: skip
"""What sums are shown by, and the API's name of it."""
ZONE = "Asia/Shanghai"
DAY_S = 86_400
LINES_SHOWN = 50
LATE_S = 60
"""Sums that lack less than this are not said to be behind."""
KEYS_NAMED_MAX = 200


class ChargedRow(msgspec.Struct):
    """Sums of calls; see `GET /usage`."""

    charge_currency: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    charge_pico: int
    unpriced_calls: int = 0
    tenant: str = ""
    project: str = ""
    key_id: str = ""
    model: str = ""
    cloud: str = ""
    tag: str = ""
    day: str = ""


class ChargedRows(msgspec.Struct):
    """Those of a range, and until when they are complete."""

    data: list[ChargedRow]
    complete_to_s: int


class KeyName(msgspec.Struct):
    """An API key and what it is called."""

    id: str
    name: str


class KeyNames(msgspec.Struct):
    """Those of a tenant."""

    data: list[KeyName]


class Span(NamedTuple):
    """Whole days in Shanghai."""

    from_s: int
    until_s: int

    @property
    def days(self) -> list[str]:
        """Each day of it."""
        return [presentation.date(at) for at in range(self.from_s, self.until_s, DAY_S)]


class UsageLine(NamedTuple):
    """A line of the table, in one currency."""

    name: str
    """As the API has it; empty is not known."""
    label: str
    currency: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    charge_pico: int


class UsageTable(NamedTuple):
    """What the page shows of a range."""

    lines: list[UsageLine]
    left_out: int
    """How many lines more there are."""
    totals: list[UsageLine]
    """As the ledger adds them up, one for each currency."""
    unpriced_calls: int
    complete_to: str
    """Where the ledger is behind: until when the sums are complete; else empty."""


class UsageChart(NamedTuple):
    """Cost by day, of the main currency."""

    days: list[str]
    series: list[CostSeries]
    currency: str


def span_of(name: str, now_s: float) -> Span:
    """The days of a range of `RANGES`, today with them."""
    tomorrow = presentation.midnight(now_s) + DAY_S
    month = presentation.month_start(now_s)
    if name == "month":
        return Span(month, tomorrow)
    if name == "last_month":
        return Span(presentation.month_start(month - 1), month)
    return Span(tomorrow - (7 if name == "7d" else 30) * DAY_S, tomorrow)


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The sums of a range."""
    chosen = visit.choice("range", RANGES)
    groups = _groups(visit)
    group = visit.choice("by", tuple(groups))
    now_s = time.time()
    span = span_of(chosen, now_s)
    column = groups[group]
    by_day = "day" if group == "day" else f"{column},day"
    # Of days, or of tenants, two of the three are the same.
    reads: dict[str, Awaitable[object]] = {
        by: _read(visit, span, by) for by in dict.fromkeys((column, "tenant", by_day))
    }
    if group == "key" and visit.reader.may("keys:read"):
        reads["names"] = _read_keys(visit)
    parts = await visit.parts(**reads)
    lines, totals, days = (parts[by] for by in (column, "tenant", by_day))
    names = _key_names(parts.get("names"))
    refusal = lines.refusal or totals.refusal
    table = None
    if refusal is None:
        table = _table(column, lines.data, totals.data, names, span, now_s)
    chart = None
    if days.refusal is None:
        chart = _chart(visit, column, days.data.data, names, span)
    return renderer.page_or_part(
        "usage.html", "_usage.html", visit, table=table, refusal=refusal, chart=chart, days=days,
        chosen=chosen, ranges=RANGES, group=group, groups=tuple(groups), span=span,
    )  # fmt: skip


async def export(visit: Visit, _renderer: Renderer) -> Response:
    """The same sums by day as CSV, as the API writes them: amounts are 10^-12 of the unit."""
    groups = _groups(visit)
    group = visit.choice("by", tuple(groups))
    span = span_of(visit.choice("range", RANGES), time.time())
    by = "day" if group == "day" else f"day,{groups[group]}"
    answer = await visit.api.ask("GET", "/usage", _query(visit, span, by) | {"format": "csv"})
    if answer.status != 200:
        raise refusal_of(answer)
    response = Response(answer.body, media_type="text/csv; charset=utf-8")
    name = f"usage-{span.days[0]}-{span.days[-1]}-{group}.csv"
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response


def _groups(visit: Visit) -> dict[str, str]:
    """What sums may be shown by; tenants only where there are several."""
    if visit.on_platform and visit.tenant is None:
        return {"tenant": "tenant"} | GROUPS
    return GROUPS


def _query(visit: Visit, span: Span, by: str) -> dict[str, str | int | None]:
    return {
        "group_by": by, "from_s": span.from_s, "until_s": span.until_s, "zone": ZONE,
        "tenant": visit.tenant, "project": visit.project("usage:read"),
    }  # fmt: skip


async def _read(visit: Visit, span: Span, by: str) -> ChargedRows:
    found = await visit.api.get("/usage", ChargedRows, _query(visit, span, by))
    return ChargedRows(_with_currency(found.data), found.complete_to_s)


def _with_currency(rows: list[ChargedRow]) -> list[ChargedRow]:
    """Calls that cost nothing, as those that were refused, have no currency of their own: they are
    summed up with the others of their kind, in the currency of most."""
    main = main_currency(row for row in rows if row.charge_currency)
    found = {_kind_of(row): row for row in rows if row.charge_currency == main}
    kept = [row for row in rows if row.charge_currency]
    for row in rows:
        if row.charge_currency:
            continue
        row.charge_currency = main
        same = found.get(_kind_of(row))
        if same is None:
            kept.append(row)
        else:
            same.calls += row.calls
            same.prompt_tokens += row.prompt_tokens
            same.completion_tokens += row.completion_tokens
            same.charge_pico += row.charge_pico
            same.unpriced_calls += row.unpriced_calls
    return kept


def _kind_of(row: ChargedRow) -> tuple[str, ...]:
    return row.tenant, row.project, row.key_id, row.model, row.cloud, row.tag, row.day


async def _read_keys(visit: Visit) -> KeyNames:
    query: Query = {
        "limit": KEYS_NAMED_MAX, "tenant": visit.tenant, "project": visit.project("keys:read")
    }  # fmt: skip
    return await visit.api.get("/keys", KeyNames, query)


def _key_names(part: PagePart | None) -> dict[str, str]:
    """Names of keys by id, where they were read; two of one name are told apart."""
    keys = [] if part is None or part.data is None else part.data.data
    taken = [key.name for key in keys]
    return {
        key.id: key.name if taken.count(key.name) == 1 else f"{key.name} · {key.id[-4:]}"
        for key in keys
    }


def _lines(rows: Iterable[ChargedRow], by: str, names: Mapping[str, str]) -> list[UsageLine]:
    """Lines of the table; the platform's rows are apart by the currency of costs, too."""
    found: dict[tuple[str, str], UsageLine] = {}
    for row in rows:
        name = getattr(row, by) if by else ""
        key = row.charge_currency, name
        own = UsageLine(
            name, names.get(name, name), row.charge_currency, row.calls, row.prompt_tokens,
            row.completion_tokens, row.charge_pico,
        )  # fmt: skip
        found[key] = _added(found[key], own) if key in found else own
    return list(found.values())


def _added(one: UsageLine, other: UsageLine) -> UsageLine:
    return one._replace(
        calls=one.calls + other.calls,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        charge_pico=one.charge_pico + other.charge_pico,
    )


def _table(
    by: str,
    usage: ChargedRows,
    whole: ChargedRows,
    names: Mapping[str, str],
    span: Span,
    now_s: float,
) -> UsageTable:
    lines = _lines(usage.data, by, names)
    totals = sorted(_lines(whole.data, "", {}), key=lambda one: (-one.calls, one.currency))
    rank = {one.currency: at for at, one in enumerate(totals)}
    if by == "day":
        lines.sort(key=lambda one: one.name, reverse=True)
    else:
        lines.sort(key=lambda one: (rank.get(one.currency, 99), -one.charge_pico, one.name))
    complete_s = whole.complete_to_s
    is_behind = complete_s < min(now_s - LATE_S, span.until_s)
    return UsageTable(
        lines[:LINES_SHOWN],
        max(0, len(lines) - LINES_SHOWN),
        totals,
        sum(row.unpriced_calls for row in whole.data),
        _minute(complete_s, now_s) if is_behind else "",
    )


def _minute(at_s: float, now_s: float) -> str:
    shown = presentation.stamp(at_s)[:16]
    return shown[11:] if presentation.date(at_s) == presentation.date(now_s) else shown


def _chart(
    visit: Visit, by: str, rows: list[ChargedRow], names: Mapping[str, str], span: Span
) -> UsageChart:
    currency = main_currency(rows)
    at = {day: step for step, day in enumerate(span.days)}
    whole = visit.text("tile.cost")
    unknown = visit.text("usage.unknown")

    def label(row: ChargedRow) -> str:
        name = whole if by == "day" else getattr(row, by)
        return names.get(name, name) or unknown

    cells = (
        (label(row), at[row.day], row.charge_pico)
        for row in rows
        if row.charge_currency == currency and row.day in at
    )
    days = [day[5:] for day in at]
    series = dearest(cells, len(at), visit.text("overview.other"))
    return UsageChart(days, [one for one in series if one.total_pico], currency)


PAGES = {("GET", PATH): show, ("GET", f"{PATH}/export"): export}
