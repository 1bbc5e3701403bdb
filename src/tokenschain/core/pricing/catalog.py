"""Model catalog and prices: what a call costs.

Money is integers. A price is micro-units of a currency per 1,000,000 tokens, so
`price x tokens` is exact in pico-units (10^-12), and nothing is rounded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from tokenschain.core.pricing.calendar import PeakSchedule, is_peak

PICO_PER_UNIT = 10**12
MICRO_PER_UNIT = 10**6
PICO_PER_MICRO = PICO_PER_UNIT // MICRO_PER_UNIT


Currency = Literal["CNY", "USD"]
UsageSource = Literal["provider", "estimated", "none"]
"""Where token counts come from; `none`: nothing was produced, nothing is charged."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one call.

    `prompt_tokens` contains the cached, cache-writing, audio and image tokens,
    `completion_tokens` the reasoning and audio tokens, as in OpenAI's usage object; the parts
    exclude each other.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = "none"
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    image_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    cache_storage_token_hours: int = 0
    """Tokens kept in an explicit cache, times hours; billed by few vendors."""


class PriceTier(msgspec.Struct, frozen=True, gc=False):
    """One row of a price list, in micro-units per 1M tokens; classes left out cost as input
    or output do. The fields after `cache_storage` are the row's conditions."""

    input: int
    output: int
    cached_input: int | None = None
    input_tokens_max: int | None = None
    """The row holds for calls with at most this many input tokens; None: no end."""
    output_tokens_max: int | None = None
    """The row holds for calls with at most this many output tokens; None: any."""
    thinking: bool | None = None
    off_peak: bool | None = None
    batch: bool | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    image_input: int | None = None
    audio_output: int | None = None
    cache_storage: int | None = None
    """Per 1M tokens and hour."""


class Price(msgspec.Struct, frozen=True, gc=False):
    """A dated price list of one model at one upstream; the first row that holds is billed."""

    currency: Currency
    tiers: tuple[PriceTier, ...]
    version: str
    """Date and source, so that a ledger row can be priced again."""
    schedule: PeakSchedule | None = None
    """When its rows with `off_peak` hold."""


class DatedPrice(msgspec.Struct, frozen=True, gc=False):
    """A price and when it begins to hold."""

    from_s: int
    """Unix time."""
    price: Price


def price_at(prices: Sequence[DatedPrice], at_s: float) -> Price | None:
    """The price that holds at a time; `prices` is sorted, the latest first."""
    for dated in prices:
        if dated.from_s <= at_s:
            return dated.price
    return None


def selling_price(
    sell: Mapping[str, Sequence[DatedPrice]], tenant: str, model: str, at_s: float
) -> Price | None:
    """What a tenant pays for a model at a time: its own price before the one for all tenants.

    Args:
        sell: by `model` or `tenant/model`.
    """
    dated = sell.get(f"{tenant}/{model}") or sell.get(model)
    return price_at(dated, at_s) if dated else None


