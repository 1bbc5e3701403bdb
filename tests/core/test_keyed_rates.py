"""Rates by keys that strangers choose."""

from __future__ import annotations

import pytest

from tokenschain.core.keyed_rates import OTHER, KeyedRates


def test_a_minutes_worth_may_come_at_once_and_then_as_the_rate_says() -> None:
    rates = KeyedRates(60)
    assert not any(rates.wait_s("a", 10.0) for _ in range(60))
    assert rates.wait_s("a", 10.0) == pytest.approx(1.0)
    assert rates.wait_s("a", 10.5) == pytest.approx(0.5), "a refusal costs nothing"
    assert rates.wait_s("a", 11.1) == 0.0
    assert rates.wait_s("b", 10.0) == 0.0, "others have a bucket of their own"


def test_the_table_is_bounded_and_what_is_beyond_shares_one_bucket() -> None:
    rates = KeyedRates(60, keys_max=100)
    refused = sum(rates.wait_s(f"k{number}", 0.0) > 0 for number in range(1_000))
    assert len(rates) <= 101 and refused == 900 - 60
    assert OTHER in rates._empty_at
    assert rates.wait_s("k5", 0.0) == 0.0, "who was there keeps its own"


def test_who_is_gone_is_forgotten_as_others_come() -> None:
    rates = KeyedRates(60, keys_max=100)
    for number in range(100):
        rates.wait_s(f"old{number}", 0.0)
    for number in range(100):
        assert rates.wait_s(f"new{number}", 100.0) == 0.0
    assert not any(key.startswith("old") for key in rates._empty_at)
