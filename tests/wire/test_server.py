"""The HTTP server over real sockets: framing, limits, order, draining."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import h11
import pytest
import trustme
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits


def refusal(status: int, code: str, message: str, path: bytes) -> tuple[bytes, bytes]:
    return b"x-refused: %b\r\n" % (path or b"-"), f"{code}: {message}".encode()


class Watcher:
    """Notes what it is told of an exchange."""

    def __init__(self, gone: list[str]) -> None:
        self.caller_left = gone.append
        self.paused = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None: ...


class Echo:
    """Answers with what it understood; `/slow` after a while, `/stream` in pieces."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.gone: list[str] = []
        self.paused = 0
        self.sent = 0

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        self.seen.append((request.method, request.path, request.body))
        if request.path == b"/slow":
            exchange.watcher = Watcher(self.gone)
            loop = asyncio.get_running_loop()
            loop.call_later(0.3, lambda: exchange.ended or exchange.reply(200, b"", b"slow"))
        elif request.path == b"/stream":
            exchange.begin(200, b"")
            exchange.write(b"one")
            exchange.finish(b"two")
        elif request.path == b"/flood":
            self._flood(exchange)
        elif request.path == b"/who":
            exchange.reply(200, b"", exchange.client_address.encode())
        else:
            exchange.reply(200, b"", b"%d:%b" % (len(request.body), request.path))

    def _flood(self, exchange: Exchange) -> None:
        exchange.begin(200, b"")
        exchange.watcher = watcher = Watcher(self.gone)
        for _ in range(10_000):
            if watcher.paused:
                break
            self.sent += 1
            exchange.write(b"z" * 65_536)
        self.paused += watcher.paused


def serve(
    body: Callable[[int, Echo, HttpServer], Awaitable[None]], limits: Limits | None = None, **more
) -> None:
    """Run `body(port, echo, server)` against a fresh server."""

    async def run() -> None:
        echo = Echo()
        server = HttpServer(echo, refusal, limits, more.pop("trusted", ()))
        port = await server.listen("127.0.0.1", 0, **more)
        try:
            await asyncio.wait_for(body(port, echo, server), 30)
        finally:
            await server.drain(0)

    uvloop.run(run())


