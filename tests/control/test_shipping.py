"""How far behind gateways are, as their batches say."""

from __future__ import annotations

from tokenschain.control.shipping import FORGOTTEN_S, GATEWAYS_MAX, Shipping


def test_the_gateway_furthest_behind_counts_until_it_is_silent() -> None:
    shipping = Shipping()
    shipping.note("a", 2.0, 100, 1_000.0)
    shipping.note("b", 30.0, 7, 1_001.0)
    assert (shipping.lag_s(1_002.0), shipping.backlog_bytes(1_002.0)) == (30.0, 107)
    shipping.note("b", 0.1, 0, 1_003.0)
    assert (shipping.lag_s(1_004.0), shipping.backlog_bytes(1_004.0)) == (2.0, 100)
    assert shipping.lag_s(1_003.0 + FORGOTTEN_S + 1) == 0.0


def test_gateways_are_bounded() -> None:
    shipping = Shipping()
    for number in range(2 * GATEWAYS_MAX):
        shipping.note(f"gateway-{number}", 1.0, 1, 5.0)
    assert shipping.backlog_bytes(5.0) == GATEWAYS_MAX
