"""The simulated world: repeatable, and right where theory or a measurement tells the result."""

from __future__ import annotations

import pytest

from tokenschain.simulation import report, traces
from tokenschain.simulation.engines import Outage
from tokenschain.simulation.world import CLOUDS, Setup, capacity, simulate


def setup(policy: str, load: float, calls: int = 500, seed: int = 1, **more: object) -> Setup:
    trace = traces.synthetic(calls, seed)
    trace = traces.at_rate(trace, load * capacity(CLOUDS, trace))
    return Setup(trace, policy, seed, **more)  # type: ignore[arg-type]


def test_the_same_setup_gives_the_same_result() -> None:
    assert simulate(setup("balanced", 0.7)) == simulate(setup("balanced", 0.7))


def test_every_call_is_accounted_for_and_none_fails_below_capacity() -> None:
    seen = simulate(setup("balanced", 0.6))
    assert len(seen) == 500 and {s.outcome for s in seen} == {"ok"}
    assert all(s.first_token_s is not None and s.cost_yuan > 0 for s in seen)


def test_overload_is_refused_and_not_waited_for() -> None:
    ours = setup("balanced", 1.5, 1_500)
    theirs = setup("least-request", 1.5, 1_500)
    mine, other = report.figures(ours, simulate(ours)), report.figures(theirs, simulate(theirs))
    assert mine.shed > 0.1 and other.shed == 0
    assert mine.goodput > 1.5 * other.goodput
    assert mine.p99_s < 0.5 * other.p99_s


def test_twice_the_calls_do_not_lower_goodput_though_prompts_are_long() -> None:
    found = {}
    for load in (1.0, 2.0):
        trace = [a._replace(prompt_tokens=8 * a.prompt_tokens) for a in traces.synthetic(1_500, 1)]
        whole = setup("balanced", load)._replace(
            trace=traces.at_rate(trace, load * capacity(CLOUDS, trace))
        )
        found[load] = report.figures(whole, simulate(whole))
    assert found[2.0].goodput >= 0.95 * found[1.0].goodput


def test_streams_that_all_break_off_at_once_go_on_elsewhere() -> None:
    whole = setup("balanced", 0.6, 1_500)
    span_s = whole.trace[-1].at_s
    lost = [Outage(name, "down", 0.5 * span_s, 0.6 * span_s) for name in ("volcano", "baidu")]
    seen = simulate(whole._replace(faults=lost))
    assert {s.outcome for s in seen} <= {"ok", "overloaded"}
    assert sum(s.outcome == "ok" for s in seen) > 0.99 * len(seen)
    assert sum(s.attempts > 1 for s in seen) > 20


def test_it_is_cheaper_than_least_request_without_being_late() -> None:
    ours, theirs = setup("balanced", 0.6, 1_000), setup("least-request", 0.6, 1_000)
    mine, other = report.figures(ours, simulate(ours)), report.figures(theirs, simulate(theirs))
    assert mine.yuan_per_million < other.yuan_per_million
    assert mine.in_time >= 0.99


@pytest.mark.parametrize("kind", ["down", "error", "black hole", "429", "cut", "slow"])
def test_a_fault_of_one_cloud_reaches_no_caller(kind: str) -> None:
    whole = setup("balanced", 0.4, 600)
    span_s = whole.trace[-1].at_s
    faults = (Outage("alibaba", kind, 0.3 * span_s, 0.6 * span_s),)
    seen = simulate(whole._replace(faults=faults))
    assert {s.outcome for s in seen} == {"ok"}
    assert max(s.first_token_s or 0 for s in seen) < 5
    assert any(s.attempts > 1 for s in seen)
