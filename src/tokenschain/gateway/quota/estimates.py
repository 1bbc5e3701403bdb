"""Estimates of what a call may cost at the most, prepared once for each plan and snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenschain.core.formats.token_estimate import PICTURE_TOKENS_MAX
from tokenschain.core.pricing.catalog import (
    PICO_PER_MICRO,
    DearestRates,
    Price,
    cost_at_most,
    dearest_rates,
    to_yuan,
)
from tokenschain.core.snapshot import Plan


class PlanAmounts:
    """What estimates need of a plan's offers; worked out once for each snapshot."""

    __slots__ = (
        "candidates", "fee_pico", "flat", "on_platform", "output_max", "picture_tokens", "prices",
        "uncapped",
    )  # fmt: skip

    def __init__(
        self, plan: Plan, uncapped: frozenset[str], picture_tokens: Mapping[str, int]
    ) -> None:
        """
        Args:
            uncapped: providers that have no place for the caller's output limit.
            picture_tokens: by provider, the most that one picture counts.
        """
        self.candidates = plan.candidates
        everyone = [c for tier in (plan, *plan.others) for c in tier.candidates]
        offers = [candidate.offer for candidate in everyone]
        limits = [offer.output_tokens_max for offer in offers]
        self.output_max: int | None = None
        """The longest answer that any of them gives, where all say it."""
        if limits and None not in limits:
            self.output_max = max(n for n in limits if n is not None)
        self.uncapped = frozenset(
            c.offer.output_tokens_max for c in everyone if c.upstream.provider in uncapped
        )
        """What those that do not keep to the caller's limit give at most; None: not known."""
        self.on_platform = not all(c.upstream.tenant for c in everyone)
        """Whether any of them is the platform's, so that its selling prices may count."""
        fees = [c.upstream.call_fee_micro_cny for c in everyone if c.upstream.tenant]
        self.fee_pico = max(fees, default=0) * PICO_PER_MICRO
        self.picture_tokens = max(
            (picture_tokens.get(c.upstream.provider, PICTURE_TOKENS_MAX) for c in everyone),
            default=PICTURE_TOKENS_MAX,
        )
        found = {offer.price.version: offer.price for offer in offers if offer.price is not None}
        self.prices = prices = PlanPrices(tuple(found.values()))
        usual = plan.route.kind == "chat" and not self.uncapped and not self.fee_pico
        self.flat = prices.flat if usual and not prices.writes_matter else None
        """What a prompt's and an answer's token cost at the most, where a call of texts with one
        answer, whose length its caller limits, costs no more whatever else it has."""


class PlanPrices:
    """What a call may be charged by: whichever of all candidates answers."""

    __slots__ = ("_other", "_yuan", "flat", "writes_matter")

    def __init__(self, prices: Sequence[Price]) -> None:
        rates: set[DearestRates] = set()
        self._other: list[Price] = []
        for price in prices:
            if len(price.tiers) == 1 and price.currency == "CNY":
                rates.add(dearest_rates(price.tiers[0]))
            else:
                self._other.append(price)
        # One that is nowhere dearer than another never makes the most.
        self._yuan: list[DearestRates] = []
        for rate in sorted(rates, reverse=True):
            if not any(_below(rate, dearer) for dearer in self._yuan):
                self._yuan.append(rate)
        self.writes_matter = bool(self._other) or any(
            rate.cache_writing_prompt > rate.prompt for rate in rates
        )
        self.flat: tuple[int, int] | None = None
        """What a prompt's and an answer's token cost at the most, where one price is the dearest
        for calls of any length, in yuan."""
        if len(self._yuan) == 1 and not self._other:
            self.flat = self._yuan[0].prompt, self._yuan[0].output

    def most(self, prompt: int, output: int, usd_cny_micro: int, *, writes_cache: bool) -> int:
        """The most that so many tokens may cost, in pico-yuan."""
        most = 0
        for plain, writing, out in self._yuan:
            cost = prompt * (writing if writes_cache else plain) + output * out
            most = cost if cost > most else most
        for price in self._other:
            cost = cost_at_most(prompt, output, price, writes_cache=writes_cache)
            most = max(most, to_yuan(cost, price.currency, usd_cny_micro))
        return most


def _below(one: DearestRates, other: DearestRates) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))
