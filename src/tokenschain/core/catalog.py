"""Models, their prices, and what a call costs.

Money is integers. A price is micro-units of a currency per 1,000,000 tokens, so
`price x tokens` is exact in pico-units (10^-12), and nothing is rounded here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PICO_PER_UNIT = 10**12
MICRO_PER_UNIT = 10**6


Currency = Literal["CNY", "USD"]
UsageSource = Literal["provider", "estimated", "none"]
"""Where token counts come from; `none`: nothing was produced, nothing is charged."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one call.

    `prompt_tokens` contains `cached_tokens`; `completion_tokens` contains
    `reasoning_tokens`, as in OpenAI's usage object.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = "none"


class PriceTier(msgspec.Struct, frozen=True):
    """One row of a price list, in micro-units per 1M tokens."""

    input: int
    output: int
    cached_input: int | None = None
    input_tokens_max: int | None = None
    """The row holds for calls with at most this many input tokens; None: no end."""


class Price(msgspec.Struct, frozen=True):
    """A dated price list of one model at one upstream; tiers ascend by length."""

    currency: Currency
    tiers: tuple[PriceTier, ...]
    version: str
    """Date and source, so that a ledger row can be priced again."""


class ModelInfo(msgspec.Struct, frozen=True):
    """One model at one provider, as published by its source on its date."""

    id: str
    model: str
    provider: str
    vendor: str
    kind: str
    region: str | None = None
    context_window: int | None = None
    output_tokens_max: int | None = None
    abilities: tuple[str, ...] = ()
    price: Price | None = None
    """None when the list price is unknown or has conditions this model cannot hold."""
    price_note: str | None = None
    source: str = ""
    source_date: str = ""
    confidence: str = "low"


class Provider(msgspec.Struct, frozen=True):
    """A vendor's public OpenAI-compatible endpoint."""

    id: str
    name: str
    base_url: str | None = None


class Catalog(msgspec.Struct, frozen=True):
    """The shipped catalogue; versioned by the day it was compiled."""

    version: str
    providers: tuple[Provider, ...]
    models: tuple[ModelInfo, ...]


def tier_of(price: Price, prompt_tokens: int) -> PriceTier:
    """The row that holds for a call; the whole call is billed at it.

    Calls longer than the last row's limit are billed at the last row.
    """
    for tier in price.tiers:
        if tier.input_tokens_max is None or prompt_tokens <= tier.input_tokens_max:
            return tier
    return price.tiers[-1]


def cost_of(usage: Usage, price: Price) -> int:
    """What the call costs, in pico-units of the price's currency, exactly.

    Cached input without a price of its own is billed as input: never less than
    the vendor may charge.

    Raises:
        ValueError: a part is larger than its whole.
    """
    fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    if fresh_tokens < 0 or usage.cached_tokens < 0 or usage.completion_tokens < 0:
        raise ValueError(f"token classes do not add up: {usage}")
    tier = tier_of(price, usage.prompt_tokens)
    cached_price = tier.input if tier.cached_input is None else tier.cached_input
    return (
        fresh_tokens * tier.input
        + usage.cached_tokens * cached_price
        + usage.completion_tokens * tier.output
    )


def format_pico(cost_pico: int, currency: str) -> str:
    """Pico-units as a plain decimal, `0.000123 CNY`; exact, no exponent."""
    if cost_pico == 0:
        return f"0 {currency}"
    whole, part = divmod(abs(cost_pico), PICO_PER_UNIT)
    sign = "-" if cost_pico < 0 else ""
    digits = f"{part:012d}".rstrip("0")
    return f"{sign}{whole}{'.' + digits if digits else ''} {currency}"
