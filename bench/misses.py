"""What semantic cache misses add to the latency of all other calls.

    python -m bench.misses [--rounds N] [--per-second N]

The gateway has core 0 to itself. Beside a steady load whose latency is measured, other calls ask
something new each time: with exact matching only, and with semantic look-ups, in turn, so that both
go upstream as often. The semantic process shares core 1 with mock, load generator (which go first)
and control. Prints both sides' medians and the median of the differences.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import threading
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tests.ports import free_port
from tests.stack import Stack

from bench.run import DELAY_MS, GATEWAY_CORE, LOAD_CORE, PRICES, Bench, Target, pin

LOAD_PER_S, SECONDS, CALLERS = 300, 4, 4
MODES = ("exact", "semantic")


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--per-second", type=float, default=20.0)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(1, 1.0, calls_only=True, folder=Path(folder))
        try:
            found = measure(bench, asked.rounds, asked.per_second)
        finally:
            bench.mock.kill()
    table = Table(title=f"{LOAD_PER_S} calls/s, and {asked.per_second:g}/s that ask something new")
    for head in ("", "p50 ms", "p99 ms"):
        table.add_column(head)
    for mode in MODES:
        p50, p99 = (statistics.median(values) for values in zip(*found[mode], strict=True))
        table.add_row(mode, f"{p50:.3f}", f"{p99:.3f}")
    pairs = zip(found["exact"], found["semantic"], strict=True)
    added = [(b[0] - a[0], b[1] - a[1]) for a, b in pairs]
    p50, p99 = (statistics.median(values) for values in zip(*added, strict=True))
    table.add_row("added", f"{p50:+.3f}", f"{p99:+.3f}")
    Console().print(table)


def measure(bench: Bench, rounds: int, per_second: float) -> dict[str, list[tuple[float, float]]]:
    """Latencies of the steady load, by mode of the calls beside it: p50 and p99 in ms."""
    url = f"http://127.0.0.1:{bench.mock_port}/d{DELAY_MS}/v1"
    upstreams = [{"id": f"mock-{name}", "base_url": url, "models": [name], "prices": {name: PRICES}}
                 for name in ("load", *MODES)]  # fmt: skip
    policies = {f"model/{mode}": mode for mode in MODES}
    stack = Stack(
        bench.folder / "stack", "http://unused", upstreams=upstreams,
        journal={"ship_interval_s": 0.5}, cache={"mode_overrides": policies},
        semantic={"port": free_port()},
    )  # fmt: skip
    try:
        stack.start("control", "semantic", "gateway")
        for name, process in stack.processes.items():
            pin(process.pid, GATEWAY_CORE if name == "gateway" else LOAD_CORE)
        target = Target("gateway", stack.port, stack.key,
                        lambda _: ("/v1/chat/completions", "load"), None)  # fmt: skip
        found: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
        texts = itertools.count()
        bench.load(target, "", 1_024, "open", LOAD_PER_S, SECONDS)
        for _ in track(range(rounds), "rounds"):
            for mode in MODES:
                ending = threading.Event()
                arguments = stack, mode, texts, per_second / CALLERS, ending
                aside = [threading.Thread(target=_ask, args=arguments) for _ in range(CALLERS)]
                for caller in aside:
                    caller.start()
                seen = bench.load(target, "", 1_024, "open", LOAD_PER_S, SECONDS)
                ending.set()
                for caller in aside:
                    caller.join()
                found[mode].append((seen["p50_ms"], seen["p99_ms"]))
        metrics = httpx.get(
            f"http://127.0.0.1:{stack.settings.semantic.port}/metrics",
            headers=stack.metrics_headers,
        ).text
        assert 'group="default/default/semantic"' in metrics, "meanings were compared"
        return found
    finally:
        stack.close()


def _ask(
    stack: Stack,
    model: str,
    texts: itertools.count[int],
    per_second: float,
    ending: threading.Event,
) -> None:
    """Calls that were never asked before, one after the other."""
    limits = httpx.Limits(max_connections=4)
    with httpx.Client(headers=stack.headers, limits=limits, timeout=10) as client:
        while not ending.wait(1 / per_second):
            text = f"Tell me about number {next(texts)}, please"
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            reply = client.post(f"{stack.url}/v1/chat/completions", json=body)
            assert reply.headers["x-tc-cache"] == "miss", reply.headers


if __name__ == "__main__":
    main()
