"""Whoever asks the same first keeps nobody waiting, whether it reads or leaves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.stack import PRICES, Stack
from tests.waiting import until

PIECES, PIECE_CHARS = 900, 8_000
"""More than the sockets' buffers hold between a gateway and a caller that reads nothing."""


def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps(said | {"choices": [choice]} | more).encode()


class Long(BaseHTTPRequestHandler):
    """Streams a long answer, its middle only once somebody follows."""

    asked = 0
    followed = threading.Event()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked += 1
        if not asked.get("stream"):
            self._whole()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(chunk({"content": "w"}))
        self.followed.wait(60)
        for _ in range(PIECES):
            self.wfile.write(chunk({"content": "w" * PIECE_CHARS}))
        usage = {"prompt_tokens": 1, "completion_tokens": PIECES, "total_tokens": PIECES + 1}
        self.wfile.write(chunk({}, "stop", usage=usage) + b"data: [DONE]\n\n")

    def _whole(self) -> None:
        self.followed.wait(60)
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        message = {"role": "assistant", "content": "whole"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps(said | {"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Long)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    entry = {"id": "long", "base_url": url, "models": ["m"], "prices": {"m": PRICES}}
    made = Stack(
        tmp_path_factory.mktemp("followers"), url, upstreams=[entry], cache={"mode": "exact"}
    ).start()
    yield made
    made.close()
    server.shutdown()
    server.server_close()


def asks(question: str, *, stream: bool) -> bytes:
    said = [{"role": "user", "content": question}]
    return json.dumps({"model": "m", "stream": stream, "messages": said}).encode()


def lead(stack: Stack, headers: dict[str, str], body: bytes) -> socket.socket:
    """Ask first, and read nothing."""
    Long.asked = 0
    Long.followed.clear()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    leader = socket.socket()
    leader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    leader.connect(("127.0.0.1", stack.port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n{lines}"
    leader.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    until(lambda: Long.asked == 1)
    return leader


@pytest.mark.parametrize("leaves", [False, True])
def test_a_leader_that_reads_nothing_or_leaves_stops_no_follower(
    stack: Stack, leaves: bool
) -> None:
    headers = stack.headers | {"content-type": "application/json"}
    body = asks(f"the leader leaves: {leaves}", stream=True)
    leader = lead(stack, headers, body)
    size, last = 0, b""
    with httpx.stream(
        "POST", f"{stack.url}/v1/chat/completions", content=body, headers=headers,
        trust_env=False, timeout=30,
    ) as reply:  # fmt: skip
        assert reply.headers["x-tc-cache"] == "hit-inflight"
        if leaves:
            leader.close()
        Long.followed.set()
        for piece in reply.iter_bytes():
            size, last = size + len(piece), (last + piece)[-100:]
    leader.close()
    assert size > PIECES * PIECE_CHARS and last.endswith(b"data: [DONE]\n\n")
    assert Long.asked == 1
    if leaves:
        query = "select * from ledger where outcome = 'caller_gone' and cache = 'miss'"
        until(lambda: bool(stack.rows(query)))
        assert stack.rows(query)[0]["completion_tokens"] == PIECES, "who asked pays for it"


def test_who_waits_for_a_whole_answer_gets_it_though_who_asked_first_has_left(
    stack: Stack,
) -> None:
    headers = stack.headers | {"content-type": "application/json"}
    body = asks("one whole answer", stream=False)
    leader = lead(stack, headers, body)
    replies: list[httpx.Response] = []

    def follow() -> None:
        url = f"{stack.url}/v1/chat/completions"
        replies.append(httpx.post(url, content=body, headers=headers, trust_env=False, timeout=60))

    follower = threading.Thread(target=follow)
    follower.start()
    time.sleep(0.5)  # it has no word from the gateway until the answer is there
    leader.close()
    time.sleep(0.2)
    Long.followed.set()
    follower.join(60)
    assert replies[0].json()["choices"][0]["message"]["content"] == "whole"
    assert replies[0].headers["x-tc-cache"].startswith("hit-") and Long.asked == 1
