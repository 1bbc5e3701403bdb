"""A Redis that says what it was not asked is as good as away: nothing else is raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tokenschain.core.limits import LeaseRequest, Rate
from tokenschain.core.snapshot import Served, Snapshot
from tokenschain.infra.redis.cache import RedisCacheStore
from tokenschain.infra.redis.connection import CONNECTIONS_MAX, REDIS_FAILURES, server_time
from tokenschain.infra.redis.pubsub import RedisPubSub
from tokenschain.infra.redis.rate_limits import RedisRateLimits

WRONG = [
    b":7\r\n", b"$-1\r\n", b"$3\r\nabc\r\n", b"*1\r\n:1\r\n", b"*-1\r\n", b":abc\r\n", b"$abc\r\n",
    b"*abc\r\n", b"hello\r\n", b"-ERR x\r\n", b"-NOSCRIPT none\r\n", b"*2\r\n:1\r\n:2\r\n",
    b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n", b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
    b"*4\r\n:1\r\n:-5\r\n:5\r\n:1\r\n", b"*4\r\n:1\r\n:1\r\n:-5\r\n:1\r\n", b"*4\r\n:1\r\n:9\r\n:5\r\n:1\r\n",
    b"*4\r\n:1\r\n:1\r\n:1\r\n:" + b"9" * 400 + b"\r\n",
]  # fmt: skip
SHA = b"$40\r\n" + b"a" * 40 + b"\r\n"


class LyingRedis:
    """Takes commands, and answers each with the same."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                count = int((await reader.readline())[1:])
                command = []
                for _ in range(count):
                    size = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                self.asked.append(command[0])
                loads = command[0] == b"SCRIPT"
                writer.write(SHA if loads else b"+OK\r\n" if command[0] == b"CLIENT" else self.said)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            writer.close()


@asynccontextmanager
async def lying(said: bytes) -> AsyncIterator[tuple[LyingRedis, str]]:
    redis = LyingRedis(said)
    server = await asyncio.start_server(redis.serve, "127.0.0.1", 0)
    try:
        yield redis, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


async def refused(asking: Callable[[], Awaitable[object]]) -> None:
    """Asks twice: what was left of one answer is not taken for the next."""
    for _ in range(2):
        with pytest.raises(REDIS_FAILURES):
            await asyncio.wait_for(asking(), 20)


@pytest.mark.parametrize("said", WRONG)
def test_rates(said: bytes) -> None:
    async def run() -> None:
        async with lying(said) as (redis, url):
            served = Served(Snapshot("1", {}, {}, rates=(Rate("r", "requests", 100, 60),)))
            rates = RedisRateLimits(url, served, "me")
            await refused(lambda: rates.draw([LeaseRequest("r", "s", 5, 1)]))
            assert redis.asked.count(b"SCRIPT") <= 2, "one load for each try"
            assert rates.gateways == 1
            await rates.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "said", [said for said in WRONG if said[:1] in b":*h-" or b"abc\r" in said]
)
def test_answers(said: bytes) -> None:
    async def run() -> None:
        async with lying(said) as (_, url):
            store = RedisCacheStore(url, _NoSealer())  # type: ignore[arg-type]
            if said not in (b"*-1\r\n", b"$3\r\nabc\r\n"):  # nothing, and something, are answers
                await refused(lambda: store.get(b"key"))
            await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("said", [said for said in WRONG if b"$3" not in said])
def test_news(said: bytes) -> None:
    async def run() -> None:
        async with lying(said) as (_, url):
            told = RedisPubSub(url)
            with pytest.raises(REDIS_FAILURES):
                async with asyncio.timeout(2):
                    async for message in told.listen():
                        assert message == b""
            await told.close()

    asyncio.run(run())


def test_a_busy_redis_is_not_one_that_is_away() -> None:
    async def run() -> None:
        async with lying(b"$-1\r\n") as (_, url):
            store = RedisCacheStore(url, _NoSealer())  # type: ignore[arg-type]
            found = await asyncio.gather(*(store.get(b"key") for _ in range(10 * CONNECTIONS_MAX)))
            assert found == [None] * 10 * CONNECTIONS_MAX
            await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("said", [b":7\r\n", b"$-1\r\n", b"*abc\r\n", b"hello\r\n", b"-ERR x\r\n"])
def test_the_time(said: bytes) -> None:
    async def run() -> None:
        async with lying(said) as (_, url):
            await refused(lambda: server_time(url))

    asyncio.run(run())


class _NoSealer:
    def unseal(self, place: object, sealed: bytes) -> bytes:
        return sealed
