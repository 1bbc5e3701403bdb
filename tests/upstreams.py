"""A scriptable upstream on real sockets.

It speaks OpenAI's API byte by byte from a plain socket, so that it can do what no
well-behaved server does. What it does is said in the request itself, under `x_sim`
(unknown fields pass through the gateway untouched):

    tokens        how many content events or words to produce (default 4)
    delay_s       before the head;  pause_s: between events
    silence_s     after the first token
    cut_after     close the connection after that many events (0: before the head)
    status, error the answer's status and error body
    usage         final | none | cumulative | twice | zero | absurd
    done          false: no [DONE];  ends: "\\r\\n" | "\\r" | "\\n"
    large         [count, bytes]: that many events of that size
    text          the pieces of text to send;  wrong: json | http | event | error_event
    hang          true: accept and never answer;  drip_s: pause between single bytes
    split         send each event in pieces of that many bytes
    reason        the finish reason (default stop)
    id            what `produced` counts the tokens by;  fail_first: HTTP 500 the first time
"""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any


class UpstreamSimulator:
    """Counts what it produced: all in `tokens`, by the calls' own ids in `produced`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.produced: dict[str, int] = {}
        self.remembers = True
        """Whether it keeps requests; a long run does not."""
        self.limited = False
        """Answers everything with 429 and asks for 30 s of rest."""
        self.tokens = 0
        self.answered = 0
        self.disconnects = 0
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._closing = True
        self._listener.close()

    @staticmethod
    def says(request: dict[str, Any], sim: dict[str, Any]) -> list[Any]:
        """The answer, in the pieces it is streamed in; a test may put another in its place.

        A piece is a text, or a delta of another kind; None: the connection breaks off there.
        """
        return [f"word{i} " for i in range(sim.get("tokens", 4))]

    def reset(self) -> None:
        with self.lock:
            self.requests, self.heads, self.produced = [], [], {}
            self.tokens = self.answered = self.disconnects = 0

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        try:
            with connection:
                while True:
                    while b"\r\n\r\n" not in buffer:
                        data = connection.recv(65_536)
                        if not data:
                            return
                        buffer += data
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    fields = head.decode("latin-1").lower().split("content-length:")
                    length = int(fields[1].split("\r\n")[0]) if len(fields) > 1 else 0
                    while len(buffer) < length:
                        buffer += connection.recv(65_536)
                    body, buffer = buffer[:length], buffer[length:]
                    request = json.loads(body) if body else {}
                    if self.remembers:
                        with self.lock:
                            self.requests.append(request)
                            self.heads.append(head.decode("latin-1"))
                    if not self._answer(connection, head.decode("latin-1"), request):
                        return
        except OSError:
            with self.lock:
                self.disconnects += 1

    def _answer(self, connection: socket.socket, head: str, request: dict[str, Any]) -> bool:
        """Answer one request; false when the connection must not go on."""
        sim = request.get("x_sim") or {}
        time.sleep(sim.get("delay_s", 0))
        if sim.get("hang"):
            connection.recv(1)
            return False
        if sim.get("cut_after") == 0:
            return False
        if sim.get("wrong") == "http":
            connection.sendall(b"SMTP ready\r\n\r\n")
            return False
        if sim.get("fail_first") and sim["id"] not in self.produced:
            self._count(sim, 0)
            sim = sim | {"status": 500}
        if self.limited:
            sim = sim | {"status": 429, "headers": {"retry-after": "30"}}
        if "status" in sim:
            error = sim.get("error", {"message": "simulated", "code": "sim"})
            more = "".join(f"{k}: {v}\r\n" for k, v in sim.get("headers", {}).items())
            self._whole(connection, {"error": error}, sim["status"], more)
            return True
        if "/embeddings" in head.split(" ")[1]:
            self._embed(connection, request)
            return True
        if "large" in sim:
            sim = sim | {"text": ["y" * sim["large"][1]] * sim["large"][0]}
        pieces = sim.get("text") or self.says(request, sim)
        if request.get("stream"):
            return self._stream(connection, request, sim, pieces)
        if sim.get("wrong") == "json":
            self._raw(connection, b'{"choices": [', "application/json")
            return True
        body: dict[str, Any] = {
            "id": "chatcmpl-sim",
            "object": "chat.completion",
            "created": 1,
            "model": request.get("model"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(pieces)},
                    "finish_reason": sim.get("reason", "stop"),
                }
            ],
        }
        if sim.get("completion"):
            choice = body["choices"][0]
            choice["text"] = choice.pop("message")["content"]
            body["object"] = "text_completion"
        usage = self._usage(sim, request, len(pieces))
        if usage is not None:
            body["usage"] = usage
        self._count(sim, len(pieces))
        with self.lock:
            self.answered += 1
        self._whole(connection, body, 200)
        return True

    def _count(self, sim: dict[str, Any], tokens: int) -> None:
        with self.lock:
            self.tokens += tokens
            if "id" in sim:
                self.produced[sim["id"]] = self.produced.get(sim["id"], 0) + tokens

    def _usage(
        self, sim: dict[str, Any], request: dict[str, Any], tokens: int
    ) -> dict[str, Any] | None:
        mode = sim.get("usage", "final")
        if mode == "none":
            return None
        if isinstance(mode, dict):
            return mode
        if mode == "absurd":
            return {"prompt_tokens": -5, "completion_tokens": 1_170_000, "total_tokens": 1}
        prompt = 0 if mode == "zero" else 10 * len(request.get("messages") or [1])
        completion = 0 if mode == "zero" else tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _stream(
        self,
        connection: socket.socket,
        request: dict[str, Any],
        sim: dict[str, Any],
        pieces: list[Any],
    ) -> bool:
        ends = sim.get("ends", "\n")
        self._send(
            connection,
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n",
            sim,
        )
        usage_mode = sim.get("usage", "final")

        def chunk(delta: dict[str, Any], finish: str | None, **more: Any) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
            text = sim.get("completion")
            choice |= {"text": delta.get("content", "")} if text else {"delta": delta}
            return {
                "id": "chatcmpl-sim",
                "object": "text_completion" if text else "chat.completion.chunk",
                "created": 1,
                "model": request.get("model"),
                "choices": [choice],
                **more,
            }

        def event(data: Any) -> None:
            text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
            namespace = "" if sim.get("no_space") else " "
            self._chunk(connection, f"data:{namespace}{text}{ends}{ends}".encode(), sim)

        event(chunk({"role": "assistant", "content": ""}, None))
        if sim.get("wrong") == "error_event":
            event({"error": {"message": "secret inside", "code": "overloaded"}})
            return True
        for index, piece in enumerate(pieces):
            if piece is None or sim.get("cut_after") == index + 1:
                return False
            more = {}
            if usage_mode == "cumulative":
                more["usage"] = self._usage({}, request, index + 1)
            self._count(sim, 1)
            event(chunk(piece if isinstance(piece, dict) else {"content": piece}, None, **more))
            if index == 0:
                self._silence(connection, sim)
            time.sleep(sim.get("pause_s", 0))
        if sim.get("wrong") == "event":
            event("{broken")
            return True
        if sim.get("finish", True):
            event(chunk({}, sim.get("reason", "stop")))
        usage = self._usage(sim, request, len(pieces))
        if usage is not None and request.get("stream_options", {}).get("include_usage"):
            for _ in range(2 if usage_mode == "twice" else 1):
                last = chunk({}, None, usage=usage)
                last["choices"] = []
                event(last)
        if sim.get("done", True):
            event("[DONE]")
        with self.lock:
            self.answered += 1
        self._send(connection, b"0\r\n\r\n", sim)
        return True

    def _silence(self, connection: socket.socket, sim: dict[str, Any]) -> None:
        until = time.monotonic() + sim.get("silence_s", 0)
        while time.monotonic() < until:
            time.sleep(0.05)
            if sim.get("comments"):
                self._chunk(connection, b": still here\n\n", sim)

    def _embed(self, connection: socket.socket, request: dict[str, Any]) -> None:
        given = request["input"]
        count = len(given) if isinstance(given, list) else 1
        data = [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i in range(count)]
        usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
        with self.lock:
            self.answered += 1
        self._whole(connection, {"object": "list", "data": data, "usage": usage}, 200)

    def _whole(
        self, connection: socket.socket, body: dict[str, Any], status: int, more: str = ""
    ) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}"
            f"content-length: {len(data)}\r\n\r\n"
        )
        connection.sendall(head.encode() + data)

    def _raw(self, connection: socket.socket, data: bytes, kind: str) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)

    def _chunk(self, connection: socket.socket, data: bytes, sim: dict[str, Any]) -> None:
        size = sim.get("split") or len(data)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self._send(connection, b"%x\r\n%b\r\n" % (len(piece), piece), sim)

    def _send(self, connection: socket.socket, data: bytes, sim: dict[str, Any]) -> None:
        drip_s = sim.get("drip_s")
        if drip_s is None:
            connection.sendall(data)
            return
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(drip_s)
