"""Five clouds, one of them broken, 50 calls a second: what callers see.

    python -m bench.failover [--repeats 20] [--write]

Each repeat lets calls run for a second, breaks the cheapest cloud, and goes on for four seconds.
`--write` puts the table into docs/results/failover.md.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from tests.faulty import FAULTS, Caller, FaultyClouds, load, text_of
from tests.stack import PRICES, Stack

PAGE = Path(__file__).parents[1] / "docs" / "results" / "failover.md"
CALLS_PER_S, WORDS = 50, 20


async def one(clouds: FaultyClouds, stack: Stack, fault: str) -> list[Caller]:
    before = asyncio.create_task(load(stack.url, stack.key, CALLS_PER_S, 1, WORDS))
    await asyncio.sleep(1)
    await asyncio.to_thread(clouds.break_cloud, 0, fault)
    after = await load(stack.url, stack.key, CALLS_PER_S, 4, WORDS)
    return [*await before, *after]


def share(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = [
        "| fault | calls | answered whole | p50 s | p99 s | p99.9 s | worst s | wrong text |",
        "|---|---|---|---|---|---|---|---|",
    ]
    console = Console()
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        clouds = FaultyClouds()
        stack = Stack(Path(name), "http://unused", upstreams=clouds.upstreams(PRICES)).start()
        task = progress.add_task("failing", total=len(FAULTS) * options.repeats)
        calls = answered = 0
        for fault in FAULTS:
            seen: list[Caller] = []
            for _ in range(options.repeats):
                seen += asyncio.run(one(clouds, stack, fault))
                clouds.break_cloud(0, "")
                time.sleep(1.0)
                progress.advance(task)
            firsts = sorted(c.first_s for c in seen if c.first_s is not None)
            whole = sum(c.whole for c in seen)
            wrong = sum(c.whole and c.text != text_of(WORDS) for c in seen)
            calls, answered = calls + len(seen), answered + whole
            lines.append(
                f"| {fault} | {len(seen)} | {whole / len(seen):.2%} | {share(firsts, 0.5):.3f} | "
                f"{share(firsts, 0.99):.3f} | {share(firsts, 0.999):.3f} | {firsts[-1]:.3f} | "
                f"{wrong} |"
            )
            console.print(lines[-1])
        time.sleep(2)
        rows = stack.rows("select outcome, count(*) n, sum(completion_tokens) t from ledger "
                          "group by outcome")  # fmt: skip
        ledger = {row["outcome"]: (row["n"], row["t"]) for row in rows}
        total = sum(n for n, _ in ledger.values())
        stack.close()
        clouds.close()
    text = "\n".join(lines)
    text += (
        f"\n\n{answered} of {calls} calls were answered whole ({answered / calls:.3%}). The ledger "
        f"has {total} rows, one a call; those that ended well are billed "
        f"{ledger['ok'][1]} tokens for {ledger['ok'][0]} answers of {WORDS} words.\n"
    )
    console.print(text)
    if options.write:
        PAGE.write_text(
            "<!-- Written by bench/failover.py --write; do not edit. -->\n\n"
            "# Failover: nine faults on real processes\n\n"
            f"Real processes on loopback: one gateway, five clouds of one model, {CALLS_PER_S} "
            f"streams a second, {options.repeats} repeats. The cheapest cloud breaks after a "
            "second, and four more seconds of calls follow. Times are to the first token, as the "
            f"caller sees them.\n\n{text}",
            "utf-8",
        )


if __name__ == "__main__":
    main()
