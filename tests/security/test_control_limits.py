"""Control behind limits of its own: nothing of a stranger is kept beyond them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security.platform import Platform, platform
from tests.waiting import WAIT_MAX_S
from tokenschain.control.api.sessions import LOGIN_BYTES_MAX
from tokenschain.core.log_events import silent
from tokenschain.infra.config import Settings
from tokenschain.infra.config.groups import ControlSettings
from tokenschain.infra.control_channel.protocol import (
    JOURNAL_PATH,
    RESPONSES_PATH,
    SIGNATURE_HEADER,
)
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.egress_rules import Egress
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.server import HttpServer
from tokenschain.wiring import control

MB = 1_048_576
HEAD = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n"


SECRETS = ("s" * 32,)


def signed_head(path: str, body: bytes) -> bytes:
    header = Signatures(INTERNATIONAL, lambda: SECRETS, time.time).sign("POST", path, body).header
    fields = f"{SIGNATURE_HEADER}: {header}\r\ncontent-length: {len(body)}"
    return HEAD % (path.encode(), fields.encode())


def with_control(
    folder: Path, talk: Callable[[HttpServer, int], Awaitable[None]], **control_settings: int
) -> None:
    async def run(over: Platform) -> None:
        signatures = Signatures(INTERNATIONAL, lambda: SECRETS, time.time)
        over.app.state.internal = over.app.state.internal._replace(signatures=signatures)
        limits = ControlSettings(**control_settings)
        settings = Settings(data_dir=folder, control=limits)
        server = control._server(settings, over.app, Egress(settings, silent))
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
        token = b"authorization: Bearer tcs-x\r\n"
        said = HEAD % (path, token + b"content-length: 400000000")
        assert await flood(port, said, 2 * MB) == b"413"
        assert await flood(port, HEAD % (path, token + b"transfer-encoding: chunked"), 8 * MB,
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


async def from_address(port: int, address: str, sent: bytes) -> tuple[Any, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(sent)
    return reader, writer


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.readline(), WAIT_MAX_S)).partition(b" ")[2][:3]


def test_who_sends_no_body_takes_no_place_from_others(tmp_path: Path) -> None:
    """Heads of two addresses, whose bodies never come, take all of control's connections."""

    async def talk(server: HttpServer, port: int) -> None:
        body = b"x" * 1_000
        proven = await from_address(port, "127.0.0.4", signed_head(JOURNAL_PATH, body))
        fields = b"content-length: 1000\r\nauthorization: Bearer tcs-x"
        held = [
            await from_address(port, address, HEAD % (path, fields) + b"{")
            for address in ("127.0.0.2", "127.0.0.3")
            for path in (b"/api/v1/sessions", b"/api/v1/keys") * 8
        ]
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.9", "127.0.0.1") * 2:
            get = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
            reader, writer = await from_address(port, address, get)
            assert await answer_of(reader) == b"200", address
            held.append((reader, writer))
        proven[1].write(body)
        assert await answer_of(proven[0]) not in (b"", b"401"), "a gateway's body is not cut off"
        for _, writer in (*held, proven):
            writer.close()

    with_control(tmp_path, talk, connections_max=16)


def test_who_is_a_stranger_is_known_by_the_head(tmp_path: Path) -> None:
    async def talk(server: HttpServer, port: int) -> None:
        body = b"x" * MB
        signed = signed_head(RESPONSES_PATH, body)
        for head in (
            HEAD % (RESPONSES_PATH.encode(), b"content-length: 8000000"),
            HEAD % (RESPONSES_PATH.encode(), b"x-tc-signature: 0 0 0 0 0\r\ncontent-length: 99"),
            HEAD % (b"/api/v1/keys", b"content-length: 9000"),
            signed.replace(b"POST", b"PUT"),
            signed.replace(RESPONSES_PATH.encode(), JOURNAL_PATH.encode()),
        ):
            reader, writer = await from_address(port, "127.0.0.1", head)
            assert await answer_of(reader) == b"401", head
            writer.close()
        assert await flood(port, signed, MB) != b"401"
        assert await flood(port, signed, MB) == b"401", "it came before"
        altered = signed_head(RESPONSES_PATH, b"y" * MB)
        assert await flood(port, altered, MB) == b"401"

        reader, writer = await from_address(
            port, "127.0.0.1", HEAD % (b"/api/v1/sessions", b"content-length: 99") + b"{"
        )
        while not [one for one in server.connections if one._request]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waits = [one._deadline for one in server.connections if one._request]
        assert waits[0] is not None and waits[0] - time.monotonic() < 5 < server.limits.body_grace_s
        writer.close()

    with_control(tmp_path, talk)