def to_yuan(pico: int, currency: str, usd_cny_micro: int) -> int:
    """Pico-units of a currency as pico-yuan, rounded half up."""
    if currency != "USD":
        return pico
    return (pico * usd_cny_micro + MICRO_PER_UNIT // 2) // MICRO_PER_UNIT


class Occasion(NamedTuple):
    """What a price may depend on besides token counts."""

    thinking: bool = False
    at_s: float = 0.0
    """Unix time of the call's start."""
    batch: bool = False


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
    """None when the list price is not known."""
    price_note: str | None = None
    source: str = ""
    source_date: str = ""
    confidence: str = "low"


class Provider(msgspec.Struct, frozen=True):
    """A vendor's public OpenAI-compatible endpoint."""

    id: str
    name: str
    base_url: str | None = None
    zone: Literal["cn", "abroad"] | None = None
    """Where its machines are; None: not known, and then it serves no call under a residency
    rule unless the operator says where it is."""
    chat_models_of: str | None = None
    """The provider whose chat models, limits and prices hold here too: this one is another
    protocol of the same cloud."""


class ModelAlias(msgspec.Struct, frozen=True):
    """Another name that callers know a provider's model by."""

    name: str
    provider: str
    model: str
    thinking: bool | None = None
    """What the name stood for, where one model now does both."""
    source: str = ""
    source_date: str = ""


class Catalog(msgspec.Struct, frozen=True):
    """The shipped catalog; versioned by the day it was compiled."""

    version: str
    providers: tuple[Provider, ...]
    models: tuple[ModelInfo, ...]
    """At most one for each provider and model name."""
    aliases: tuple[ModelAlias, ...] = ()


def tier_of(price: Price, usage: Usage, occasion: Occasion = Occasion()) -> PriceTier:
    """The row that holds for a call; the whole call is billed at it.

    Calls longer than the last row's limit are billed at the last row.
    """
    if len(price.tiers) == 1:
        return price.tiers[0]
    off_peak = price.schedule is not None and not is_peak(price.schedule, occasion.at_s)
    rows = [
        tier
        for tier in price.tiers
        if tier.thinking in (None, occasion.thinking)
        and tier.off_peak in (None, off_peak)
        and tier.batch in (None, occasion.batch)
    ] or list(price.tiers)
    for tier in rows:
        if _within(usage.prompt_tokens, tier.input_tokens_max) and _within(
            usage.completion_tokens, tier.output_tokens_max
        ):
            return tier
    return rows[-1]


def _within(tokens: int, limit: int | None) -> bool:
    return limit is None or tokens <= limit


def cost_of(usage: Usage, price: Price, occasion: Occasion = Occasion()) -> int:
    """What the call costs, in pico-units of the price's currency, exactly.

    A class without a price of its own is billed as input or output: never less than the
    vendor may charge.

    Raises:
        ValueError: a part is larger than its whole, or negative.
    """
    return tier_cost(usage, tier_of(price, usage, occasion))


def tier_cost(usage: Usage, tier: PriceTier) -> int:
    """What the call costs by one row; see `cost_of`."""
    output = usage.completion_tokens
    special = (
        usage.cache_write_tokens
        or usage.cache_write_1h_tokens
        or usage.audio_prompt_tokens
        or usage.image_prompt_tokens
        or usage.audio_completion_tokens
        or usage.cache_storage_token_hours
    )
    if special:
        return _special_cost(usage, tier)
    cached = usage.cached_tokens
    fresh = usage.prompt_tokens - cached
    if fresh < 0 or output < 0 or cached < 0:
        raise ValueError(f"token classes do not add up: {usage}")
    cost = fresh * tier.input + output * tier.output
    return cost + cached * _either(tier.cached_input, tier.input) if cached else cost


def _special_cost(usage: Usage, tier: PriceTier) -> int:
    """With classes of tokens that few calls have."""
    fresh = (
        usage.prompt_tokens
        - usage.cached_tokens
        - usage.cache_write_tokens
        - usage.cache_write_1h_tokens
        - usage.audio_prompt_tokens
        - usage.image_prompt_tokens
    )
    plain = usage.completion_tokens - usage.audio_completion_tokens
    if fresh < 0 or plain < 0 or usage.cached_tokens < 0:
        raise ValueError(f"token classes do not add up: {usage}")
    write = _either(tier.cache_write, tier.input)
    return (
        fresh * tier.input
        + usage.cached_tokens * _either(tier.cached_input, tier.input)
        + usage.cache_write_tokens * write
        + usage.cache_write_1h_tokens * _either(tier.cache_write_1h, write)
        + usage.audio_prompt_tokens * _either(tier.audio_input, tier.input)
        + usage.image_prompt_tokens * _either(tier.image_input, tier.input)
        + plain * tier.output
        + usage.audio_completion_tokens * _either(tier.audio_output, tier.output)
        + usage.cache_storage_token_hours * (tier.cache_storage or 0)
    )


def cost_at_most(
    prompt_tokens: int, output_tokens: int, price: Price, *, writes_cache: bool = False
) -> int:
    """The most that a call of so many tokens may cost, in pico-units of the price's currency.

    Whatever the hour, whether the model thinks, and whatever class its prompt is billed in.
    """
    most = 0
    seen: set[tuple[bool | None, bool | None]] = set()
    for tier in price.tiers:
        kind = (tier.thinking, tier.off_peak)
        if tier.batch or kind in seen or not _within(prompt_tokens, tier.input_tokens_max):
            continue
        if tier.output_tokens_max is None or tier.output_tokens_max >= output_tokens:
            seen.add(kind)
        most = max(most, _most(tier, prompt_tokens, output_tokens, writes_cache))
    if not most:
        last = price.tiers[-1]
        most = _most(last, prompt_tokens, output_tokens, writes_cache)
    return most


class DearestRates(NamedTuple):
    """The most that a token may cost by one row, in pico-units: what `cost_at_most` is made of."""

    prompt: int
    cache_writing_prompt: int
    output: int


def dearest_rates(tier: PriceTier) -> DearestRates:
    """The most that a token may cost by one row, whatever its class."""
    prompt = max(tier.input, tier.audio_input or 0, tier.image_input or 0)
    writing = max(prompt, tier.cache_write or 0, tier.cache_write_1h or 0)
    return DearestRates(prompt, writing, max(tier.output, tier.audio_output or 0))


def _most(tier: PriceTier, prompt: int, output: int, writes_cache: bool) -> int:
    rates = dearest_rates(tier)
    dearest = rates.cache_writing_prompt if writes_cache else rates.prompt
    return prompt * dearest + output * rates.output


def _either(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price


def input_classes(usage: Usage) -> dict[str, int]:
    """Prompt tokens by class; the classes exclude each other and add up to the total.

    Raises:
        ValueError: they do not add up.
    """
    parts = {
        "cached_input": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "audio_input": usage.audio_prompt_tokens,
        "image_input": usage.image_prompt_tokens,
    }
    return _with_rest("input", usage.prompt_tokens, parts)


def output_classes(usage: Usage) -> dict[str, int]:
    """Completion tokens by class; the classes exclude each other and add up to the total.

    Raises:
        ValueError: they do not add up.
    """
    parts = {
        "reasoning": usage.reasoning_tokens,
        "audio_output": usage.audio_completion_tokens,
    }
    return _with_rest("output", usage.completion_tokens, parts)


def _with_rest(name: str, total: int, parts: dict[str, int]) -> dict[str, int]:
    rest = total - sum(parts.values())
    if rest < 0 or min(parts.values()) < 0:
        raise ValueError(f"token classes do not add up: {total} in all, {parts}")
    return {name: rest} | parts


def format_pico(cost_pico: int, currency: str) -> str:
    """Pico-units as a plain decimal, `0.000123 CNY`; exact, no exponent. Nothing has no currency
    where none is known."""
    if 0 < cost_pico < PICO_PER_UNIT:
        # Nearly every call: the digits behind a one take a quarter of what `{:012d}` does.
        return f"0.{str(PICO_PER_UNIT + cost_pico)[1:].rstrip('0')} {currency}"
    if cost_pico == 0:
        return f"0 {currency}".rstrip()
    whole, part = divmod(abs(cost_pico), PICO_PER_UNIT)
    sign = "-" if cost_pico < 0 else ""
    digits = f"{part:012d}".rstrip("0")
    return f"{sign}{whole}{'.' + digits if digits else ''} {currency}"
