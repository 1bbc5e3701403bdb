"""Five clouds of one model whose faults are switched from outside, and callers who watch.

An answer is the words `w0 w1 w2 ...`, as many as were asked for, so that a repeated or a lost
word shows. A last message of the assistant is gone on with where it ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Coroutine
from typing import Any

import httpx

FAULTS = ("refused", "reset", "503", "429", "black hole", "drip", "cut", "error event", "brown-out")
"""What can be wrong with a cloud; connections are accepted but for the first."""
PROMPT_TOKENS = 7


class FaultyCloud:
    """One cloud in an event loop of its own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int) -> None:
        self._loop = loop
        self._random = random.Random(seed)
        self.fault = ""
        self.calls = 0
        self.answered = 0
        self.words = 0
        self.resumed = 0
        self.pause_s = 0.002
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.calls += 1
                if not await self._answer(body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        fault = self.fault
        if fault in ("reset", "refused"):
            writer.transport.abort()
            return False
        if fault in ("400", "503", "429"):
            error = json.dumps({"error": {"message": "no", "code": "sim"}}).encode()
            more = b"retry-after: 1\r\n" if fault == "429" else b""
            writer.write(
                b"HTTP/1.1 %b Sim\r\ncontent-type: application/json\r\n%b"
                b"content-length: %d\r\n\r\n%b" % (fault.encode(), more, len(error), error)
            )
            await writer.drain()
            return True
        if fault == "black hole":
            await asyncio.sleep(600)
        if fault == "brown-out":
            await asyncio.sleep(6)
        words = int(body.get("max_tokens") or 20)
        messages = body["messages"]
        start = 0
        if messages[-1]["role"] == "assistant":
            assert body["continue_final_message"] is True
            assert body["add_generation_prompt"] is False
            start = messages[-1]["content"].count("w")
            self.resumed += 1
        prompt = PROMPT_TOKENS + start
        if not body.get("stream"):
            text = "".join(f"w{i} " for i in range(words))
            usage = {"prompt_tokens": prompt, "completion_tokens": words}
            choice = {"index": 0, "message": {"role": "assistant", "content": text},
                      "finish_reason": "stop"}  # fmt: skip
            whole = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                                "choices": [choice], "usage": usage}).encode()  # fmt: skip
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(whole), whole)
            )
            await writer.drain()
            self.answered += 1
            self.words += words
            return True
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        cut = self._random.randrange(1, max(2, words)) if fault in ("cut", "error event") else None
        self._event(writer, {"role": "assistant", "content": ""})
        for number in range(words):
            if number == cut:
                if fault == "error event":
                    self._write(writer, b'data: {"error":{"message":"sim","code":500}}\n\n')
                    await writer.drain()
                writer.transport.abort() if fault == "cut" else writer.close()
                return False
            self._event(writer, {"content": f"w{start + number} "})
            self.words += 1
            await asyncio.sleep(0.3 if fault == "drip" else self.pause_s)
        self._event(writer, {}, "stop")
        options = body.get("stream_options") or {}
        if options.get("include_usage"):
            usage = {"prompt_tokens": prompt, "completion_tokens": words}
            self._chunk(writer, [], usage)
        self._write(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        self.answered += 1
        return True

    def _event(
        self, writer: asyncio.StreamWriter, delta: dict[str, Any], finish: str | None = None
    ) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._chunk(writer, [choice], None)

    def _chunk(self, writer: asyncio.StreamWriter, choices: list[Any], usage: Any) -> None:
        data = {"id": f"x{self.port}", "object": "chat.completion.chunk", "created": 1,
                "model": "m", "choices": choices} | ({"usage": usage} if usage else {})  # fmt: skip
        self._write(writer, b"data: %b\n\n" % json.dumps(data).encode())

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


class FaultyClouds:
    """Five of them."""

    def __init__(self, count: int = 5) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.clouds = [FaultyCloud(self.loop, seed) for seed in range(count)]
        for cloud in self.clouds:
            self.do(cloud.start())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def break_cloud(self, number: int, fault: str) -> None:
        """Switch a fault on, or all off with an empty one."""
        cloud = self.clouds[number]
        if fault == "refused":
            self.do(cloud.stop())
        elif cloud._server is None:
            self.do(cloud.start())
        cloud.fault = fault

    def upstreams(self, prices: dict[str, Any]) -> list[dict[str, Any]]:
        """Settings for a stack; the first is the cheapest, so that faults there are felt."""
        return [
            {
                "id": f"cloud{number}",
                "provider": "vllm",
                "base_url": f"http://127.0.0.1:{cloud.port}/v1",
                "models": {"m": "m"},
                "kinds": {"m": "chat"},
                "prices": {"m": prices | {"input": str(1 + number / 10)}},
            }
            for number, cloud in enumerate(self.clouds)
        ]

    def close(self) -> None:
        async def end() -> None:
            for cloud in self.clouds:
                if cloud._server is not None:
                    await cloud.stop()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Caller:
    """What one caller saw."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.total_s = 0.0
        self.text = ""
        self.status = 0
        self.error = ""
        self.usage: dict[str, int] | None = None
        self.ids: set[str] = set()
        self.id = ""
        self.ended = False

    @property
    def whole(self) -> bool:
        return self.ended and not self.error


async def call(client: httpx.AsyncClient, url: str, key: str, words: int, **body: Any) -> Caller:
    """One streamed call."""
    seen = Caller()
    began = time.monotonic()
    parsed = {
        "model": "m",
        "stream": True,
        "max_tokens": words,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "go"}],
    } | body
    try:
        async with client.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=parsed,
            headers={"authorization": f"Bearer {key}", "x-tc-route": "1"},
        ) as reply:
            seen.status = reply.status_code
            seen.id = reply.headers.get("x-request-id", "")
            if reply.status_code != 200:
                seen.error = (await reply.aread()).decode()
            async for line in reply.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    seen.ended = True
                    continue
                data = json.loads(line[6:])
                if "error" in data:
                    seen.error = data["error"]["code"]
                    continue
                seen.ids.add(data["id"])
                seen.usage = data.get("usage") or seen.usage
                for choice in data["choices"]:
                    text = choice["delta"].get("content")
                    if text:
                        seen.first_s = seen.first_s or time.monotonic() - began
                        seen.text += text
    except httpx.HTTPError as error:
        seen.error = repr(error)
    seen.total_s = time.monotonic() - began
    return seen


async def load(
    url: str, key: str, calls_per_s: float, seconds: float, words: int, **body: Any
) -> list[Caller]:
    """Calls at a steady rate."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        tasks = []
        for number in range(int(calls_per_s * seconds)):
            tasks.append(asyncio.create_task(call(client, url, key, words, **body)))
            await asyncio.sleep(max(0.0, 1 / calls_per_s))
            del number
        return await asyncio.gather(*tasks)


def text_of(words: int) -> str:
    """The answer, uncut."""
    return "".join(f"w{number} " for number in range(words))
