"""Amounts of money as bodies of the admin API hold them: decimal, at most six places."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from tokenschain.control.api.bodies import AnswerBody

Money = Annotated[Decimal, Field(ge=0, le=10**6, max_digits=18, decimal_places=6)]
"""In units of the currency."""
Paid = Annotated[Decimal, Field(gt=0, le=10**6, max_digits=18, decimal_places=6)]
Currency = Literal["CNY", "USD"]


class PriceRow(AnswerBody):
    """One row of a price list, in micro-units per 1,000,000 tokens; null costs as input or
    output does. See `core.pricing.catalog.PriceTier`."""

    input: int
    output: int
    cached_input: int | None = None
    input_tokens_max: int | None = None
    output_tokens_max: int | None = None
    thinking: bool | None = None
    off_peak: bool | None = None
    batch: bool | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    image_input: int | None = None
    audio_output: int | None = None
    cache_storage: int | None = None


class PriceList(AnswerBody):
    """What a model costs; the first row that holds is billed."""

    currency: str
    tiers: list[PriceRow]
    version: str
    schedule: dict[str, JsonValue] | None = None
    """When rows with `off_peak` hold."""
