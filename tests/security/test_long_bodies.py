"""Long bodies, hostile and honest: the loop of a gateway goes on while they are read and written.

A worker of its own, asked over its socket; what is watched is its event loop from within.
`PROOFS=full` takes bodies of the full size.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.security.loop_probe import PAUSE_LIMIT_S, TRIES, LyingUpstream, WatchedStack
from tokenschain.core.formats.json_bounds import REQUEST_BOUNDS

BODY_BYTES = 32_000_000 if os.environ.get("PROOFS") == "full" else 12_000_000
ESCAPES = REQUEST_BOUNDS.escapes - 100_000
CHAT, MESSAGES, RESPONSES = "chat/completions", "messages", "responses"
MODEL = '"model":"sim-chat","max_tokens":9'
Made = tuple[str, bytes, int]
"""An API, a body for it, and the status that is due."""


def chat(content: bytes, *, cut: int = 0) -> bytes:
    body = b'{%b,"messages":[{"role":"user","content":%b}]}' % (MODEL.encode(), content)
    return body[: len(body) - cut]


def of_fields(count: int, before: str = "") -> bytes:
    fields = ",".join(f'"k{at}":1' for at in range(count))
    return f'{{{MODEL},"messages":[{{"role":"user","content":"a"}}],{before}{fields}'.encode()


def escapes(what: bytes, count: int = ESCAPES) -> bytes:
    return b'"' + what * count + b'"'


def picture() -> bytes:
    data = base64.b64encode(os.urandom(BODY_BYTES * 3 // 4 - 1_000))
    return b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}]' % data


PARTS = [{"type": "text", "text": "What is said at length. " * 4}, {"type": "text", "text": "b"}]


def conversation(messages: int, content: Any = PARTS) -> bytes:
    turn = json.dumps({"role": "user", "content": content}).encode()
    return b'{%b,"messages":[%b]}' % (MODEL.encode(), b",".join([turn] * messages))


HOSTILE: dict[str, Callable[[], Made]] = {
    "escaped quotes": lambda: (CHAT, chat(escapes(b'\\"')), 200),
    "escaped quotes, cut off": lambda: (CHAT, chat(escapes(b'\\"'), cut=3), 400),
    "too many escaped quotes": lambda: (CHAT, chat(escapes(b'\\"', BODY_BYTES // 2)), 400),
    "halves of characters": lambda: (CHAT, chat(escapes(b"\\ud83d")), 200),
    "one half and escaped quotes": lambda: (CHAT, chat(b'"\\ud83d' + escapes(b'\\"')[1:]), 200),
    "bytes that are no UTF-8": lambda: (CHAT, chat(b'"' + b"\xff" * BODY_BYTES + b'"'), 400),
    "blanks": lambda: (CHAT, chat(b"[" + b" " * BODY_BYTES + b"]"), 400),
    "lists in lists": lambda: (CHAT, chat(b"[" * BODY_BYTES), 400),
    "objects": lambda: (CHAT, chat(b"[" + b"{}," * (BODY_BYTES // 3) + b"{}]"), 400),
    "numbers": lambda: (CHAT, chat(b"[" + b"1," * (BODY_BYTES // 2) + b"1]"), 400),
    "fields": lambda: (CHAT, of_fields(190_000) + b"}", 200),
    "fields of metadata": lambda: (MESSAGES, of_fields(190_000, '"metadata":{') + b"}}", 200),
    "a data URL without end": lambda: (
        CHAT,
        chat(b'[{"type":"text","text":";base64,"},{"type":"image_url","image_url":{"url":'
             b'"data:' + b"a" * (BODY_BYTES // 2) + b'"}}]'),
        200,
    ),
    "marks of data URLs": lambda: (
        CHAT,
        chat(b'[{"type":"image_url","image_url":{"url":"data:' + b";base64," * 200_000 + b'"}}]'),
        200,
    ),
    "messages": lambda: (CHAT, conversation(49_000, "a"), 200),
    "messages to count": lambda: ("messages/count_tokens", conversation(49_000, "a"), 200),
    "a text to embed": lambda: (
        "embeddings", b'{"model":"sim-embed","input":["' + b"a" * BODY_BYTES + b'"]}', 200
    ),
}  # fmt: skip
HONEST: dict[str, Callable[[], Made]] = {
    "a long text": lambda: (CHAT, chat(b'"' + b"A long text. " * (BODY_BYTES // 13) + b'"'), 200),
    "Chinese": lambda: (CHAT, chat(b'"' + "中文".encode() * (BODY_BYTES // 6) + b'"'), 200),
    "Chinese as escapes": lambda: (MESSAGES, chat(escapes(b"\\u4e2d")), 200),
    "a picture": lambda: (CHAT, chat(picture()), 200),
    "10,000 messages": lambda: (MESSAGES, conversation(10_000), 200),
    "10,000 items": lambda: (
        RESPONSES,
        conversation(10_000).replace(b'"messages"', b'"input"').replace(b'"max_tokens":9,', b"")
        .replace(b'"type": "text"', b'"type": "input_text"'),
        200,
    ),
    "10,000 messages to count": lambda: ("messages/count_tokens", conversation(10_000), 200),
}  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStack]:
    upstream = LyingUpstream()
    made = WatchedStack(tmp_path_factory.mktemp("watched"), upstream)
    made.start()
    yield made
    made.close()
    upstream.close()


def send(watched: WatchedStack, api: str, body: bytes) -> httpx.Response:
    headers = watched.headers | {"content-type": "application/json"}
    return web.post(f"{watched.url}/v1/{api}", content=body, headers=headers, timeout=120)


@pytest.mark.parametrize("name", [*HOSTILE, *HONEST])
def test_the_loop_goes_on_while_a_long_body_is_read(watched: WatchedStack, name: str) -> None:
    api, body, status = (HOSTILE | HONEST)[name]()
    for _ in range(TRIES):
        watched.probe.reset()
        answer = send(watched, api, body)
        assert answer.status_code == status, answer.text[:300]
        if watched.probe.longest_s < PAUSE_LIMIT_S:
            return
    assert watched.probe.longest_s < PAUSE_LIMIT_S
