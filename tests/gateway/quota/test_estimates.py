"""Estimates: what is prepared once gives what the plain formula gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.quota.test_reservation import BY_LENGTH, DEEPSEEK, THINKS
from tokenschain.core.pricing.catalog import Price, PriceTier, cost_at_most, to_yuan
from tokenschain.gateway.quota.estimates import PlanPrices

FLAT = st.builds(
    lambda tier, currency: Price(currency, (tier,), f"{tier}"),
    st.builds(
        PriceTier, st.integers(1, 9), st.integers(1, 9), cache_write=st.none() | st.integers(1, 20),
        audio_input=st.none() | st.integers(1, 20), input_tokens_max=st.none() | st.just(5),
    ),
    st.sampled_from(["CNY", "CNY", "USD"]),
)  # fmt: skip


@given(
    st.lists(FLAT | st.sampled_from([DEEPSEEK, THINKS, BY_LENGTH]), max_size=12),
    st.integers(0, 50), st.integers(0, 50), st.booleans(),
)  # fmt: skip
def test_prepared_prices_give_the_dearest_of_all(
    prices: list[Price], prompt: int, output: int, writes: bool
) -> None:
    costs = [
        to_yuan(cost_at_most(prompt, output, p, writes_cache=writes), p.currency, 7_000_000)
        for p in prices
    ]
    made = PlanPrices(prices)
    assert made.most(prompt, output, 7_000_000, writes_cache=writes) == max(costs, default=0)
    if made.flat is not None:
        assert prompt * made.flat[0] + output * made.flat[1] == max(costs) or writes
    assert made.writes_matter or made.most(prompt, output, 7_000_000, writes_cache=True) == max(
        costs, default=0
    )
