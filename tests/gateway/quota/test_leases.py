"""Leases of shared counts: what is drawn, kept and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tokenschain.core.limits import (
    Lease,
    LeaseRequest,
    Rate,
    SharedRates,
)
from tokenschain.gateway.quota import leases
from tokenschain.gateway.quota.leases import (
    IDLE_ROUNDS,
    Count,
    Draw,
    Leases,
)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.01)


def leased(ask: Draw) -> Leases:
    return Leases(ask, (OSError,), lambda: 0.0, lambda: 0.0, lambda *_: None, "x", 1.0)


def test_an_idle_process_gives_its_lease_back_and_draws_anew_when_it_is_needed() -> None:
    rate = Rate("busy", "concurrent", 1_000)
    owner = SharedRates()
    asked: list[LeaseRequest] = []

    async def ask(requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
        asked.extend(requests)
        return [owner.draw(rate, request, "me", 0.0) for request in requests]

    def left_for_others() -> int:
        return owner.draw(rate, LeaseRequest("busy", "", 0, 0, 0), "other", 0.0).left

    async def run() -> None:
        pools = leased(ask)
        count = Count("busy", "", 1_000, True)
        pools.add(count)
        task = asyncio.create_task(pools.run())
        for _ in range(2):
            await pools.draw([count], [3])
            assert count.pool.take(3, 0.0)
            assert left_for_others() <= 1_000 - 3
            await asyncio.sleep(0.01 * (IDLE_ROUNDS + 10))
            assert count.pool.in_use == 3 and left_for_others() <= 1_000 - 3  # in use: kept
            count.pool.settle(3, 0, 0.0)
            await asyncio.sleep(0.01 * (IDLE_ROUNDS + 10))
            assert count.pool.left == 0 and left_for_others() == 1_000
            quiet = len(asked)
            await asyncio.sleep(0.1)
            assert len(asked) == quiet
        task.cancel()

    asyncio.run(run())


def test_an_old_lease_of_a_window_is_dropped_and_not_counted_off_what_is_new() -> None:
    rate = Rate("rpm", "requests", 1_000)
    owner = SharedRates()

    async def ask(requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
        assert all(request.want >= 0 for request in requests)
        return [owner.draw(rate, request, "me", 0.0) for request in requests]

    async def run() -> None:
        pools = leased(ask)
        count = Count("rpm", "", 1_000, at_once=False, lapses=True)
        pools.add(count)
        task = asyncio.create_task(pools.run())
        await pools.draw([count], [3])
        assert count.pool.take(3, 0.0)
        count.pool.settle(3, 3, 0.0)
        assert count.pool.left > 0
        await asyncio.sleep(0.01 * (IDLE_ROUNDS + 20))
        assert count.pool.left == 0
        task.cancel()

    asyncio.run(run())
