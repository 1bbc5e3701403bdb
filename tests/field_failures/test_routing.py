"""Field failures 13 and 20: overhead that grows, and dead or slandered upstreams."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

import httpx
import pytest

from tests import web
from tests.faulty import FaultyClouds, load
from tests.stack import PRICES, Stack


@pytest.fixture
def faulty(tmp_path) -> Iterator[tuple[FaultyClouds, Stack]]:
    clouds = FaultyClouds(3)
    stack = Stack(
        tmp_path / "faulty",
        "http://unused",
        upstreams=clouds.upstreams(PRICES),
        routing={"policy": "cost-first", "explore": 0.0},
    ).start()
    yield clouds, stack
    stack.close()
    clouds.close()


def test_20_a_dead_upstream_leaves_rotation_and_comes_back(
    faulty: tuple[FaultyClouds, Stack],
) -> None:
    clouds, stack = faulty
    cloud = clouds.clouds[0]
    asyncio.run(load(stack.url, stack.key, 20, 0.5, 5))
    assert cloud.calls >= 8, "the cheapest is used while it is well"
    clouds.break_cloud(0, "reset")
    before = cloud.calls
    seen = asyncio.run(load(stack.url, stack.key, 40, 4, 5))
    assert all(one.whole for one in seen)
    # Three that open the breaker, those under way by then, and trials after 1 s and 2 s.
    assert cloud.calls - before <= 3 + 4 + 3
    assert "breaker_open" in stack.read_log()
    clouds.break_cloud(0, "")
    before = cloud.calls
    asyncio.run(load(stack.url, stack.key, 20, 8, 5))
    assert cloud.calls - before >= 20, "it is used again"
    assert "breaker_closed" in stack.read_log()


def test_20_a_callers_own_mistakes_take_no_upstream_out(
    faulty: tuple[FaultyClouds, Stack],
) -> None:
    clouds, stack = faulty
    cloud = clouds.clouds[0]
    clouds.break_cloud(0, "400")
    for _ in range(30):
        reply = web.post(
            f"{stack.url}/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "x"}]},
            headers=stack.headers,
        )
        assert reply.status_code == 400
    assert cloud.calls == 30, "all were sent to the cheapest, none elsewhere"
    clouds.break_cloud(0, "")
    seen = asyncio.run(load(stack.url, stack.key, 20, 0.5, 5))
    assert all(one.whole for one in seen) and cloud.calls >= 38
    assert "breaker_open" not in stack.read_log()


def test_13_overhead_does_not_grow_with_the_number_of_calls(
    faulty: tuple[FaultyClouds, Stack],
) -> None:
    _, stack = faulty
    overheads: list[float] = []
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    with httpx.Client(headers=stack.headers) as client:
        for _ in range(1_200):
            reply = client.post(f"{stack.url}/v1/chat/completions", json=body)
            overheads.append(float(reply.headers["x-tc-overhead-ms"]))
    first, last = statistics.median(overheads[100:400]), statistics.median(overheads[-300:])
    assert last <= 2 * first, (first, last)
