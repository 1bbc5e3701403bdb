"""A shared rate whose owner answers too late: how much passes at the most."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.limits import Lease, LeaseRequest, Rate
from tokenschain.gateway.quota.leases import Leases
from tokenschain.gateway.quota.reservation import LimitQuota, _Meter

AMOUNT, GATEWAYS = 100, 3


@pytest.mark.parametrize("drawn", [0, 20, 33, 60, 100])
def test_what_was_leased_before_counts_in_the_share_of_its_own(drawn: int) -> None:
    """Each gateway passes its share or what it had leased, whichever is more: in all at most the
    limit and two thirds with three gateways, where each took its share besides before."""

    async def run() -> int:
        async def draw(requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
            raise TimeoutError

        leases = Leases(draw, (), lambda: 5.0, lambda: 5.0, lambda *_, **__: None, "rates", 0.25)
        rate = Rate("rpm", "requests", AMOUNT)
        meter = _Meter(rate, "", leases)
        assert meter.count is not None and meter.count.drawn is not None
        meter.count.pool.granted(drawn, AMOUNT - drawn)
        meter.count.drawn.settle(0, drawn, 5.0)
        await leases._exchange([meter.count])
        assert leases.is_away
        quota = LimitQuota.__new__(LimitQuota)
        quota._gateways = lambda: GATEWAYS
        quota._report = lambda *_, **__: None
        quota._clock = lambda: 5.0
        passed = 0
        for _ in range(3 * AMOUNT):
            if meter.counter.take(1, 5.0):
                passed += 1
                continue
            try:
                quota._take_alone(meter, 1, 5.0)
                passed += 1
            except ApiError:
                pass
        return passed

    assert asyncio.run(run()) == max(drawn, AMOUNT // GATEWAYS)
