"""What a sale with ten times the calls costs: `python -m bench.flash_sale [--trace FILE]`.

Four ways to be set up, on the same calls: clouds only; with the response cache; with own engines
beside the clouds; and with own engines that scale.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tokenschain.simulation import report, traces
from tokenschain.simulation.answer_cache import RECALL
from tokenschain.simulation.engines import A100, Machine, calls_per_s
from tokenschain.simulation.fleet import Fleet
from tokenschain.simulation.traces import Arrival
from tokenschain.simulation.world import CLOUDS, Setup, SimulatedCall, capacity, simulate_world

LOAD = 0.3
"""Of what the clouds can do, in quiet times, before the cache."""
ASKED_BEFORE = 20_000
"""Questions that the cache has seen in its life time, before the sale."""
PAID_AT = 0.6
"""An own node costs by the hour what the cheapest cloud would take for the calls of a node that is
so full: an assumption."""
_OWN = Machine("own", A100, 0.01, 0.01, 0.005, "cn-shanghai")
"""Booked at next to nothing a token, so that routing fills first what is paid anyway."""
SETUPS = (
    "clouds",
    "clouds, cache",
    "own engines, clouds, cache",
    "own engines that scale, clouds, cache",
)  # names


HEADINGS = (
    "", "calls/s quiet", "in the sale", "hits quiet", "in the sale", "CNY/h quiet", "in the sale",
    "cost grows", "shed in the sale", "in time", "p99 over SLO",
)  # fmt: skip


class Phase(NamedTuple):
    """One part of the day."""

    calls_per_s: float
    hits: float
    yuan_per_hour: float
    shed: float
    in_time: float
    p99_of_slo: float
    """Of calls that an upstream answered."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--calls", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sale-share", type=float, default=0.8)
    given = parser.parse_args()
    trace = traces.load(given.trace) if given.trace else traces.synthetic(2 * given.calls, 1)
    jobs = [
        (trace, given.calls, seed, name, given.sale_share)
        for name in SETUPS
        for seed in range(1, given.seeds + 1)
    ]
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(pool.map(_one, jobs))
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---" * 11 + "|")
    for number, name in enumerate(SETUPS):
        print(_row(name, found[number * given.seeds : (number + 1) * given.seeds]))


def _row(name: str, runs: Sequence[tuple[Phase, Phase]]) -> str:
    def mean(part: int, field: str) -> float:
        return statistics.fmean(getattr(run[part], field) for run in runs)

    growth = [sale.yuan_per_hour / quiet.yuan_per_hour for quiet, sale in runs]
    cells = (
        name, f"{mean(0, 'calls_per_s'):.1f}", f"{mean(1, 'calls_per_s'):.1f}",
        f"{mean(0, 'hits'):.0%}", f"{mean(1, 'hits'):.0%}",
        f"{mean(0, 'yuan_per_hour'):.0f}", f"{mean(1, 'yuan_per_hour'):.0f}",
        f"{statistics.fmean(growth):.1f} ({min(growth):.1f} to {max(growth):.1f})",
        f"{mean(1, 'shed'):.1%}", f"{mean(1, 'in_time'):.1%}", f"{mean(1, 'p99_of_slo'):.2f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _one(job: tuple[list[Arrival], int, int, str, float]) -> tuple[Phase, Phase]:
    trace, calls, seed, name, sale_share = job
    part = traces.window(trace, calls, seed)
    day = traces.at_rate(part, LOAD * capacity(CLOUDS, part))
    setup = Setup(traces.sale_day(day, seed, sale_share=sale_share), "balanced", seed)
    if "cache" in name:
        before = traces.usual_questions(ASKED_BEFORE, seed)
        setup = setup._replace(recall=RECALL, asked_before=before)
    if "own" in name:
        setup = setup._replace(fleet=_fleet(part, scales="scale" in name))
    world = simulate_world(setup)
    quiet_s = setup.trace[-1].at_s / (traces.SALE_ENDS + 1)
    return tuple(  # type: ignore[return-value]
        _phase(setup, world.seen, begins * quiet_s, ends * quiet_s,
               0.0 if world.scaler is None else world.scaler.yuan(begins * quiet_s, ends * quiet_s))
        for begins, ends in ((0.0, traces.SALE_BEGINS), (traces.SALE_BEGINS, traces.SALE_ENDS))
    )  # fmt: skip


def _fleet(part: Sequence[Arrival], scales: bool) -> Fleet:
    prompt = statistics.fmean(a.prompt_tokens for a in part)
    output = statistics.fmean(a.output_tokens for a in part)
    cheapest = min((m.input_yuan * prompt + m.output_yuan * output) / 1e6 for m in CLOUDS)
    yuan = 3600 * PAID_AT * calls_per_s(_OWN, prompt, output) * cheapest
    return Fleet(_OWN, yuan, 2, 8 if scales else 2)


def _phase(
    setup: Setup, seen: Sequence[SimulatedCall], begins_s: float, ends_s: float, fixed: float
) -> Phase:
    part = [s for s in seen if begins_s <= s.arrival.at_s < ends_s]
    sent = [s for s in part if s.attempts]
    span_s = ends_s - begins_s
    of_part = report.figures(setup, part)
    return Phase(
        len(part) / span_s,
        sum(s.outcome == "ok" and not s.attempts for s in part) / len(part),
        (sum(s.cost_yuan for s in part) + fixed) / span_s * 3600,
        of_part.shed,
        of_part.in_time,
        report.figures(setup, sent).p99_of_slo,
    )


if __name__ == "__main__":
    main()
