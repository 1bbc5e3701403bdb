"""Moderation page: policies, keyword packs, what waits for review, and a box to try a text."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.configuration import ListedResource, ListedResources
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit
from tokenschain.core.moderation.risks import BY_CATEGORY, BY_ID
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy

PATH = "/console/moderation"
POLICIES_MAX = 200
TEXT_CHARACTERS_MAX = 4_000
"""As `POST /moderation/test` takes."""
STATES = ("active", "share", "shadow")
"""Those in force first."""
BY = ("category", "engine", "language", "model")
"""What sums of 30 days are by."""
_TOTAL = "total"


class WaitingCases(msgspec.Struct):
    """How many cases wait; see `GET /moderation-cases/counts`."""

    open: int
    second: int
    escalated: int
    overdue: int


class PackRow(msgspec.Struct):
    """A keyword pack in force."""

    name: str
    version: str
    author: str
    reviewer: str
    expires: str
    words: int


class UnusedPack(msgspec.Struct):
    """A file that is not used."""

    file: str
    why: str


class PackRows(msgspec.Struct):
    """See `GET /moderation/packs`."""

    data: list[PackRow]
    refused: list[UnusedPack]
    missing: dict[str, int]

    @property
    def words_missing(self) -> int:
        """In all."""
        return self.missing.get(_TOTAL, 0)

    @property
    def risks_missing(self) -> list[str]:
        """Ids of risks of which there are too few words."""
        return [name for name in self.missing if name != _TOTAL]


class StageRow(msgspec.Struct):
    """What one stage found; see `POST /moderation/test`."""

    stage: str
    category: str
    level: str
    rule: str
    text: str


class StageRows(msgspec.Struct):
    """All of them."""

    data: list[StageRow]


class StatisticsRow(msgspec.Struct):
    """What was found and done, by one thing and what became of the call; see
    `GET /moderation/statistics`."""

    calls: int
    disputed: int
    upheld: int
    released: int
    action: str = ""
    category: str = ""
    engine: str = ""
    language: str = ""
    model: str = ""


class StatisticsRows(msgspec.Struct):
    """All of them."""

    data: list[StatisticsRow]


class SumsOf(msgspec.Struct):
    """All calls of one category, engine, language or model."""

    name: str
    calls: int = 0
    blocked: int = 0
    disputed: int = 0
    upheld: int = 0
    released: int = 0

    @property
    def agreement(self) -> float | None:
        """The share of what people decided in which they decided the same."""
        decided = self.upheld + self.released
        return self.upheld / decided if decided else None


def sums_by(name: str, rows: list[StatisticsRow]) -> list[SumsOf]:
    """Rows added up whatever became of the calls, the most calls first."""
    found: dict[str, SumsOf] = {}
    for row in rows:
        key = getattr(row, name)
        sums = found.setdefault(key, SumsOf(key))
        sums.calls += row.calls
        sums.blocked += row.calls * (row.action == "blocked")
        sums.disputed += row.disputed
        sums.upheld += row.upheld
        sums.released += row.released
    return sorted((one for one in found.values() if one.name), key=lambda one: -one.calls)


class EngineRow(msgspec.Struct):
    """An engine as gateways find it; see `GET /moderation/engines`."""

    name: str
    vendor: str
    zone: str
    breaker: str
    gateways: int
    without_credential: int
    answered: int
    errors: dict[str, int]
    withdrawn: int
    p50_ms: float | None
    p95_ms: float | None
    last_error: str
    last_error_s: float | None
    requests_today: int
    requests_left_today: int | None

    @property
    def is_local(self) -> bool:
        """Whether it is the platform's own: nothing of it has a quota or fails."""
        return self.vendor == "local"


class EngineRows(msgspec.Struct):
    """All of them."""

    data: list[EngineRow]


class ListedPolicy(NamedTuple):
    """A policy, and what it says with what it leaves to the defaults."""

    resource: ListedResource
    policy: ModerationPolicy


def category_names(visit: Visit) -> Mapping[str, str]:
    """What categories are called in the reader's language."""
    return {
        name: risk.zh if visit.language == "zh" else risk.en for name, risk in BY_CATEGORY.items()
    }


def risk_names(visit: Visit) -> Mapping[str, str]:
    """The same for risks, by their places in the annex."""
    return {name: risk.zh if visit.language == "zh" else risk.en for name, risk in BY_ID.items()}


async def show(visit: Visit, renderer: Renderer) -> Response:
    """What is screened, and what waits."""
    return await _page(visit, renderer, "", None, None)


async def try_text(visit: Visit, renderer: Renderer) -> Response:
    """What each stage of the local rules finds in a text; it stays in this answer."""
    text = visit.form.get("text", "").strip()
    try:
        found = await visit.api.send("POST", "/moderation/test", StageRows, {"text": text})
    except ApiRefusal as refusal:
        return await _page(visit, renderer, text, None, refusal)
    return await _page(visit, renderer, text, found.data, None)


async def _page(
    visit: Visit,
    renderer: Renderer,
    text: str,
    stages: list[StageRow] | None,
    refusal: ApiRefusal | None,
) -> Response:
    whose, by = {"tenant": visit.tenant}, visit.choice("by", BY, BY[0])
    reads: dict[str, Awaitable[object]] = {
        "packs": visit.api.get("/moderation/packs", PackRows),
        "statistics": visit.api.get(
            "/moderation/statistics", StatisticsRows, {**whose, "group_by": f"{by},action"}
        ),
        "counts": visit.api.get("/moderation-cases/counts", WaitingCases, whose),
    }
    if visit.on_platform and visit.reader.may_at("moderation:read"):
        reads["states"] = visit.api.get("/moderation/engines", EngineRows)
    if visit.reader.may("configuration:read"):
        query = {**whose, "limit": POLICIES_MAX}
        reads["policies"] = visit.api.get("/moderation-policies", ListedResources, query)
    parts = await visit.parts(**reads)
    listed, counted = parts.get("policies"), parts["statistics"].data
    rows = [
        ListedPolicy(one, msgspec.convert(one.spec, ModerationPolicy))
        for one in (listed.data.data if listed and listed.data else [])
    ]
    return renderer.form(
        "moderation.html", visit, refusal, packs=parts["packs"], counts=parts["counts"],
        statistics=parts["statistics"], states=parts.get("states"), policies=listed,
        rows=sorted(rows, key=_order), names=category_names(visit),
        risks=risk_names(visit), text=text, stages=stages, characters_max=TEXT_CHARACTERS_MAX,
        by=by, choices=BY, sums=sums_by(by, counted.data) if counted else [],
    )  # fmt: skip


def _order(one: ListedPolicy) -> tuple[int, str, str]:
    return STATES.index(one.policy.state), one.resource.tenant, one.resource.name


PAGES: Pages = {("GET", PATH): show, ("POST", PATH): try_text}
