"""What gateways tell each other of upstreams, in memory and through a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.servers import RedisStack
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core.log_events import silent
from tokenschain.core.routing.health import AttemptOutcome, Health
from tokenschain.gateway.dispatch import health_sharing
from tokenschain.gateway.dispatch.health_sharing import SharedHealth
from tokenschain.infra.redis.connection import REDIS_FAILURES
from tokenschain.infra.redis.pubsub import RedisPubSub


class Board:
    """A way between gateways in memory; it can be cut."""

    def __init__(self) -> None:
        self.listeners: list[asyncio.Queue[bytes]] = []
        self.claims: dict[str, float] = {}
        self.cut = False

    async def publish(self, message: bytes) -> None:
        self._check()
        for listener in self.listeners:
            listener.put_nowait(message)

    async def listen(self) -> AsyncIterator[bytes]:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        self.listeners.append(mine)
        while True:
            self._check()
            try:
                yield await asyncio.wait_for(mine.get(), 0.02)
            except TimeoutError:
                continue

    async def claim(self, name: str, for_s: float) -> bool:
        self._check()
        now = time.monotonic()
        if self.claims.get(name, 0.0) > now:
            return False
        self.claims[name] = now + for_s
        return True

    async def release(self, name: str) -> None:
        self._check()
        self.claims.pop(name, None)

    def _check(self) -> None:
        if self.cut:
            raise OSError("cut")


@pytest.fixture(params=["memory", "redis"])
def board(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        shared = Board()
        return lambda: shared
    redis: RedisStack = request.getfixturevalue("redis")
    redis.flush()
    return lambda: RedisPubSub(redis.url)


def test_one_learns_from_another_and_one_alone_tries(
    board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_sharing, "LOOK_S", 0.02)
    reported: list[tuple[str, str]] = []
    keys: list[tuple[object, ...]] = []

    async def run() -> None:
        healths = [{"cloud": Health()} for _ in range(3)]
        wires = [board() for _ in range(3)]
        shared = [
            SharedHealth(
                wires[n], (OSError, *REDIS_FAILURES), lambda n=n: healths[n], time.monotonic,
                lambda event, **more: reported.append((str(more["upstream"]), event)), f"gateway{n}",
                lambda *told: keys.append(told),
            )
            for n in range(3)
        ]  # fmt: skip
        tasks = [asyncio.create_task(one.run()) for one in shared]
        await asyncio.sleep(0.3)
        first = healths[0]["cloud"]
        now = time.monotonic()
        for _ in range(3):
            first.failed(AttemptOutcome.HARD, now, None, 0.5)
        shared[0].publish("cloud", "open", first.reopens_at - now)
        await asyncio.sleep(0.3)
        assert all(found["cloud"].is_open for found in healths)
        assert reported == [("cloud", "breaker_open_elsewhere")] * 2
        # Its time has come: one of the three may try, and no other.
        await asyncio.sleep(1.2)
        allowed = [found["cloud"].allows(time.monotonic()) for found in healths]
        assert sum(allowed) == 1, allowed
        trying = allowed.index(True)
        healths[trying]["cloud"].begin()
        await asyncio.sleep(0.3)
        assert not any(found["cloud"].allows(time.monotonic()) for found in healths)
        healths[trying]["cloud"].succeeded(time.monotonic())
        shared[trying].publish("cloud", "closed")
        await asyncio.sleep(0.3)
        assert not any(found["cloud"].is_open for found in healths)
        # A rest is everybody's, too.
        shared[1].publish("cloud", "rests", 5.0)
        await asyncio.sleep(0.3)
        assert not healths[0]["cloud"].allows(time.monotonic())
        assert healths[1]["cloud"].allows(time.monotonic())  # who tells knows it already
        # So is a key's, by its number.
        shared[2].publish("cloud", "cooling", 4.0, 2)
        await asyncio.sleep(0.3)
        assert keys == [("cloud", 2, "cooling", 4.0)] * 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wire in wires:
            if isinstance(wire, RedisPubSub):
                await wire.close()

    asyncio.run(run())


def test_without_the_others_everyone_tries_for_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_sharing, "LOOK_S", 0.01)
    monkeypatch.setattr(health_sharing, "RETRY_S", 0.05)

    async def run() -> None:
        board, health = Board(), Health()
        board.claims["cloud"] = time.monotonic() + 60
        shared = SharedHealth(
            board,
            (OSError,),
            lambda: {"cloud": health},
            time.monotonic,
            silent,
            "me",
            lambda *_: None,
        )
        task = asyncio.create_task(shared.run())
        await asyncio.sleep(0.1)
        for _ in range(3):
            health.failed(AttemptOutcome.HARD, time.monotonic() - 2, None, 0.5)
        await asyncio.sleep(0.1)
        assert not health.allows(time.monotonic())  # another holds the trial
        board.cut = True
        await asyncio.sleep(0.2)
        assert health.allows(time.monotonic())
        board.cut = False
        await asyncio.sleep(0.2)
        assert health.shares_trials
        task.cancel()

    asyncio.run(run())


def test_a_gateway_without_calls_knows_what_another_found_out(
    own_stack: Any, redis: RedisStack
) -> None:
    redis.flush()
    good, bad = UpstreamSimulator(), UpstreamSimulator()
    clouds = [
        {"id": name, "base_url": cloud.base_url, "models": ["m"],
         "prices": {"m": PRICES | {"input": price}}}
        for name, cloud, price in (("bad", bad, "0.1"), ("good", good, "5"))
    ]  # fmt: skip
    stack: Stack = own_stack(
        gateways=2, redis={"url": redis.url}, upstreams=clouds, routing={"policy": "cost-first",
                                                                    "explore": 0.0},
    ).start()  # fmt: skip
    try:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

        def ask(url: str) -> httpx.Response:
            path = f"{url}/v1/chat/completions"
            return web.post(path, json=body, headers=stack.headers, timeout=10)

        assert ask(stack.urls[1]).headers["x-tc-upstream"] == "bad"  # the cheaper one
        time.sleep(1.0)  # until it listens to the others
        bad.limited = True
        assert ask(stack.urls[0]).headers["x-tc-upstream"] == "good"
        bad.limited = False
        time.sleep(1.0)  # until it has heard it
        seen = len(bad.requests)
        assert ask(stack.urls[1]).headers["x-tc-upstream"] == "good"
        assert len(bad.requests) == seen
    finally:
        good.close()
        bad.close()


def test_news_that_is_none_changes_nothing() -> None:
    health = Health()
    for kind in ("odd", "", "opened"):
        health.heard(kind, 100.0, 1.0)
    assert not health.is_open and health.cooldown_until == Health().cooldown_until
