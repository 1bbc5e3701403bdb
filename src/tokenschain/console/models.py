"""Models page: cards of the models served, and for the platform the upstreams behind them."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit

KINDS = ("chat", "embedding")
OFFERS_SHOWN = 6
STEP_S = 1_800


class ModelTier(msgspec.Struct):
    """Micro-units per 1,000,000 tokens; see the API's `PriceRow`."""

    input: int
    output: int


class ModelPrice(msgspec.Struct):
    """What a model costs; the first row holds for short calls."""

    currency: str
    tiers: list[ModelTier]


class OfferCard(msgspec.Struct):
    """A model as one upstream sells it."""

    upstream: str
    model: str
    price: ModelPrice | None = None
    output_tokens_max: int | None = None
    context_window: int | None = None
    abilities: list[str] | None = None


class ModelCard(msgspec.Struct):
    """A model that is served; see `GET /served-models`."""

    name: str
    kind: str
    owned_by: str
    prices: list[ModelPrice]
    """What a call is charged by: one price, or the least and the most."""
    offers: list[OfferCard] | None = None

    @property
    def context_window(self) -> int | None:
        """The largest of its offers; None where none is known or may be seen."""
        return max((o.context_window for o in self.offers or () if o.context_window), default=None)

    @property
    def abilities(self) -> list[str]:
        """Those of any offer."""
        return sorted({name for offer in self.offers or () for name in offer.abilities or ()})


class ModelList(msgspec.Struct):
    """The models."""

    data: list[ModelCard]


class MeasuredFigures(msgspec.Struct, kw_only=True):
    """How a model answered; see `GET /insight/latency`."""

    answered: int
    failed: int
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    first_token_p99_ms: float | None
    total_p50_ms: float | None
    total_p95_ms: float | None

    @property
    def uptime(self) -> float | None:
        """Share of calls that did not fail."""
        calls = self.answered + self.failed
        return self.answered / calls if calls else None


class MeasuredStep(MeasuredFigures, kw_only=True):
    """Those of one step of time."""

    at_s: int


class MeasuredModel(MeasuredFigures, kw_only=True):
    """Those of one model over a range, and by time."""

    model: str
    steps: list[MeasuredStep]


class MeasuredModels(msgspec.Struct):
    """By model."""

    data: list[MeasuredModel]
    since_s: int
    steps: list[MeasuredStep] = []
    """Of all together."""
    first_token_slo_ms: float = 0.0


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The models whose name has what is looked for."""
    given = {name: visit.query.get(name, "") for name in ("find", "kind")}
    parts = await visit.parts(
        models=visit.api.get("/served-models", ModelList), measured=_measured(visit)
    )
    models, measured = parts["models"], parts["measured"].data
    found = []
    if models.data is not None:
        wanted = given["find"].lower()
        found = sorted(
            (
                one for one in models.data.data
                if wanted in f"{one.name} {one.owned_by}".lower()
                and given["kind"] in ("", one.kind)
            ),
            key=lambda one: one.name,
        )  # fmt: skip
    return renderer.page_or_part(
        "models.html", "_models.html", visit, models=models, found=found, given=given, kinds=KINDS,
        offers_shown=OFFERS_SHOWN,
        measured={one.model: one for one in measured.data} if measured else {},
    )  # fmt: skip


async def _measured(visit: Visit, model: str = "") -> MeasuredModels:
    query = {"tenant": visit.tenant, "model": model or None, "step_s": STEP_S}
    return await visit.api.get("/insight/latency", MeasuredModels, query)


async def read(visit: Visit, renderer: Renderer) -> Response:
    """One model: what it costs, who serves it, and how it answered over the last day."""
    name = visit.query.get("name", "")
    served = await visit.api.get("/served-models", ModelList)
    found = next((one for one in served.data if one.name == name), None)
    if found is None:
        raise ApiRefusal(404, "not_found", "There is no such model.", "name")
    parts = await visit.parts(measured=_measured(visit, name))
    measured = parts["measured"].data
    return renderer.page(
        "model.html", visit, one=found, part=parts["measured"], kinds=KINDS,
        figures=measured.data[0] if measured and measured.data else None,
        since_s=measured.since_s if measured else 0,
    )  # fmt: skip
