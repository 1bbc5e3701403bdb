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


class EngineSums(msgspec.Struct):
    """What one engine found in 30 days, and what people said of it."""

    engine: str
    calls: int
    upheld: int
    released: int

    @property
    def agreement(self) -> float | None:
        """The share of what people decided in which they decided the same."""
        decided = self.upheld + self.released
        return self.upheld / decided if decided else None


class EngineSumsList(msgspec.Struct):
    """See `GET /moderation/statistics`."""

    data: list[EngineSums]


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
    whose = {"tenant": visit.tenant}
    reads: dict[str, Awaitable[object]] = {
        "packs": visit.api.get("/moderation/packs", PackRows),
        "engines": visit.api.get(
            "/moderation/statistics", EngineSumsList, {**whose, "group_by": "engine"}
        ),
        "counts": visit.api.get("/moderation-cases/counts", WaitingCases, whose),
    }
    if visit.on_platform and visit.reader.may_at("moderation:read"):
        reads["states"] = visit.api.get("/moderation/engines", EngineRows)
    if visit.reader.may("configuration:read"):
        query = {**whose, "limit": POLICIES_MAX}
        reads["policies"] = visit.api.get("/moderation-policies", ListedResources, query)
    parts = await visit.parts(**reads)
    listed = parts.get("policies")
    rows = [
        ListedPolicy(one, msgspec.convert(one.spec, ModerationPolicy))
        for one in (listed.data.data if listed and listed.data else [])
    ]
    return renderer.form(
        "moderation.html", visit, refusal, packs=parts["packs"], counts=parts["counts"],
        engines=parts["engines"], states=parts.get("states"), policies=listed,
        rows=sorted(rows, key=_order), names=category_names(visit),
        risks=risk_names(visit), text=text, stages=stages, characters_max=TEXT_CHARACTERS_MAX,
    )  # fmt: skip


def _order(one: ListedPolicy) -> tuple[int, str, str]:
    return STATES.index(one.policy.state), one.resource.tenant, one.resource.name


PAGES: Pages = {("GET", PATH): show, ("POST", PATH): try_text}
