"""Money is exact; the shipped catalogue holds what it says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.catalog import Price, PriceTier, Usage, cost_of, format_pico, tier_of
from tokenschain.core.errors import ERRORS
from tokenschain.infra import catalogue

TOKENS = st.integers(0, 10_000_000)
MICRO = st.integers(0, 10**9)


@given(TOKENS, TOKENS, TOKENS, MICRO, MICRO, st.none() | MICRO)
def test_cost_is_exact(
    fresh: int, cached: int, out: int, per_in: int, per_out: int, per_cached: int | None
) -> None:
    price = Price("CNY", (PriceTier(per_in, per_out, per_cached),), "t")
    usage = Usage(fresh + cached, out, cached, source="provider")
    yuan = (
        Fraction(per_in, 10**6) * fresh
        + Fraction(per_in if per_cached is None else per_cached, 10**6) * cached
        + Fraction(per_out, 10**6) * out
    ) / 10**6
    assert Fraction(cost_of(usage, price), 10**12) == yuan


def test_the_whole_call_is_billed_at_its_length_tier() -> None:
    tiers = (PriceTier(1, 2, None, 128), PriceTier(3, 4, None, 256), PriceTier(5, 6))
    price = Price("CNY", tiers, "t")
    assert [tier_of(price, n).input for n in (0, 128, 129, 256, 257, 10**9)] == [1, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("usage", [Usage(5, 1, 6), Usage(-1, 1), Usage(1, -1)])
def test_classes_that_do_not_add_up_are_refused(usage: Usage) -> None:
    with pytest.raises(ValueError, match="add up"):
        cost_of(usage, Price("CNY", (PriceTier(1, 1),), "t"))


@given(st.integers(0, 10**20))
def test_amounts_are_written_without_loss(pico: int) -> None:
    amount, currency = format_pico(pico, "CNY").split(" ")
    assert Fraction(amount) == Fraction(pico, 10**12) and currency == "CNY" and "e" not in amount


def test_the_shipped_catalogue_is_whole() -> None:
    catalog = catalogue.load()
    assert len(catalog.models) >= 150 and len({m.id for m in catalog.models}) == len(catalog.models)
    providers = {p.id for p in catalog.providers}
    for model in catalog.models:
        assert model.provider in providers and model.source and model.source_date
        if model.price is not None:
            limits = [tier.input_tokens_max for tier in model.price.tiers]
            assert limits[:-1] == sorted(limit for limit in limits[:-1] if limit is not None)


def test_every_error_says_whose_fault_it_is() -> None:
    assert all(kind.meaning.endswith(".") and 400 <= kind.status < 600 for kind in ERRORS.values())
    # Whoever is to blame upstream, it is never the caller's key.
    assert all(k.status != 401 for k in ERRORS.values() if k.fault == "upstream")
