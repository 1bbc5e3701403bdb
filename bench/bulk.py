"""What bulk costs interactive calls: `python -m bench.bulk [--trace FILE]`.

The scenario `bulk` of the simulation, its interactive calls with and without the bulk beside them;
and, for what chance does, without it under another seed of the routing's draws.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from tokenschain.simulation import report, scenarios, traces
from tokenschain.simulation.world import Setup, simulate


def main() -> None:
    """Print a line for each number of gateways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--load", type=float, default=0.7)
    given = parser.parse_args()
    trace = traces.load(given.trace) if given.trace else traces.synthetic(4 * given.calls, 1)
    for gateways in (1, 2, 8):
        runs = scenarios.setups(
            "bulk", trace, ["balanced"], given.calls, given.seeds, given.load, gateways
        )
        found = [_compare(setup) for setup in runs["balanced"]]
        beside, chance, done = (statistics.fmean(values) for values in zip(*found, strict=True))
        each = ", ".join(f"{run[0]:+.0%}" for run in found)
        print(
            f"{gateways} gateways: p99 of interactive calls {beside:+.1%} beside bulk ({each}), "
            f"{chance:+.1%} by chance; {done:.0%} of bulk answered"
        )


def _compare(setup: Setup) -> tuple[float, float, float]:
    """Growth of the interactive calls' p99 beside bulk, and by chance; share of bulk answered."""
    interactive = [a for a in setup.trace if a.priority != "bulk"]
    ends_s = interactive[-1].at_s
    both = setup._replace(trace=[a for a in setup.trace if a.at_s <= ends_s])
    alone = setup._replace(trace=interactive)
    seen = simulate(both)
    p99_s = report.figures(alone, simulate(alone)).p99_s
    again_s = report.figures(alone, simulate(alone._replace(seed=alone.seed + 100))).p99_s
    beside_s = report.figures(both, seen, priority="interactive").p99_s
    bulk = [s for s in seen if s.arrival.priority == "bulk"]
    done = sum(s.outcome == "ok" for s in bulk) / max(1, len(bulk))
    return beside_s / p99_s - 1, again_s / p99_s - 1, done


if __name__ == "__main__":
    main()
