"""Streams of the embedded engine cut at random tokens, and gone on with: are they what they
would have been?

    python -m bench.continuation [--streams 200]

Each answer is asked for twice at temperature 0: once uncut, once through a proxy that cuts the
connection after a random number of tokens. What the caller then has is compared letter by letter.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import openai
from rich.console import Console
from rich.progress import track
from tests.ports import free_port
from tests.stack import PRICES, Stack, wait_for

MODEL = "smollm2-135m-instruct"
CACHE = Path(os.environ.get("TEST_MODEL_CACHE", Path.home() / ".cache" / "tokenschain"))
WORDS_MAX = 48
TOPICS = (
    "the sea", "a small town", "tea", "bridges", "winter", "a lost dog", "the moon", "bread",
    "a library", "trains", "rain", "an old clock", "gardens", "maps", "a lighthouse", "music",
    "mountains", "letters", "a market", "birds",
)  # fmt: skip
TASKS = (
    "Write two sentences about {}.", "Tell a short story about {}.", "List three facts about {}.",
    "Describe {} to a child.", "Write a short poem about {}.", "Why do people like {}?",
    "Explain {} in simple words.", "Write a letter about {}.", "What is special about {}?",
    "Give advice to someone who thinks about {}.",
)  # fmt: skip


class Cutter:
    """A proxy before the engine that closes after so many events."""

    def __init__(self, engine_port: int) -> None:
        self.engine_port = engine_port
        self.rng = random.Random(1)
        self.port = 0
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.engine_port)
        after = self.rng.randrange(2, WORDS_MAX)

        async def up() -> None:
            while data := await reader.read(65_536):
                back.write(data)

        task = asyncio.ensure_future(up())
        events = 0
        try:
            while data := await there.read(65_536):
                events += data.count(b"data: ")
                writer.write(data)
                if events >= after:
                    self.cuts += 1
                    break
        finally:
            task.cancel()
            await asyncio.sleep(0)
            writer.transport.abort() if self.rng.random() < 0.5 else writer.close()
            back.close()


def text_of(client: openai.OpenAI, model: str, prompt: str) -> tuple[str, Any, str]:
    """The text, the usage and how it ended."""
    text, usage, finish = "", None, ""
    try:
        for chunk in client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=WORDS_MAX,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            # What is partly in the engine's cache is computed in other batches, and floats differ.
            extra_body={"cache_prompt": False},
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    except openai.APIError as error:
        finish = f"error {error.code}"
    return text, usage, finish


def engine_upstreams(folder: Path, cutter_port: int, engine_port: int) -> list[dict[str, Any]]:
    """The engine twice: behind the cutter, cheap, and as it is, expensive."""
    key = f"file:{folder / 'data' / 'secrets' / 'engine'}"
    return [
        {
            "id": name,
            "provider": "local",
            "base_url": f"http://127.0.0.1:{port}/v1",
            "credential": key,
            "models": {"both": MODEL} | ({"steady": MODEL} if name == "steady" else {}),
            "kinds": {MODEL: "chat"},
            "prices": {MODEL: PRICES | {"input": price}},
        }
        for name, port, price in (
            ("cutter", cutter_port, "1"),
            ("steady", engine_port, "500"),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument(
        "--batched",
        action="store_true",
        help="with the engine as it is by default: what was cut is then computed in other batches, "
        "and floats differ by themselves",
    )
    options = parser.parse_args()
    streams = options.streams
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data" / "models").mkdir(parents=True)
        file = CACHE / "models" / f"{MODEL}.gguf"
        shutil.copyfile(file, folder / "data" / "models" / file.name)
        engine_port = free_port()
        cutter = Cutter(engine_port)
        stack = Stack(
            folder / "stack",
            "http://unused",
            upstreams=engine_upstreams(folder, cutter.port, engine_port),
            data_dir=str(folder / "data"),
            engine={
                "enabled": True,
                "port": engine_port,
                "reproducible": not options.batched,
                "embedder_port": free_port(),
            },
            routing={"policy": "cost-first", "explore": 0.0, "first_token_slo_s": 60.0},
        )
        stack.start("control", "gateway")
        stack.spawn("engine")
        wait_for(f"http://127.0.0.1:{engine_port}/health", stack.read_log)
        client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0)
        same = whole = 0
        ratios = []
        prompts = [task.format(topic) for topic in TOPICS for task in TASKS][:streams]
        try:
            for prompt in track(prompts, console=console, description="cutting"):
                wanted, usage, _ = text_of(client, "steady", prompt)
                time.sleep(0.01)
                cut_before = cutter.cuts
                got, joined, finish = text_of(client, "both", prompt)
                if cutter.cuts == cut_before:
                    continue
                whole += finish in ("stop", "length")
                same += got == wanted
                ratios.append(difflib.SequenceMatcher(None, got, wanted).ratio())
                if got != wanted:
                    counts = joined and joined.completion_tokens, usage.completion_tokens
                    console.print(f"[dim]{finish} {counts}\n  {wanted!r}\n  {got!r}")
        finally:
            stack.close()
        cut = len(ratios)
        console.print(
            f"{cut} of {len(prompts)} streams were cut; {whole} ended well ({whole / cut:.1%}); "
            f"{same} are letter by letter what they would have been ({same / cut:.1%}); "
            f"mean similarity {sum(ratios) / cut:.4f}"
        )


if __name__ == "__main__":
    main()
