"""Under hostile load other callers are answered, and what is held stays within its bounds.

`PROOFS=full` takes the sizes of the attack that was made (docs/security.md), the normal run a part.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

import pytest

from tests.security.test_hostile_input import Pauses, Small, refusal
from tests.waiting import WAIT_MAX_S
from tokenschain.infra import descriptors
from tokenschain.infra.telemetry import resident_bytes
from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits

FULL = os.environ.get("PROOFS") == "full"
P99_MAX_S = 0.2
"""Of other callers, on a machine that has nothing else to do."""
SLOWNESS = 20 if FULL else 6
"""By how much a loaded machine, on which attack and defence share a loop, may be slower."""
MEMORY_MAX_BYTES = 200_000_000
"""By which one attack may let the process grow; both its ends are in here."""
ASKS = 60
Attack = Callable[[int], Awaitable[None]]


def size(full: int, part: int) -> int:
    return full if FULL else part


class Guarded(Small):
    """Refuses wrong keys at the head, as a gateway does."""

    def at_head(self, exchange: Exchange) -> None:
        if b"authorization" in exchange.request.headers:
            exchange.reply(401, b"", b"no")


async def connect(port: int, source: str = "127.0.0.1") -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    return writer


async def pour(port: int, data: bytes, pieces: int = 1) -> None:
    """Send for as long as the other side takes it."""
    writer = await connect(port)
    try:
        for _ in range(pieces):
            writer.write(data)
            await writer.drain()
        await asyncio.sleep(WAIT_MAX_S)
    except (OSError, KeyError):  # KeyError: asyncio's own, of a socket that was reset
        pass
    finally:
        writer.transport.abort()


async def pipelined(port: int) -> None:
    await pour(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 30_000, size(20, 4))


async def idle(port: int) -> None:
    most = min(size(16_384, 1_500), (descriptors.limit() - 500) // 2)
    writers = []
    try:
        for _ in range(most):
            writers.append(await connect(port))
        await asyncio.sleep(WAIT_MAX_S)
    finally:
        for writer in writers:
            writer.transport.abort()


def many(count: int, data: bytes, pieces: int) -> Attack:
    async def attack(port: int) -> None:
        await asyncio.gather(*(pour(port, data, pieces) for _ in range(count)))

    return attack


POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
WRONG_KEY = POST + b"authorization: Bearer wrong\r\ncontent-length: 33000000\r\n\r\n"
TRAILERS = POST + b"transfer-encoding: chunked\r\n\r\n0\r\n"
ATTACKS: dict[str, Attack] = {
    "pipelined requests": pipelined,
    "idle connections": idle,
    "bodies with a wrong key": many(size(50, 20), WRONG_KEY + b"x" * 1_000_000, size(32, 4)),
    "bodies over the budget": many(
        20, POST + b"content-length: 33000000\r\n\r\n" + b"x" * 1_000_000, size(32, 8)
    ),
    "trailers": many(5, TRAILERS + b"a: b\r\n" * 300_000, 1),
    "slow heads": many(size(1_000, 300), b"GET / HT", 1),
    "huge heads": many(20, b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1_000_000, 1),
    "small chunks": many(5, POST + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000, 1),
}  # fmt: skip


class Attacker:
    """Attacks from a loop and thread of its own: what it costs itself is not our pause."""

    def __init__(self, attack: Attack, port: int) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(attack, port)))
        self._thread.start()

    async def _run(self, attack: Attack, port: int) -> None:
        running = asyncio.ensure_future(attack(port))
        while not self._stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0.1)  # until the aborted sockets are closed

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)


async def asked(port: int) -> float:
    """How long a caller of another address waits for an answer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(12), 3 * WAIT_MAX_S)).endswith(b"200")
    writer.transport.abort()
    await asyncio.sleep(0.005)
    return loop.time() - began


async def p99_s(port: int) -> float:
    return sorted([await asked(port) for _ in range(ASKS)])[int(ASKS * 0.98)]


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_answered_while_one_attacks(name: str) -> None:
    async def run() -> None:
        handler = Guarded()
        limits = Limits(body_bytes_total_max=128_000_000, body_bytes_per_address_max=64_000_000)
        server = HttpServer(handler, refusal, limits)
        server.at_head = handler.at_head
        port = await server.listen("127.0.0.1", 0)
        quiet_s, before = await p99_s(port), resident_bytes()
        attacker = Attacker(ATTACKS[name], port)
        await asyncio.sleep(0.1)
        async with Pauses() as pauses:
            loaded_s = await p99_s(port)
        assert server.body_bytes.held <= limits.body_bytes_per_address_max
        assert resident_bytes() - before < MEMORY_MAX_BYTES
        await attacker.stop()
        pauses.check()
        assert loaded_s < max(P99_MAX_S, 10 * quiet_s) * SLOWNESS
        await server.drain(0)
        await asyncio.sleep(0.1)  # until the aborted sockets are closed
        assert server.body_bytes.held == 0 and len(server.connections) == 0

    asyncio.run(run())
