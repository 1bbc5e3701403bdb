"""Small embedding calls at concurrency 32: alone, and sharing calls upstream.

    python -m bench.embeddings

Side by side on the embedded embedder and on a modelled GPU server (12 ms a call and 0.4 ms a
text, one call at a time: the shape of a small ONNX or TEI server). `alone` sends a field the
platform does not know, which keeps a call by itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
from rich.console import Console
from tests.ports import free_port
from tests.stack import PRICES, Stack, wait_for

from tokenschain.core.errors import wire_refusal
from tokenschain.engine import embedder

CONCURRENCY, CALLS = 32, 600
CALL_S, TEXT_S = 0.012, 0.0004
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "rain",
    "falls",
    "on",
    "old",
    "stone",
    "bridges",
]


class Server:
    """A GPU server that embeds one array at a time and pads to the longest text."""

    def __init__(self) -> None:
        self.calls = self.texts = 0
        self.padded = self.real = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> None:
        self._gpu = asyncio.Lock()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            given = json.loads(await reader.readexactly(length))["input"]
            texts = [given] if isinstance(given, str) else given
            async with self._gpu:
                await asyncio.sleep(CALL_S + TEXT_S * len(texts))
            longest = max(map(len, texts))
            self.calls += 1
            self.texts += len(texts)
            self.padded += longest * len(texts)
            self.real += sum(map(len, texts))
            data = [{"object": "embedding", "index": i, "embedding": [0.5]}
                    for i in range(len(texts))]  # fmt: skip
            tokens = sum(-(-len(t) // 4) for t in texts)
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            body = json.dumps({"object": "list", "data": data, "model": "e", "usage": usage})
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body.encode())
            )
            await writer.drain()


async def run(url: str, key: str, model: str, alone: bool) -> tuple[float, float]:
    """Calls a second, and the median time of one."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.choice((6, 8, 30, 120)))) + str(n)
             for n in range(CALLS)]  # fmt: skip
    times: list[float] = []

    async def caller(client: httpx.AsyncClient) -> None:
        while texts:
            body = {"model": model, "input": texts.pop()} | ({"alone": 1} if alone else {})
            began = time.monotonic()
            reply = await client.post(f"{url}/v1/embeddings", json=body,
                                      headers={"authorization": f"Bearer {key}"})  # fmt: skip
            assert reply.status_code == 200, reply.text
            times.append(time.monotonic() - began)

    began = time.monotonic()
    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(caller(client) for _ in range(CONCURRENCY)))
    return CALLS / (time.monotonic() - began), statistics.median(times)


def main() -> None:
    console = Console()
    server = Server()
    with tempfile.TemporaryDirectory() as name:
        embedder_port = free_port()
        folder = Path(name)
        (folder / "data" / "models").mkdir(parents=True)
        stack = Stack(
            folder / "stack",
            "http://unused",
            data_dir=str(folder / "data"),
            engine={"enabled": False},
            upstreams=[
                {"id": "gpu", "base_url": f"http://127.0.0.1:{server.port}/v1", "models": ["e"],
                 "kinds": {"e": "embedding"}, "prices": {"e": PRICES}},
                {"id": "embedder", "provider": "local",
                 "base_url": f"http://127.0.0.1:{embedder_port}/v1",
                 "credential": f"file:{folder / 'key'}", "models": ["multilingual-e5-small"],
                 "kinds": {"multilingual-e5-small": "embedding"},
                 "prices": {"multilingual-e5-small": PRICES}},
            ],
        )  # fmt: skip
        (folder / "key").write_text("bench")
        threading.Thread(target=_embedder, args=(embedder_port,), daemon=True).start()
        stack.start("control", "gateway")
        wait_for(f"http://127.0.0.1:{embedder_port}/health", stack.read_log)
        console.print("| server | calls | calls/s | median ms | texts a call | padding |")
        console.print("|---|---|---|---|---|---|")
        for model, label in (("e", "modelled GPU"), ("multilingual-e5-small", "embedded, CPU")):
            for alone in (True, False):
                server.calls = server.texts = server.padded = server.real = 0
                rate, median = asyncio.run(run(stack.url, stack.key, model, alone))
                size = server.texts / server.calls if server.calls else float("nan")
                waste = 1 - server.real / server.padded if server.padded else float("nan")
                console.print(f"| {label} | {'alone' if alone else 'together'} | {rate:.0f} | "
                              f"{median * 1e3:.0f} | {size:.1f} | {waste:.1%} |")  # fmt: skip
        stack.close()


def _embedder(port: int) -> None:
    async def serve() -> None:
        await embedder.start("127.0.0.1", port, "bench", wire_refusal)
        await asyncio.sleep(3_600)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
