"""Simulation report: one row a policy, means with 95 % intervals, as a table."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from tokenschain.simulation.world import Setup, SimulatedCall, cheapest_feasible, simulate

_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t for a 95 % interval of this many runs."""


class Figures(NamedTuple):
    """One run in numbers; times in seconds, shares between 0 and 1."""

    p50_s: float
    p99_s: float
    p99_of_slo: float
    """Of the time to the first token over what was promised for a prompt of that length."""
    yuan_per_million: float
    """Of tokens of answered calls, prompt and output together."""
    over_cheapest: float
    """Cost over what a router that knew everything would pay, as a share."""
    failed: float
    shed: float
    in_time: float
    """Answered, with the first token within the SLO."""
    goodput: float
    """In-time calls a second."""
    retried: float


class PolicyResult(NamedTuple):
    """A policy over several seeds: means, and half of the 95 % interval."""

    policy: str
    mean: Figures
    error: Figures
    first_tokens: tuple[float, ...]
    """Of the first seed, sorted, for the plot."""


def figures(setup: Setup, seen: Sequence[SimulatedCall], *, priority: str | None = None) -> Figures:
    """Put one run into numbers; of one class of calls only, if one is named."""
    chosen = [s for s in seen if priority is None or s.arrival.priority == priority]
    calls = max(1, len(chosen))
    firsts = sorted(s.first_token_s for s in chosen if s.first_token_s is not None)
    shares = sorted(
        s.first_token_s / slo_of(setup, s) for s in chosen if s.first_token_s is not None
    )
    outcomes = Counter(s.outcome for s in chosen)
    answered = [s for s in chosen if s.outcome == "ok"]
    tokens = sum(s.arrival.prompt_tokens + s.arrival.output_tokens for s in answered)
    spent = sum(s.cost_yuan for s in chosen)
    span_s = max(a.at_s for a in setup.trace) or 1.0
    in_time = sum(
        1 for s in answered if s.first_token_s is not None and s.first_token_s <= slo_of(setup, s)
    )
    cheapest = spent
    if len(answered) > 1 and priority is None:
        arrivals = sorted((s.arrival for s in answered), key=lambda a: a.at_s)
        cheapest = cheapest_feasible(setup._replace(trace=arrivals))
    return Figures(
        quantile(firsts, 0.5),
        quantile(firsts, 0.99),
        quantile(shares, 0.99),
        spent / max(1, tokens) * 1e6,
        spent / cheapest - 1 if cheapest else 0.0,
        sum(n for code, n in outcomes.items() if code not in ("ok", "overloaded")) / calls,
        outcomes["overloaded"] / calls,
        in_time / calls,
        in_time / span_s,
        sum(1 for s in chosen if s.attempts > 1) / calls,
    )


def slo_of(setup: Setup, seen: SimulatedCall) -> float:
    """What was promised for a call of this length."""
    return setup.slo_s + 1e-4 * seen.arrival.prompt_tokens


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values; NaN when there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def compare(
    setups: Mapping[str, Sequence[Setup]],
    workers: int,
    done: Callable[[], None] = lambda: None,
) -> list[PolicyResult]:
    """Run all policies over all seeds, on several cores.

    Args:
        setups: by policy, one setup a seed.
        done: called after each run, for a progress bar.
    """
    results: dict[tuple[str, int], tuple[Figures, tuple[float, ...]]] = {}
    with ProcessPoolExecutor(workers) as pool:
        futures = {
            pool.submit(_one, setup): (policy, number)
            for policy, runs in setups.items()
            for number, setup in enumerate(runs)
        }
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            done()
    rows = []
    for policy, runs in setups.items():
        found = [results[policy, number][0] for number in range(len(runs))]
        mean = Figures(*(statistics.fmean(values) for values in zip(*found, strict=True)))
        error = Figures(*(_half_interval(values) for values in zip(*found, strict=True)))
        rows.append(PolicyResult(policy, mean, error, results[policy, 0][1]))
    return rows


def _one(setup: Setup) -> tuple[Figures, tuple[float, ...]]:
    seen = simulate(setup)
    firsts = tuple(sorted(s.first_token_s for s in seen if s.first_token_s is not None))
    return figures(setup, seen), firsts


def _half_interval(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    factor = _T95.get(len(values), 2.0)
    return factor * statistics.stdev(values) / math.sqrt(len(values))


HEADINGS = (
    "policy", "p50 s", "p99 s", "p99 over SLO", "CNY/1M tokens", "over cheapest", "failed",
    "shed", "in time", "goodput /s",
)  # fmt: skip


def cells(row: PolicyResult) -> tuple[str, ...]:
    """A row as text, each mean with its interval."""
    mean, error = row.mean, row.error

    def share(name: str) -> str:
        return f"{getattr(mean, name):.1%} ±{getattr(error, name):.1%}"

    return (
        row.policy,
        f"{mean.p50_s:.2f} ±{error.p50_s:.2f}",
        f"{mean.p99_s:.2f} ±{error.p99_s:.2f}",
        f"{mean.p99_of_slo:.2f} ±{error.p99_of_slo:.2f}",
        f"{mean.yuan_per_million:.2f} ±{error.yuan_per_million:.2f}",
        f"{mean.over_cheapest:+.1%} ±{error.over_cheapest:.1%}",
        share("failed"),
        share("shed"),
        share("in_time"),
        f"{mean.goodput:.2f} ±{error.goodput:.2f}",
    )


def markdown(rows: Sequence[PolicyResult]) -> str:
    """The table for a page."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"
