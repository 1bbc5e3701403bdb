"""What a limit on calls at once is worth, on an engine with a measured curve.

    python -m bench.batching

Llama2-70B on two A100 (Splitwise, ISCA 2024): tokens a second grow up to 32 calls at once and
fall to a quarter at 64. Callers keep 96 calls waiting; the rows differ in how many are let in.
Virtual time: the figures are the same on every machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import Console

from tokenschain.core.routing.admission import ConcurrencyLimit
from tokenschain.simulation.clock import VirtualLoop, run
from tokenschain.simulation.engines import A100_TP2, Engine, Machine

CALLERS, CALLS, PROMPT, OUTPUT = 96, 3_000, 512, 128


def measure(admit: Callable[[ConcurrencyLimit], int], learns: bool) -> tuple[float, float]:
    """Tokens a second, and the mean number of calls in the engine."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)

    async def work() -> tuple[float, float]:
        engine = Engine(Machine("a100", A100_TP2, 1, 1, 0.0))
        limit = ConcurrencyLimit(64)
        inside, total, over = 0, 0, 0
        room = asyncio.Condition()

        async def call() -> None:
            nonlocal inside, total, over
            async with room:
                await room.wait_for(lambda: inside < admit(limit))
                inside += 1
            total += inside
            began = loop.time()
            job = engine.submit(PROMPT, OUTPUT)
            await job.last
            if learns:
                limit.answered(PROMPT, OUTPUT, loop.time() - began, inside)
            over += 1
            async with room:
                inside -= 1
                room.notify_all()

        async def caller() -> None:
            while over + inside < CALLS:
                await call()

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())
        return over * OUTPUT / loop.time(), total / over

    try:
        return run(work(), loop)
    finally:
        asyncio.set_event_loop(None)


ROWS: tuple[tuple[str, Callable[[ConcurrencyLimit], int], bool], ...] = (
    ("one call at a time", lambda _: 1, False),
    ("half filled: 2", lambda _: 2, False),
    ("well tuned by hand: 32", lambda _: 32, False),
    ("over-admitted: 64", lambda _: 64, False),
    ("learned, from 64", lambda limit: limit.calls, True),
)


def main() -> None:
    console = Console()
    found = {name: measure(admit, learns) for name, admit, learns in ROWS}
    ours = found["learned, from 64"][0]
    console.print("| let in | tokens/s | calls inside | ours is |")
    console.print("|---|---|---|---|")
    for name, (rate, inside) in found.items():
        console.print(f"| {name} | {rate:.0f} | {inside:.1f} | {ours / rate:.1f}x |")


if __name__ == "__main__":
    main()
