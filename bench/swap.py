"""Pause of a gateway's event loop while it takes a new configuration of 10,000 virtual models.

    python -m bench.swap [--rounds N]

300 upstreams, 240 models with 50 offers each, 10,000 virtual models with three entries each: the
payload of some 8 MB is read, swapped in and the one before freed. Beside it a task wakes as often
as it can; its longest wait is the pause, in CPU time, so that what else runs on the machine does
not count. Shown are the median and the worst of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.snapshot import (
    ModelRoute,
    Offer,
    Routing,
    Served,
    Snapshot,
    Upstream,
    encoding,
)
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
from tokenschain.infra import process_tuning
from tokenschain.infra.control_channel.client import decode_beside_calls, items_of, let_go

UPSTREAMS, MODELS, OFFERS, VIRTUAL = 300, 240, 50, 10_000


def large(version: str) -> bytes:
    """The payload of a large configuration."""
    upstreams = {
        f"u{n}": Upstream(f"u{n}", "alibaba", f"https://u{n}.example/v1", ("env:A",), zone="cn")
        for n in range(UPSTREAMS)
    }
    models = {f"model-{n}": ModelRoute(f"model-{n}", "chat", _offers(n)) for n in range(MODELS)}
    virtual: dict[str, tuple[VirtualModelEntry, ...]] = {
        f"virtual-{n}": (
            VirtualModelEntry(f"model-{n % MODELS}", when=When(language="zh")),
            VirtualModelEntry(f"model-{(n + 1) % MODELS}"),
            VirtualModelEntry(f"model-{(n + 2) % MODELS}"),
        )
        for n in range(VIRTUAL)
    }
    return encoding.encode(Snapshot(version, upstreams, models, Routing(models=virtual)))


def _offers(model: int) -> tuple[Offer, ...]:
    tiers = (PriceTier(0, 1_000, 2_000), PriceTier(32_000, 2_000, 4_000))
    return tuple(
        Offer(
            f"u{(model * 7 + n) % UPSTREAMS}",
            f"model-{model}",
            Price("CNY", tiers, f"model-{model}/{n}@2026"),
            8_192,
            131_072,
            ("tools", "vision"),
        )
        for n in range(OFFERS)
    )


async def pause_of(served: Served, payload: bytes) -> float:
    """The longest pause while a configuration comes into force, in seconds."""
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        before = time.thread_time()
        while not done:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    snapshot = await decode_beside_calls(payload)
    held = items_of(served)
    served.serve(snapshot.version, snapshot, {})
    await let_go(held)
    done = True
    await watching
    return longest


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=11)
    rounds = arguments.parse_args().rounds
    process_tuning.tune_collector()
    served = Served()
    payloads = [large(str(n)) for n in range(2)]
    asyncio.run(pause_of(served, payloads[0]))
    pauses = [asyncio.run(pause_of(served, payloads[n % 2])) * 1e3 for n in range(rounds)]
    print(f"payload {len(payloads[0]) / 1e6:.1f} MB, {rounds} rounds")
    print(f"longest pause: median {statistics.median(pauses):.2f} ms, worst {max(pauses):.2f} ms")


if __name__ == "__main__":
    main()
