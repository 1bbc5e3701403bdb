"""Simulation scenarios by name: steady load, flash sale, outages, rate limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.simulation import traces
from tokenschain.simulation.engines import Outage
from tokenschain.simulation.policies import ALL_SEEING, BASELINES
from tokenschain.simulation.traces import Arrival
from tokenschain.simulation.world import CLOUDS, Setup, capacity

ALL_POLICIES = (*POLICIES, *BASELINES, ALL_SEEING)


class Scenario(NamedTuple):
    """How a trace becomes what is simulated."""

    meaning: str
    load: float
    """Share of all machines' capacity, unless another is asked for."""
    shape: Callable[[list[Arrival], float, int], list[Arrival]] = lambda trace, rate, seed: trace
    """Of the trace at its rate, calls a second, with the seed of what is drawn."""
    faults: Callable[[float], tuple[Outage, ...]] = lambda span_s: ()


def _bulk(trace: list[Arrival], rate: float, _: int) -> list[Arrival]:
    half = trace[: len(trace) // 2]
    rest = [a._replace(at_s=a.at_s - trace[len(half)].at_s) for a in trace[len(half) :]]
    return traces.with_bulk(traces.at_rate(half, rate / 2), traces.at_rate(rest, rate))


def _gamma(cv: float) -> Callable[[list[Arrival], float, int], list[Arrival]]:
    return lambda trace, rate, seed: traces.gamma_gaps(trace, cv, seed)


def _fault(kind: str) -> Callable[[float], tuple[Outage, ...]]:
    return lambda span_s: (Outage("alibaba", kind, 0.3 * span_s, 0.6 * span_s),)


SCENARIOS: dict[str, Scenario] = {
    "steady": Scenario("the trace as it is, at a share of capacity", 0.7),
    "gamma-3": Scenario("bursts: times between calls vary by 3 times their mean", 1.0, _gamma(3)),
    "gamma-8": Scenario("the same, by 8 times", 1.0, _gamma(8)),
    "on-off": Scenario(
        "all calls within a quarter of the time, 8 s on end in the mean", 1.0,
        lambda trace, rate, seed: traces.on_off(trace, seed),
    ),
    "flash-sale": Scenario(
        "a fifth of the calls come ten times as fast", 0.35, lambda t, *_: traces.flash_sale(t)
    ),
    "bulk": Scenario("interactive calls at half of the load, bulk at all of it", 0.7, _bulk),
    "down": Scenario("the largest cloud refuses connections", 0.5, faults=_fault("down")),
    "errors": Scenario("the largest cloud answers 503", 0.5, faults=_fault("error")),
    "black-hole": Scenario("the largest cloud is silent", 0.5, faults=_fault("black hole")),
    "limited": Scenario("the largest cloud answers 429", 0.5, faults=_fault("429")),
    "cut": Scenario("the largest cloud cuts streams", 0.5, faults=_fault("cut")),
    "brown-out": Scenario("the largest cloud is ten times slower", 0.5, faults=_fault("slow")),
    "region": Scenario(
        "both clouds of one region are gone", 0.4,
        faults=lambda span_s: tuple(
            Outage(name, "down", 0.3 * span_s, 0.6 * span_s) for name in ("volcano", "baidu")
        ),
    ),
}  # fmt: skip


def setups(
    name: str,
    trace: list[Arrival],
    policies: list[str],
    calls: int,
    seeds: int,
    load: float | None,
    replicas: int,
) -> dict[str, list[Setup]]:
    """One setup for each policy and seed; all policies see the same calls.

    Raises:
        KeyError: no such scenario.
    """
    scenario = SCENARIOS[name]
    share = scenario.load if load is None else load
    made: dict[str, list[Setup]] = {policy: [] for policy in policies}
    for seed in range(1, seeds + 1):
        part = traces.window(trace, calls, seed)
        rate = share * capacity(CLOUDS, part)
        shaped = scenario.shape(traces.at_rate(part, rate), rate, seed)
        faults = scenario.faults(shaped[-1].at_s)
        for policy in policies:
            made[policy].append(Setup(shaped, policy, seed, faults=faults, replicas=replicas))
    return made
