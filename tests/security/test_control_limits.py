"""Control behind limits of its own: nothing of a stranger is kept beyond them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.security.platform import Platform, platform
from tests.waiting import WAIT_MAX_S
from tokenschain.control.api.sessions import LOGIN_BYTES_MAX
from tokenschain.infra.config import Settings
from tokenschain.infra.control_channel.protocol import JOURNAL_PATH, RESPONSES_PATH
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.server import HttpServer
from tokenschain.wiring import control

MB = 1_048_576
HEAD = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n"


def with_control(folder: Path, talk: Callable[[HttpServer, int], Awaitable[None]]) -> None:
    async def run(over: Platform) -> None:
        signatures = Signatures(INTERNATIONAL, lambda: ["s" * 32], time.time)
        over.app.state.internal = over.app.state.internal._replace(signatures=signatures)
        server = control._server(Settings(data_dir=folder), over.app)
        port = await server.listen("127.0.0.1", 0)
        await asyncio.wait_for(talk(server, port), 3 * WAIT_MAX_S)
        await server.drain(0)
        await asyncio.sleep(0.1)  # until the aborted sockets are closed
        assert server.body_bytes.held == 0

    with platform(folder) as over:
        asyncio.run(run(over))


async def flood(port: int, head: bytes, size: int, *, chunked: bool = False) -> bytes:
    """Send a body; the status that comes, whenever it does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)

    async def send() -> None:
        for _ in range(0, size, 65_536):
            piece = b"x" * 65_536
            writer.write(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")

    sending = asyncio.ensure_future(send())
    try:
        return (await reader.readline()).split()[1]
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()


@pytest.mark.parametrize("path", [b"/api/v1/sessions", b"/api/v1/keys", b"/", b"/nowhere"])
def test_a_large_body_is_refused_whether_its_length_is_said_or_not(
    tmp_path: Path, path: bytes
) -> None:
    async def talk(server: HttpServer, port: int) -> None:
        said = HEAD % (path, b"content-length: 400000000")
        assert await flood(port, said, 2 * MB) == b"413"
        assert await flood(port, HEAD % (path, b"transfer-encoding: chunked"), 8 * MB,
                           chunked=True) == b"413"  # fmt: skip
        small = 65_536 if path != b"/api/v1/sessions" else LOGIN_BYTES_MAX
        assert await flood(port, HEAD % (path, b"content-length: %d" % small), small) != b"413"
        if small < 65_536:
            assert await flood(port, HEAD % (path, b"content-length: 65536"), 65_536) == b"413"

    with_control(tmp_path, talk)


def test_what_gateways_ship_may_be_larger_and_is_bounded_too(tmp_path: Path) -> None:
    async def talk(server: HttpServer, port: int) -> None:
        for path, most in ((JOURNAL_PATH, 2 * MB), (RESPONSES_PATH, 8 * MB)):
            name, size = path.encode(), b"content-length: %d" % most
            assert await flood(port, HEAD % (name, size), most) == b"401"
            assert await flood(port, HEAD % (name, b"content-length: 900000000"), MB) == b"413"

    with_control(tmp_path, talk)


def test_heads_are_bounded_in_size_number_and_time(tmp_path: Path) -> None:
    async def talk(server: HttpServer, port: int) -> None:
        many = b"".join(b"x-%d: y\r\n" % number for number in range(200))
        for head in (b"x: " + b"y" * 20 * MB, b"x: " + b"y" * 40_000, many[:-2]):
            assert (
                await flood(port, b"GET / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n", 0)
                == b"431"
            )
        slow = await asyncio.open_connection("127.0.0.1", port)
        slow[1].write(b"GET / HT")
        while not [one for one in server.connections if one._buffer]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in server.connections:
            connection._deadline = 0.0
        assert b" 408 " in await slow[0].readline()
        slow[1].close()
        assert server.limits.head_wait_max_s <= 10 and server.limits.connections_max <= 4_096

    with_control(tmp_path, talk)
