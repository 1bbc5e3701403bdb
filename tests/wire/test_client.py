"""The pooled client: reuse, limits, TLS, proxies, cancellation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme
import uvloop

from tokenschain.wire.client import (
    BadReply,
    ConnectFailed,
    HttpClient,
    Interrupted,
    Origin,
    PoolExhausted,
    TimedOut,
    Waits,
)

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(script: Script, body: Callable[[Origin], Awaitable[None]], tls=None) -> None:
    """Run `body` against a raw server whose connections run `script`."""

    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(body(Origin(tls is not None, "localhost", port)), 20)
        finally:
            server.close()

    uvloop.run(run())


async def request_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def test_idle_connections_are_reused() -> None:
    connections = 0

    async def script(reader, writer) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(OK)

    async def body(origin: Origin) -> None:
        client = HttpClient()
        for _ in range(5):
            reply = await client.open(origin, GET, Waits())
            assert (reply.status, await reply.read(10)) == (200, b"ok")
        client.close()
        assert connections == 1

    against(script, body)


@pytest.mark.parametrize(
    "behind",
    [
        b"HTTP/1.1 200 OK\r\nx-of: the one before\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
        b"H",
        b"no HTTP",
    ],
)
def test_what_follows_an_answer_is_not_the_beginning_of_the_next_one(behind: bytes) -> None:
    connections = 0

    async def script(reader, writer) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(OK + behind)

    async def body(origin: Origin) -> None:
        client = HttpClient()
        for _ in range(3):
            reply = await client.open(origin, GET, Waits())
            assert (reply.status, await reply.read(10)) == (200, b"ok")
            assert b"x-of" not in reply.headers
        client.close()
        assert connections == 3

    against(script, body)


def test_an_idle_connection_the_peer_closed_is_retried_once_and_only_then() -> None:
    requests = 0

    async def script(reader, writer) -> None:
        nonlocal requests
        await request_of(reader)
        requests += 1
        writer.write(OK)
        await request_of(reader)
        # The second request on a connection gets no answer, as when an idle limit ran out.

    async def fresh(reader, writer) -> None:
        nonlocal requests
        requests += 1
        await request_of(reader)

    async def body(origin: Origin) -> None:
        client = HttpClient()
        for _ in range(3):
            assert await (await client.open(origin, GET, Waits())).read(10) == b"ok"
        client.close()
        assert requests == 3

    async def fresh_body(origin: Origin) -> None:
        client = HttpClient()
        with pytest.raises(Interrupted):
            await client.open(origin, GET, Waits())
        client.close()
        assert requests == 4

    against(script, body)
    against(fresh, fresh_body)


def test_each_wait_has_its_own_limit() -> None:
    async def script(reader, writer) -> None:
        request = await request_of(reader)
        if b"/late" in request:
            await asyncio.sleep(5)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        if b"/stall" in request:
            await asyncio.sleep(5)
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)

    async def body(origin: Origin) -> None:
        client = HttpClient()
        waits = Waits(first_byte_max_s=0.3, idle_max_s=0.4, total_max_s=1.0)
        for path, phase in ((b"/late", "first byte"), (b"/stall", "next event"), (b"/", "end")):
            with pytest.raises(TimedOut) as found:
                reply = await client.open(origin, GET.replace(b"/ ", path + b" "), waits)
                await reply.read(1_000)
            assert found.value.phase == phase
        client.close()

    against(script, body)


def test_the_pool_is_bounded_and_waiting_for_it_too() -> None:
    async def script(reader, writer) -> None:
        while True:
            await request_of(reader)
            await asyncio.sleep(0.3)
            writer.write(OK)

    async def body(origin: Origin) -> None:
        client = HttpClient(connections_max=2)

        async def one(pool_max_s: float) -> bytes:
            reply = await client.open(origin, GET, Waits(pool_max_s=pool_max_s))
            return await reply.read(10)

        assert await asyncio.gather(*(one(5) for _ in range(6))) == [b"ok"] * 6
        found = await asyncio.gather(*(one(0.1) for _ in range(3)), return_exceptions=True)
        assert [type(f) for f in found].count(PoolExhausted) == 1
        client.close()

    against(script, body)


def test_cancelling_a_call_closes_the_upstream() -> None:
    closed = asyncio.Event

    async def script(reader, writer) -> None:
        await request_of(reader)
        assert await reader.read() == b""
        done.set()

    done: asyncio.Event

    async def body(origin: Origin) -> None:
        nonlocal done
        done = closed()
        client = HttpClient()
        task = asyncio.ensure_future(client.open(origin, GET, Waits()))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait_for(done.wait(), 2)
        assert not client.active
        client.close()

    against(script, body)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SMTP\r\n\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", Interrupted),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", Interrupted),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, BadReply),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100, BadReply),
    ],
)
def test_broken_and_oversized_replies(answer: bytes, error: type[Exception]) -> None:
    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()

    async def body(origin: Origin) -> None:
        client = HttpClient()
        with pytest.raises(error):
            await (await client.open(origin, GET, Waits())).read(50)
        client.close()

    against(script, body)


CHUNKED = b"HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"


@pytest.mark.parametrize(
    "behind",
    [b"0\r\n" + b"".join(b"t%d: v\r\n" % n for n in range(300_000)),
     b"0\r\nx: " + b"a" * 3_000_000, b"2;" + b"a" * 3_000_000],
    ids=["trailers", "a trailer", "a chunk's extension"],
)  # fmt: skip
def test_what_is_behind_a_body_has_a_bound(behind: bytes) -> None:
    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(CHUNKED + behind)
        await writer.drain()
        await reader.read()

    async def body(origin: Origin) -> None:
        client = HttpClient()
        with pytest.raises(BadReply, match="too large"):
            await (await client.open(origin, GET, Waits())).read(50)
        client.close()

    against(script, body)


def test_trailers_are_no_part_of_the_head() -> None:
    async def script(reader, writer) -> None:
        for _ in range(2):
            await request_of(reader)
            writer.write(CHUNKED + b"0\r\nx-a: 2\r\nx-b: 3\r\n\r\n")

    async def body(origin: Origin) -> None:
        client = HttpClient()
        for _ in range(2):
            reply = await client.open(origin, GET, Waits())
            assert await reply.read(50) == b"ok"
            assert reply.headers == {b"x-a": b"1", b"transfer-encoding": b"chunked"}
        client.close()

    against(script, body)


def test_a_long_answer_in_small_pieces_is_no_large_head() -> None:
    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(CHUNKED + b"1\r\na\r\n" * 60_000 + b"0\r\n\r\n")
        await writer.drain()

    async def body(origin: Origin) -> None:
        client = HttpClient()
        reply = await client.open(origin, GET, Waits())
        assert len(await reply.read(100_000)) == 60_002
        client.close()

    against(script, body)


def test_a_reply_may_end_with_the_connection_and_follow_an_interim_one() -> None:
    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()

    async def body(origin: Origin) -> None:
        client = HttpClient()
        reply = await client.open(origin, GET, Waits())
        assert (reply.status, await reply.read(50)) == (200, b"all of it")
        client.close()

    against(script, body)


def test_certificates_are_verified_and_an_own_authority_can_be_trusted() -> None:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(served)

    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(OK)
        await writer.drain()

    async def body(origin: Origin) -> None:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        client = HttpClient(tls=trusting)
        assert await (await client.open(origin, GET, Waits())).read(10) == b"ok"
        client.close()
        stranger = HttpClient()
        with pytest.raises(ConnectFailed, match="certificate not trusted"):
            await stranger.open(origin, GET, Waits())
        stranger.close()

    against(script, body, tls=served)


def test_a_proxy_is_asked_for_a_tunnel() -> None:
    asked: list[bytes] = []

    async def script(reader, writer) -> None:
        asked.append(await request_of(reader))
        if b"refused.example" in asked[-1]:
            writer.write(b"HTTP/1.1 403 No\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Go\r\n\r\n")
        await request_of(reader)
        writer.write(OK)
        await writer.drain()

    async def body(origin: Origin) -> None:
        client = HttpClient(proxy=f"http://127.0.0.1:{origin.port}")
        far = Origin(False, "cloud.example", 80)
        assert await (await client.open(far, GET, Waits())).read(10) == b"ok"
        assert asked[0].startswith(b"CONNECT cloud.example:80 HTTP/1.1\r\n")
        with pytest.raises(ConnectFailed, match="proxy refused"):
            await client.open(Origin(False, "refused.example", 80), GET, Waits())
        client.close()

    against(script, body)


def test_refused_connections_and_unknown_names() -> None:
    async def body(_: Origin) -> None:
        client = HttpClient()
        with pytest.raises(ConnectFailed, match="refused"):
            await client.open(Origin(False, "127.0.0.1", 1), GET, Waits())
        client.close()

    async def script(reader, writer) -> None: ...

    against(script, body)


def test_an_upstream_that_switches_protocols_unasked_has_failed_and_that_is_all() -> None:
    faults: list[object] = []

    async def script(reader, writer) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n")
        writer.write(b"\r\n\x00\x01\x02" + OK)
        await writer.drain()
        await reader.read()

    async def body(origin: Origin) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        client = HttpClient()
        with pytest.raises(BadReply, match="101"):
            await client.open(origin, GET, Waits())
        client.close()

    against(script, body)
    assert not faults, "the event loop has nothing to report"