async def talk(port: int, sent: bytes, *, pieces: int = 0, wait: float = 5) -> bytes:
    """Send, then read to the end (the last request must ask to close)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for at in range(0, len(sent), pieces or len(sent)):
            writer.write(sent[at : at + (pieces or len(sent))])
            await writer.drain()
            if pieces:
                await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), wait)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


CLOSE = b"host: x\r\nconnection: close\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_pipelined_requests_are_answered_in_order() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        requests = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
        requests += b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
        requests += b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"
        requests += b"GET /last HTTP/1.1\r\n" + CLOSE + b"\r\n"
        for pieces in (0, 1, 7):
            answer = await talk(port, requests, pieces=pieces)
            at = [answer.index(part) for part in (b"slow", b"3:/a", b"3\r\none", b"0:/last")]
            assert at == sorted(at)

    serve(body)


def test_chunked_bodies_and_expect_continue() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        head = b"POST /c HTTP/1.1\r\n" + CLOSE + b"transfer-encoding: chunked\r\n\r\n"
        chunks = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n"
        for pieces in (0, 1, 2, 5):
            assert (await talk(port, head + chunks, pieces=pieces)).endswith(b"13:/c")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /e HTTP/1.1\r\n" + CLOSE + b"expect: 100-continue\r\n")
        writer.write(b"content-length: 2\r\n\r\n")
        assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.read()).endswith(b"2:/e")
        writer.close()

    serve(body)


SMUGGLING = [
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3, 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0x3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nhost: x\n\n",
    b"GET / HTTP/1.1\r\nhost: x\nfoo: bar\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nfoo: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nfoo: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nfoo: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nfo o: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET http://evil/ HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: y\r\n\r\n",
    b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n",
]
BAD_CHUNKS = [
    b"3;ext=1\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"\r\nabc\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nabc",
]


@pytest.mark.parametrize("sent", SMUGGLING)
def test_ambiguous_requests_are_refused_and_the_connection_closed(sent: bytes) -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
        for pieces in (0, 3):
            answer = await talk(port, sent + hidden, pieces=pieces)
            assert status_of(answer) in (400, 501, 505), answer
            assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer
        assert not echo.seen

    serve(body)


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
def test_bad_chunk_framing_is_refused(chunks: bytes) -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        for pieces in (0, 1):
            answer = await talk(port, head + chunks, pieces=pieces)
            assert status_of(answer) in (400, 413) and not echo.seen

    serve(body)


TOKEN = st.text("abcXYZ-_09", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abc :;,=/é\t", max_size=12).map(lambda t: t.strip().encode("latin-1"))
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=6)
NOISE = st.sampled_from(
    [b"", b"\n", b"\r\n ", b"\x00", b": ", b"\r", b"transfer-encoding: chunked\r\n", b" "]
)


@settings(max_examples=250, deadline=None)
@given(
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"get", b"G T"]),
    path=st.sampled_from([b"/", b"/a?b=c", b"/%41", b"*", b"x", b"/\xff", b"/a#b"]),
    headers=HEADERS,
    body=st.binary(max_size=20),
    noise=NOISE,
    at=st.integers(0, 200),
)
def test_what_is_accepted_means_the_same_to_h11(
    method: bytes, path: bytes, headers: list, body: bytes, noise: bytes, at: int
) -> None:
    """Stricter than h11 is fine; reading a message differently is not."""
    lines = [b"%b: %b" % pair for pair in headers if pair[0].lower() not in (b"host", b"expect")]
    head = b"\r\n".join(
        [method + b" " + path + b" HTTP/1.1", b"host: x", *lines, b"content-length: %d" % len(body)]
    )
    sent = head + b"\r\n\r\n"
    sent = sent[: at % len(sent)] + noise + sent[at % len(sent) :] + body
    ours: list[tuple[str, bytes, bytes]] = []

    async def run(port: int, echo: Echo, _: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        ours.extend(echo.seen)

    serve(run)
    if not ours:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(sent)
    request = peer.next_event()
    assert isinstance(request, h11.Request), (sent, ours)
    got = b""
    while isinstance(event := peer.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), (sent, ours)
    assert (request.method.decode(), got) == (ours[0][0], ours[0][2])
    assert request.target.split(b"?")[0] == ours[0][1]


def test_limits_on_heads_headers_and_bodies() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        long = b"GET / HTTP/1.1\r\nhost: x\r\nfoo: " + b"y" * 5_000 + b"\r\n\r\n"
        assert status_of(await talk(port, long)) == 431
        assert status_of(await talk(port, b"GET /" + b"y" * 9_000)) == 431
        many = b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: 1\r\n" % i for i in range(30)) + b"\r\n"
        assert status_of(await talk(port, many)) == 431
        large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n"
        assert status_of(await talk(port, large + b"y" * 1001)) == 413
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert status_of(await talk(port, head + b"3e9\r\n" + b"y" * 1001)) == 413
        assert not echo.seen

    serve(body, Limits(head_bytes_max=4_096, headers_max=20, body_bytes_max=1_000))


def test_slow_heads_slow_bodies_and_idle_connections_are_ended() -> None:
    async def drip(port: int, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def write() -> None:
            for byte in sent:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(write())
        answer = await asyncio.wait_for(reader.read(), 8)
        task.cancel()
        writer.close()
        return answer

    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        slow_head = drip(port, b"GET / HTTP/1.1\r\nhost: x\r\nfoo: " + b"y" * 200)
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n"
        slow_body = drip(port, head + b"y" * 500)
        silent = drip(port, b"")
        answers = await asyncio.gather(slow_head, slow_body, silent)
        assert [a[:12] for a in answers] == [b"HTTP/1.1 408", b"HTTP/1.1 408", b""]
        assert not echo.seen

    serve(body, Limits(head_wait_max_s=0.5, body_grace_s=1.0, idle_max_s=0.5, sweep_s=0.05))


def test_a_connection_opened_ahead_of_need_is_kept_as_long_as_an_idle_one() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.6)
        writer.write(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
        writer.close()

    serve(body, Limits(head_wait_max_s=0.2, idle_max_s=10.0, sweep_s=0.05))


def test_a_caller_who_reads_nothing_pauses_the_producer_and_is_cut_off() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        writer.write(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(100):
            await asyncio.sleep(0.05)
            if echo.gone:
                break
        assert echo.paused == 1 and echo.sent < 1_000
        assert echo.gone == ["caller_stalled"]
        writer.close()

    serve(body, Limits(write_stall_max_s=0.5, sweep_s=0.05))


def test_a_caller_who_leaves_is_noticed() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)
        assert echo.gone == ["caller_gone"]

    serve(body)


def test_head_requests_and_http_1_0() -> None:
    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        answer = await talk(port, b"HEAD /h HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert b"content-length: 4" in answer and answer.endswith(b"\r\n\r\n")
        old = await talk(port, b"GET /stream HTTP/1.0\r\n\r\n")
        assert old.endswith(b"\r\n\r\nonetwo") and b"chunked" not in old

    serve(body)


def test_draining_finishes_what_runs_and_refuses_what_is_new() -> None:
    async def body(port: int, echo: Echo, server: HttpServer) -> None:
        running = asyncio.ensure_future(talk(port, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"))
        await asyncio.sleep(0.1)
        assert await server.drain(5) == 0
        answer = await running
        assert answer.endswith(b"slow") and b"connection: close" in answer
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)

    serve(body)


def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    sent = b"GET /who HTTP/1.1\r\n" + CLOSE + b"x-forwarded-for: 6.6.6.6, 9.9.9.9, 10.0.0.7\r\n\r\n"

    async def trusting(port: int, echo: Echo, _: HttpServer) -> None:
        assert (await talk(port, sent)).endswith(b"9.9.9.9")

    async def plain(port: int, echo: Echo, _: HttpServer) -> None:
        assert (await talk(port, sent)).endswith(b"127.0.0.1")

    serve(trusting, trusted=[ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")])
    serve(plain)


def test_https() -> None:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(served)

    async def body(port: int, echo: Echo, _: HttpServer) -> None:
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trusted)
        writer.write(b"GET /tls HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert (await reader.read()).endswith(b"0:/tls")
        writer.close()

    serve(body, tls=served)
