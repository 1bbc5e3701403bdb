"""System's pages of what is in force: settings with their origin, prices and exchange rates."""

from __future__ import annotations

import time

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import Query
from tokenschain.console.models import ModelPrice
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.system import SYSTEM
from tokenschain.console.visit import Visit, forbidden

SETTINGS, PRICES = f"{SYSTEM}/settings", f"{SYSTEM}/prices"
PRICES_MAX = 100
RATES_MAX = 30
RATE_SETTING = "routing.usd_cny"
"""What holds where no rate was entered."""


class SettingShown(msgspec.Struct):
    """A setting of control; see `GET /settings`."""

    name: str
    value: str
    origin: str

    @property
    def is_default(self) -> bool:
        """Whether nothing sets it."""
        return self.origin == "default"


class SettingsShown(msgspec.Struct):
    """All of them."""

    data: list[SettingShown]


class DatedSellingPrice(msgspec.Struct):
    """What a model is sold for from a time on; see `GET /prices`."""

    id: str
    tenant: str
    model: str
    from_s: int
    price: ModelPrice
    created_at_s: int


class DatedSellingPrices(msgspec.Struct):
    """A page of them."""

    data: list[DatedSellingPrice]
    next_cursor: str | None = None


class ExchangeRate(msgspec.Struct):
    """The dollar's rate of a day; see `GET /fx-rates`."""

    day: str
    usd_cny_micro: int
    source: str


class ExchangeRates(msgspec.Struct):
    """The latest first."""

    data: list[ExchangeRate]


async def settings(visit: Visit, renderer: Renderer) -> Response:
    """The settings in force, those that are set first."""
    if not visit.reader.may_at("configuration:read"):
        raise forbidden("configuration:read")
    parts = await visit.parts(settings=visit.api.get("/settings", SettingsShown))
    found = parts["settings"].data
    wanted = visit.query.get("find", "").strip().lower()
    rows = [one for one in (found.data if found else ()) if wanted in one.name.lower()]
    return renderer.page(
        "system_settings.html", visit, settings=parts["settings"], find=wanted,
        groups=[("set", [one for one in rows if not one.is_default]),
                ("default", [one for one in rows if one.is_default])],
    )  # fmt: skip


async def prices(visit: Visit, renderer: Renderer) -> Response:
    """Selling prices with the time from which each holds, and the dollar's rates."""
    if not visit.reader.may_at("billing:read"):
        raise forbidden("billing:read")
    query: Query = {"limit": PRICES_MAX, "cursor": visit.query.get("cursor"),
                    "tenant": visit.tenant}  # fmt: skip
    parts = await visit.parts(
        prices=visit.api.get("/prices", DatedSellingPrices, query),
        rates=visit.api.get("/fx-rates", ExchangeRates, {"limit": RATES_MAX}),
    )
    now_s, found = time.time(), parts["prices"].data
    rows = sorted(found.data if found else (), key=lambda one: (one.model, one.tenant, -one.from_s))
    in_force: dict[tuple[str, str], str] = {}
    for one in rows:
        if one.from_s <= now_s:
            in_force.setdefault((one.model, one.tenant), one.id)
    return renderer.page(
        "system_prices.html", visit, 200, **parts, rows=rows, in_force=set(in_force.values()),
        rate_setting=RATE_SETTING,
    )  # fmt: skip


PAGES: Pages = {("GET", SETTINGS): settings, ("GET", PRICES): prices}
