"""What callers make a process hold is bounded, for all of them and for each address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.waiting import WAIT_MAX_S
from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits

MB = 1_048_576
HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n"
TIGHT = Limits(
    body_bytes_max=4 * MB,
    body_bytes_total_max=6 * MB,
    body_bytes_per_address_max=4 * MB,
    connections_max=40,
    connections_per_address_max=20,
)
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Run = Callable[[HttpServer, int, list[Exchange]], Awaitable[None]]


def refusal(status: int, code: str, message: str, path: bytes) -> tuple[bytes, bytes]:
    return b"", code.encode()


@asynccontextmanager
async def tight() -> AsyncIterator[tuple[HttpServer, int, list[Exchange]]]:
    """A server of small budgets that answers when told to."""
    waiting: list[Exchange] = []
    server = HttpServer(waiting.append, refusal, TIGHT)
    port = await server.listen("127.0.0.1", 0)
    yield server, port, waiting
    await server.drain(0)
    await asyncio.sleep(0.1)  # until the aborted sockets are closed
    assert server.body_bytes.held == 0 and len(server.connections) == 0


async def opened(port: int, source: str = "127.0.0.1") -> Stream:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def begin(port: int, sent: int, *, chunked: bool, source: str = "127.0.0.1") -> Stream:
    """Send the first `sent` bytes of a body that is longer."""
    reader, writer = await opened(port, source)
    if chunked:
        writer.write(HEAD % b"transfer-encoding: chunked" + b"400000\r\n" + b"x" * sent)
    else:
        writer.write(HEAD % b"content-length: 4194304" + b"x" * sent)
    await asyncio.wait_for(writer.drain(), WAIT_MAX_S)
    return reader, writer


async def status_of(stream: Stream) -> bytes:
    line = await asyncio.wait_for(stream[0].readline(), WAIT_MAX_S)
    return line.split()[1]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_MAX_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ended(streams: list[Stream]) -> None:
    for _, writer in streams:
        writer.transport.abort()


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_over_the_share_of_an_address_are_refused_and_others_are_taken(
    chunked: bool,
) -> None:
    async def run() -> None:
        async with tight() as (server, port, waiting):
            held = [await begin(port, 2 * MB - 1, chunked=chunked) for _ in range(2)]
            await until(lambda: server.body_bytes.held >= 4 * MB - 2)
            one_more = await begin(port, MB, chunked=chunked)
            assert await status_of(one_more) == b"429"
            stranger = await begin(port, MB, chunked=chunked, source="127.0.0.2")
            await until(lambda: server.body_bytes.held >= 5 * MB - 2)
            too_much = await begin(port, 3 * MB, chunked=chunked, source="127.0.0.3")
            assert await status_of(too_much) == b"503"
            ended([*held, one_more, stranger, too_much])
            await until(lambda: server.body_bytes.held == 0)
            whole = await opened(port)
            whole[1].write(HEAD % b"content-length: 4194304" + b"x" * 4 * MB)
            await until(lambda: bool(waiting))
            assert server.body_bytes.held == 4 * MB, "counted as long as it is served"
            waiting[0].reply(200, b"", b"")
            assert await status_of(whole) == b"200" and server.body_bytes.held == 0
            ended([whole])

    asyncio.run(run())


def test_what_is_pipelined_behind_a_running_request_counts() -> None:
    async def run() -> None:
        async with tight() as (server, port, waiting):
            streams = [await opened(port) for _ in range(15)]
            for _, writer in streams:
                writer.write(HEAD % b"content-length: 2" + b"{}" + b"GET / " * 100_000)
            await until(lambda: len(waiting) == 15)
            await asyncio.sleep(0.1)
            assert server.body_bytes.held <= TIGHT.body_bytes_per_address_max
            kept = sum(len(connection._buffer) for connection in server.connections)
            assert kept <= TIGHT.body_bytes_per_address_max + 15 * TIGHT.pipeline_bytes_max
            for exchange in waiting:
                exchange.abort()
            ended(streams)
            await until(lambda: len(server.connections) == 0)

    asyncio.run(run())


@pytest.mark.parametrize("first", [b"", b"GET / HT", HEAD % b"content-length: 9"])
def test_a_new_connection_is_taken_on_where_an_address_holds_all_it_may(first: bytes) -> None:
    """Idle ones and slow heads give way; a body under way does not, and other addresses do not
    notice either."""

    async def run() -> None:
        async with tight() as (server, port, waiting):
            flood = []
            for _ in range(TIGHT.connections_per_address_max):
                flood.append(await opened(port))
                flood[-1][1].write(first)
            await until(lambda: len(server.connections) == TIGHT.connections_per_address_max)
            await asyncio.sleep(0.1)
            for source in ("127.0.0.1", "127.0.0.2"):
                caller = await opened(port, source)
                caller[1].write(HEAD % b"content-length: 2" + b"{}")
                if source == "127.0.0.1" and b"length" in first:
                    with pytest.raises((ConnectionError, IndexError)):
                        await status_of(caller)
                    ended([caller])
                    continue
                await until(lambda: bool(waiting))
                waiting.pop().reply(200, b"", b"")
                assert await status_of(caller) == b"200"
                ended([caller])
            ended(flood)
            await until(lambda: len(server.connections) == 0)

    asyncio.run(run())
