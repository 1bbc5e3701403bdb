"""Cache page: hits, savings, false hits and their bound, frequent questions, and flushing."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, Query
from tokenschain.console.overview import CacheRow
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.security import secrets

PATH = "/console/cache"
RANGES = {"24h": 86_400, "7d": 7 * 86_400}
"""By name, in seconds; longer ones take long."""
QUESTIONS_SHOWN = 20
ROWS_SHOWN_MAX = 40
PARTS = ("", "project", "model", "tag", "entry")
"""What can be flushed of a tenant; the first is all of it."""
KINDS = ("hit-exact", "hit-inflight", "hit-semantic", "miss", "bypass")


class CacheOutcome(CacheRow, kw_only=True):
    """What the cache did for calls of one tenant, model, outcome and reason."""

    tenant: str
    model: str
    reason: str
    saved_tokens: int


class CacheOutcomeList(msgspec.Struct):
    """Those of a range."""

    data: list[CacheOutcome]


class HitsByAge(msgspec.Struct):
    """Hits by the age of the answer."""

    age_s_max: int
    hits: int
    share_within: float


class AgesOfHits(msgspec.Struct):
    """By age, the youngest first."""

    data: list[HitsByAge]


class LimitOption(msgspec.Struct):
    """What agreeing on a share of wrong answers would have done."""

    false_hit_rate_max: float
    threshold: float | None
    false_hit_rate: float
    hits: int
    saved_pico: dict[str, int]


class FalseHits(msgspec.Struct):
    """What was measured of one project's and model's semantic hits."""

    tenant: str
    project: str
    model: str
    false_hit_rate_max: float
    false_hit_rate: float
    false_hit_rate_low: float
    false_hit_rate_high: float
    checked: int
    served: int
    pairs: int
    pairs_needed: int
    threshold: float | None
    lookups: int
    choices: list[LimitOption]

    @property
    def state(self) -> str:
        """`learning`, `above` its limit beyond doubt, or `within`."""
        if self.pairs < self.pairs_needed:
            return "learning"
        return "above" if self.false_hit_rate_low > self.false_hit_rate_max else "within"


class FalseHitsList(msgspec.Struct):
    """Those of every project and model whose questions are compared."""

    data: list[FalseHits]


class FrequentQuestion(msgspec.Struct):
    """Questions that ask the same, and their answer."""

    project: str
    model: str
    queries: list[str]
    answer: str
    lookups: int
    hits: int
    saved_pico: dict[str, int]


class FrequentQuestions(msgspec.Struct):
    """The most asked first."""

    data: list[FrequentQuestion]


class FlushWorth(msgspec.Struct):
    """What a flush is worth, and whether it was done."""

    hits_last_day: int
    answers_last_day: int
    flushed_until: float | None


class CacheSums(NamedTuple):
    """What a range comes to."""

    calls: int
    hits: int
    by_kind: dict[str, int]
    saved: dict[str, int]
    """10^-12 of the unit, by currency."""
    saved_tokens: int

    @property
    def share(self) -> float | None:
        """Of hits among all calls."""
        return self.hits / self.calls if self.calls else None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """What the cache did; questions are shown only when asked for, since that is written down."""
    chosen, now_s = visit.choice("range", tuple(RANGES)), int(time.time())
    query: Query = {
        "from_s": now_s - RANGES[chosen],
        "until_s": now_s + 60,
        "tenant": visit.tenant,
    }
    whose = visit.shown_tenant
    reads = {
        "stats": visit.api.get("/cache/stats", CacheOutcomeList, query),
        "ages": visit.api.get("/cache/hit-ages", AgesOfHits, query),
        "previews": visit.api.get("/cache/threshold-preview", FalseHitsList, query),
    }
    if whose and visit.query.get("questions") and visit.reader.may("cache:inspect"):
        asked = {**query, "tenant": whose, "limit": QUESTIONS_SHOWN}
        reads["questions"] = visit.api.get("/cache/query-clusters", FrequentQuestions, asked)
    parts = await visit.parts(**reads)
    rows = parts["stats"].data.data if parts["stats"].data else []
    return renderer.page(
        "cache.html", visit, 200, **parts, sums=_sums(rows), rows=_by_model(rows), chosen=chosen,
        ranges=tuple(RANGES), whose=whose, kinds=KINDS, has_questions="questions" in parts,
    )  # fmt: skip


def _sums(rows: list[CacheOutcome]) -> CacheSums:
    by_kind, saved = dict.fromkeys(KINDS, 0), dict[str, int]()
    for row in rows:
        kind = row.cache if row.cache in by_kind else "bypass"
        by_kind[kind] += row.calls
        if row.saved_pico:
            saved[row.currency] = saved.get(row.currency, 0) + row.saved_pico
    hits = sum(count for kind, count in by_kind.items() if kind.startswith("hit"))
    tokens = sum(row.saved_tokens for row in rows)
    return CacheSums(sum(by_kind.values()), hits, by_kind, saved, tokens)


def _by_model(rows: list[CacheOutcome]) -> list[CacheOutcome]:
    """The most frequent outcomes first."""
    return sorted(rows, key=lambda row: (-row.calls, row.tenant, row.model))[:ROWS_SHOWN_MAX]


# --- flushing ------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """What is to be forgotten."""
    whose = visit.shown_tenant or ""
    part = visit.choice("part", PARTS)
    return _form(
        visit, renderer, {"of": whose, "part": part, "value": visit.query.get("value", "")}
    )


async def flush(visit: Visit, renderer: Renderer) -> Response:
    """Say what a flush is worth; with the tenant's name typed, do it."""
    given = {name: visit.form.get(name, "").strip() for name in ("of", "part", "value")}
    body: dict[str, object] = {"tenant": given["of"]}
    if given["part"] in PARTS[1:]:
        body[given["part"]] = given["value"]
    worth, wrong = None, ""
    try:
        worth = await _flushed(visit, {**body, "dry_run": True})
        if visit.form.get("step") == "apply":
            if visit.form.get("typed", "") == (given["of"] or PLATFORM):
                await _flushed(visit, body, visit.once)
                return RedirectResponse(visit.link(PATH, flushed="1"), 303)
            wrong = "keys.not_the_name"
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, refusal=refusal)
    return _form(visit, renderer, given, worth=worth, wrong=wrong)


async def _flushed(
    visit: Visit, body: dict[str, object], headers: dict[str, str] | None = None
) -> FlushWorth:
    return await visit.api.send("POST", "/cache/flush", FlushWorth, body, headers)


def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    *,
    worth: FlushWorth | None = None,
    wrong: str = "",
    refusal: ApiRefusal | None = None,
) -> Response:
    return renderer.form(
        "cache_flush.html", visit, refusal, wrong, given=given, worth=worth, kinds=PARTS,
        once=secrets.new_id("once"), must_be=given["of"] or PLATFORM,
    )  # fmt: skip


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/flush"): ask,
    ("POST", f"{PATH}/flush"): flush,
}
