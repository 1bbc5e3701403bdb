"""Attacks on a gateway's port, each from a process of its own.

Run as `python -m tests.security.attacks PORT KEY NAME...`: until it is killed, all at once.
`PROOFS=full` takes the sizes of the attack that was made (docs/security.md), else a part.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

from tokenschain.infra import descriptors

FULL = os.environ.get("PROOFS") == "full"
Attack = Callable[[int, str], Awaitable[None]]


def size(full: int, part: int) -> int:
    return full if FULL else part


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def pour(port: int, data: bytes, pieces: int = 1) -> None:
    """Send for as long as the other side takes it, and stay."""
    while True:
        _, writer = await connect(port)
        try:
            for _ in range(pieces):
                writer.write(data)
                await writer.drain()
            await asyncio.sleep(1)
        except (OSError, KeyError):  # KeyError: asyncio's own, of a socket that was reset
            await asyncio.sleep(0.05)
        finally:
            writer.transport.abort()


def many(count: int, data: bytes, pieces: int = 1) -> Attack:
    async def attack(port: int, key: str) -> None:
        await asyncio.gather(*(pour(port, data, pieces) for _ in range(count)))

    return attack


async def idle(port: int, key: str) -> None:
    descriptors.raise_limit()
    most = min(size(16_384, 1_500), descriptors.limit() - 500)
    held = []
    while len(held) < most:
        held += await asyncio.gather(*(connect(port) for _ in range(100)), return_exceptions=True)
    await asyncio.sleep(3_600)


def post(path: str, body: bytes, key: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def calls(*requests: Callable[[str], bytes], at_once: int = 1) -> Attack:
    """Ask one after the other and read the answers, for ever."""

    async def one(port: int, key: str) -> None:
        while True:
            for request in requests:
                reader, writer = await connect(port)
                try:
                    writer.write(request(key))
                    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    while await reader.read(1_048_576):
                        pass
                except OSError:
                    pass
                finally:
                    writer.transport.abort()

    async def attack(port: int, key: str) -> None:
        await asyncio.gather(*(one(port, key) for _ in range(at_once)))

    return attack


CHAT = "/v1/chat/completions"


def chat(content: bytes) -> Callable[[str], bytes]:
    body = b'{"model":"sim-chat","messages":[{"role":"user","content":%b}]}' % content
    return lambda key: post(CHAT, body, key)


def lied_to(name: str, *, stream: bool) -> Callable[[str], bytes]:
    """A call of an upstream that answers with `LIES[name]`."""
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return lambda key: post(CHAT, json.dumps(body | {"x_sim": {"raw": name}}).encode(), key)


POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
WRONG_KEY = POST + b"authorization: Bearer wrong\r\ncontent-length: 33000000\r\n\r\n"
CHUNKED = POST + b"authorization: Bearer wrong\r\ntransfer-encoding: chunked\r\n\r\n"
BODY_BYTES = size(30_000_000, 6_000_000)
ATTACKS: dict[str, Attack] = {
    "pipelined requests": many(1, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 30_000, size(20, 4)),
    "idle connections": idle,
    "bodies with a wrong key": many(size(50, 20), WRONG_KEY + b"x" * 1_000_000, size(32, 4)),
    "trailers": many(5, CHUNKED + b"0\r\n" + b"a: b\r\n" * 300_000),
    "slow heads": many(size(1_000, 300), b"GET / HT"),
    "huge heads": many(20, b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1_000_000),
    "small chunks": many(5, CHUNKED + b"1\r\nx\r\n" * 200_000),
    "paths that are not served": many(4, b"GET /none HTTP/1.1\r\nhost: x\r\n\r\n" * 2_000),
    "wrong keys": many(
        4, b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer no\r\n\r\n" * 2_000
    ),
    "long bodies": calls(
        chat(b'"' + b'\\"' * (BODY_BYTES // 2)),
        chat(b'"' + b"\\ud83d" * (BODY_BYTES // 12) + b'"'),
        chat(b"[" * BODY_BYTES),
        chat(b'[{"type":"text","text":";base64,"},{"type":"image_url","image_url":{"url":"data:'
             + b"a" * (BODY_BYTES // 2) + b'"}}]'),
        chat(b"[" + b'{"type":"text","text":"a"},' * 45_000 + b'{"type":"text","text":"a"}]'),
        at_once=2,
    ),
    "models that do not exist": calls(
        lambda key: post(CHAT, b'{"model":"none","messages":[{"role":"user","content":"a"}]}', key),
        at_once=4,
    ),
    "lying upstreams": calls(
        *(lied_to(name, stream=False) for name in ("a long text", "many choices", "a long error")),
        *(lied_to(name, stream=True) for name in ("a long event", "many events", "line ends")),
        at_once=2,
    ),
}  # fmt: skip


def whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def chunk(content: bytes, finish: bytes = b"null") -> bytes:
    return (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        b'[{"index":0,"delta":{"content":%b},"finish_reason":%b}]}\n\n' % (content, finish)
    )


def stream(*events: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + b"".join(events)


END = chunk(b'""', b'"stop"') + b"data: [DONE]\n\n"
LIES: dict[str, bytes] = {
    "a long text": whole(
        b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"' + b"a" * BODY_BYTES + b'"},"finish_reason":'
        b'"stop"}]}'
    ),
    "many choices": whole(b'{"choices":[' + b"{}," * (BODY_BYTES // 3) + b"{}]}"),
    "a long error": whole(b'{"error":{"message":"' + b"sk-a 10.0.0.1 " * (BODY_BYTES // 14) + b'"}}'),
    "a long event": stream(chunk(b'"' + b"a" * 4_000_000 + b'"'), END),
    "many events": stream(chunk(b'"a"') * (BODY_BYTES // 300), END),
    "line ends": stream(b":\n" * (BODY_BYTES // 2)),
}  # fmt: skip


async def main(port: int, key: str, names: list[str]) -> None:
    await asyncio.gather(*(ATTACKS[name](port, key) for name in names))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
