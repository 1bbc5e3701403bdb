"""Long answers of a lying upstream: the loop of a gateway goes on while they are read and given.

A worker of its own, asked over its socket; what is watched is its event loop from within. What is
measured is what the gateway does of an answer: whether its caller gets it, or an error.
`PROOFS=full` has the upstream send several times as much.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import web
from tests.security.loop_probe import PAUSE_LIMIT_S, TRIES, LyingUpstream, WatchedStack

TIMES = 4 if os.environ.get("PROOFS") == "full" else 1
MEGABYTE = 1_000_000
CHAT, MESSAGES, RESPONSES, EMBEDDINGS = "chat/completions", "messages", "responses", "embeddings"
PROMPT = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "sim-chat", "messages": PROMPT},
    MESSAGES: {"model": "sim-chat", "messages": PROMPT, "max_tokens": 9},
    RESPONSES: {"model": "sim-chat", "input": "hi"},
    EMBEDDINGS: {"model": "sim-embed", "input": "hi"},
}
USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'


def whole(text: bytes, more: bytes = b"") -> bytes:
    return (
        b'{"id":"c","object":"chat.completion","created":1,"model":"m",%b"choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}],%b}'
        % (more, text, USAGE)
    )


def chunk(text: bytes, finish: bytes = b"null") -> bytes:
    return (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        b'[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n' % (text, finish)
    )


def stream(*texts: bytes) -> bytes:
    return b"".join([*map(chunk, texts), chunk(b"", b'"stop"'), b"data: [DONE]\n\n"])


def reply(body: bytes, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (kind, more, len(body)) + body


def events(*texts: bytes) -> bytes:
    return reply(stream(*texts), b"text/event-stream")


def zipped(body: bytes) -> bytes:
    packed = zlib.compressobj(wbits=31)
    return reply(packed.compress(body) + packed.flush(), more=b"content-encoding: gzip\r\n")


def of_size(megabytes: int, unit: bytes) -> bytes:
    return unit * (megabytes * TIMES * MEGABYTE // len(unit))


LIES: dict[str, Callable[[], bytes]] = {
    "a long text": lambda: reply(whole(of_size(15, b"A long text. "))),
    "escapes": lambda: reply(whole(b"\\u4e2d" * 480_000)),
    "choices": lambda: reply(
        whole(b"a").replace(b'"finish_reason":"stop"}', b'"finish_reason":"stop"}' + b",{}" * 150_000)
    ),
    "zipped": lambda: zipped(whole(of_size(15, b"A long text. "))),
    "an event": lambda: events(b"a", b"A long text. " * (8 * MEGABYTE // 13), b"b"),
    "an event of escapes": lambda: events(b"a", b"\\u4e2d" * 900_000, b"b"),
    "an event of quotes": lambda: events(b"a", b'\\"' * 900_000, b"b"),
    "long events": lambda: events(*[b"A long text. " * 70_000] * 15 * TIMES),
    "many events": lambda: events(*[b"word "] * 60_000 * TIMES),
    "many events with a usage": lambda: events(*[b"word "] * 60_000 * TIMES).replace(
        b'"finish_reason":null}]', b'"finish_reason":null}],' + USAGE
    ),
    "a whole answer": lambda: reply(whole(b"A long text. " * (8 * MEGABYTE // 13))),
    "vectors": lambda: reply(
        b'{"object":"list","model":"m","data":[%b],%b}'
        % (
            b",".join([b'{"object":"embedding","index":0,"embedding":[%b]}' % b",".join(
                [b"0.12345678"] * 4_096)] * 200 * TIMES),
            USAGE,
        )
    ),
    "endless": lambda: events(*[b"a" * MEGABYTE] * 18),
    "an error": lambda: reply(b'{"error":{"message":"%b"}}' % of_size(15, b"no ")),
}  # fmt: skip
ANSWERS = (
    ("a long text", CHAT), ("a long text", RESPONSES), ("escapes", MESSAGES), ("choices", CHAT),
    ("zipped", CHAT), ("vectors", EMBEDDINGS), ("an error", MESSAGES), ("many events", MESSAGES),
)  # fmt: skip
STREAMS = (
    ("an event", RESPONSES), ("an event of escapes", MESSAGES), ("an event of quotes", CHAT),
    ("long events", CHAT), ("long events", RESPONSES), ("many events", RESPONSES),
    ("many events with a usage", CHAT), ("a whole answer", CHAT), ("a whole answer", MESSAGES),
    ("a whole answer", RESPONSES), ("zipped", CHAT), ("an error", CHAT),
)  # fmt: skip
KEPT = (("a long text", False), ("long events", True))
"""Of responses that are to be stored."""


class Liar(LyingUpstream):
    """Answers as it was told last, whatever the API: not all of them pass `x_sim` on."""

    lie = ""

    def _answer(self, connection: Any, head: str, request: dict[str, Any]) -> bool:
        return super()._answer(connection, head, request | {"x_sim": {"raw": self.lie}})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Liar]:
    made = Liar({name: lie() for name, lie in LIES.items()})
    yield made
    made.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, upstream: Liar) -> Iterator[WatchedStack]:
    made = WatchedStack(tmp_path_factory.mktemp("watched"), upstream)
    made.start()
    yield made
    made.close()


def check(watched: WatchedStack, upstream: Liar, lie: str, api: str, **fields: Any) -> str:
    """The loop does not stand still for long while an answer comes, in the best of some tries."""
    upstream.lie = lie
    for _ in range(TRIES):
        watched.probe.reset()
        got = web.post(
            f"{watched.url}/v1/{api}", json=BODIES[api] | fields, headers=watched.headers,
            timeout=120,
        )  # fmt: skip
        assert got.status_code in (200, 502), got.text[:300]
        web.get(f"{watched.url}/livez")
        if watched.probe.longest_s < PAUSE_LIMIT_S:
            break
    assert watched.probe.longest_s < PAUSE_LIMIT_S
    return got.text


@pytest.mark.parametrize(("lie", "api"), ANSWERS)
def test_the_loop_goes_on_while_a_long_answer_is_read(
    watched: WatchedStack, upstream: Liar, lie: str, api: str
) -> None:
    check(watched, upstream, lie, api)


@pytest.mark.parametrize(("lie", "api"), STREAMS)
def test_the_loop_goes_on_while_a_long_stream_is_relayed(
    watched: WatchedStack, upstream: Liar, lie: str, api: str
) -> None:
    check(watched, upstream, lie, api, stream=True)


@pytest.mark.parametrize(("lie", "streamed"), KEPT)
def test_the_loop_goes_on_while_a_long_response_is_stored(
    watched: WatchedStack, upstream: Liar, lie: str, streamed: bool
) -> None:
    check(watched, upstream, lie, RESPONSES, stream=streamed, store=True)


def test_a_streamed_response_has_an_end(watched: WatchedStack, upstream: Liar) -> None:
    said = check(watched, upstream, "endless", RESPONSES, stream=True)
    assert "response.failed" in said and "longer than any may be" in said
