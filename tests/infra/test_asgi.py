"""ASGI applications over the wire's server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.waiting import WAIT_MAX_S
from tokenschain.infra.asgi import AsgiApp, AsgiHandler, Message, Receive, Send
from tokenschain.wire.server import HttpServer

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
START: Message = {
    "type": "http.response.start", "status": 201,
    "headers": [(b"x-a", b"1"), (b"content-length", b"999"), (b"date", b"never")],
}  # fmt: skip


def failed() -> tuple[int, bytes, bytes]:
    return 500, b"", b"failed"


def against(app: AsgiApp, talk: Callable[[Stream], Awaitable[None]]) -> list[tuple[str, str]]:
    """Talk to a server of the application; returns what was reported."""
    told: list[tuple[str, str]] = []

    async def run() -> None:
        handler = AsgiHandler(app, failed, lambda path, why: told.append((path, repr(why))))
        server = HttpServer(handler, lambda *_: (b"", b""))
        port = await server.listen("127.0.0.1", 0)
        stream = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.wait_for(talk(stream), WAIT_MAX_S)
        stream[1].transport.abort()
        await server.drain(1)

    asyncio.run(run())
    return told


def test_a_request_and_a_whole_answer() -> None:
    seen: list[Any] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append((scope["method"], scope["path"], scope["query_string"], scope["headers"]))
        seen.append(await receive())
        await send(START)
        await send({"type": "http.response.body", "body": b"yes"})

    async def talk(stream: Stream) -> None:
        stream[1].write(b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        answer = await stream[0].readuntil(b"yes")
        assert answer.startswith(b"HTTP/1.1 201 ") and b"\r\nx-a: 1\r\n" in answer
        assert b"\r\ncontent-length: 3\r\n" in answer and b"999" not in answer
        assert answer.count(b"date: ") == 1 and b"never" not in answer

    assert not against(app, talk)
    headers = [(b"host", b"x"), (b"content-length", b"2")]
    assert seen[0] == ("POST", "/a b", b"c=d", headers)
    assert seen[1] == {"type": "http.request", "body": b"{}", "more_body": False}


def test_a_streamed_answer_goes_no_faster_than_it_is_read_and_its_caller_may_leave() -> None:
    sent, left = [0], asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        watching = asyncio.create_task(watch())
        while not left.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            sent[0] += 1
            await asyncio.sleep(0)
        await watching

    async def talk(stream: Stream) -> None:
        stream[1].write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await stream[0].readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        await asyncio.sleep(0.3)
        before = sent[0]
        await asyncio.sleep(0.3)
        assert sent[0] == before < 1_000, "the producer waits"
        stream[1].transport.abort()
        await left.wait()

    assert not against(app, talk)


def test_an_application_that_fails_or_says_nothing_is_answered_for() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/raise":
            raise RuntimeError("secret")

    async def talk(stream: Stream) -> None:
        for path in (b"/raise", b"/silent"):
            stream[1].write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            answer = await stream[0].readuntil(b"failed")
            assert answer.startswith(b"HTTP/1.1 500 ") and b"secret" not in answer

    assert against(app, talk) == [("/raise", "RuntimeError('secret')")]


def test_an_answer_that_breaks_off_is_not_taken_for_complete() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("gone")

    async def talk(stream: Stream) -> None:
        stream[1].write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            answer = await stream[0].read()
        except ConnectionResetError:
            return
        assert not answer.endswith(b"0\r\n\r\n")

    assert len(against(app, talk)) == 1
