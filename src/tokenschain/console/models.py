"""Models page: cards of the models served, and for the platform the upstreams behind them."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit

KINDS = ("chat", "embedding")
OFFERS_SHOWN = 6


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


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The models whose name has what is looked for."""
    given = {name: visit.query.get(name, "") for name in ("find", "kind")}
    parts = await visit.parts(models=visit.api.get("/served-models", ModelList))
    models = parts["models"]
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
    )  # fmt: skip
