"""The day of a sale: ten times the calls, a cache that learns, own engines that scale."""

from __future__ import annotations

import pytest

from tokenschain.simulation import traces
from tokenschain.simulation.engines import A100, Machine
from tokenschain.simulation.fleet import Fleet
from tokenschain.simulation.world import (
    CLOUDS,
    Setup,
    SimulatedCall,
    World,
    capacity,
    simulate_world,
)

NODE = Machine("own", A100, 0.01, 0.01, 0.005, "cn-shanghai")


def day(calls: int, load: float = 0.3) -> list[traces.Arrival]:
    trace = traces.synthetic(calls, 1)
    return traces.sale_day(traces.at_rate(trace, load * capacity(CLOUDS, trace)), 1)


def test_ten_times_as_many_calls_come_in_the_sale() -> None:
    arrivals = day(4_000)
    quiet_s = arrivals[-1].at_s / (traces.SALE_ENDS + 1)

    def rate(begins: float, ends: float) -> float:
        inside = [a for a in arrivals if begins * quiet_s <= a.at_s < ends * quiet_s]
        return len(inside) / (ends - begins) / quiet_s

    usual, full = rate(0, traces.SALE_BEGINS), rate(traces.SALE_FULL, traces.SALE_ENDS)
    assert full == pytest.approx(10 * usual, rel=0.2)
    assert [a.at_s for a in arrivals] == sorted(a.at_s for a in arrivals)
    asked = [bool(a.question) for a in arrivals]
    assert asked[:150].count(True) < 0.55 * 150 and asked[1_000:3_000].count(True) > 0.75 * 2_000


def test_the_cache_answers_what_was_asked_before_and_nobody_waits_for_a_refused_leader() -> None:
    setup = Setup(day(1_500, load=0.6), "balanced", 1)
    bare = simulate_world(setup).seen
    cached = simulate_world(setup._replace(recall=0.65)).seen
    assert len(bare) == len(cached) == 1_500
    assert any(s.outcome == "overloaded" for s in cached), "some leaders were refused"
    assert _yuan_per_answer(cached) < 0.75 * _yuan_per_answer(bare)
    hits = [s for s in cached if s.outcome == "ok" and not s.attempts]
    assert hits and all(s.cost_yuan == 0 and s.arrival.question for s in hits)


def _yuan_per_answer(seen: list[SimulatedCall]) -> float:
    return sum(s.cost_yuan for s in seen) / sum(s.outcome == "ok" for s in seen)


def test_own_engines_start_when_they_are_busy_and_are_paid_from_the_decision() -> None:
    fleet = Fleet(NODE, 36.0, 1, 4, starts_s=10.0)
    world = simulate_world(Setup(day(3_000), "balanced", 1, fleet=fleet))
    scaler = world.scaler
    assert scaler is not None and scaler.ready > 1
    used = {s.upstream for s in world.seen if s.upstream.startswith("own")}
    assert len(used) == scaler.ready
    asked_at = scaler.billed[1][0]
    late = [s for s in world.seen if s.upstream == "own-1"]
    assert min(s.arrival.at_s for s in late) >= asked_at + fleet.starts_s - late[0].total_s
    ends_s = asked_at + 100
    assert scaler.yuan(0, asked_at) == pytest.approx(asked_at * 36 / 3600)
    assert scaler.yuan(0, ends_s) > ends_s * 36 / 3600


def test_a_quiet_fleet_shrinks_again_but_not_below_what_it_has() -> None:
    fleet = Fleet(NODE, 36.0, 1, 4, starts_s=5.0)
    busy = day(3_000)
    end = busy[-1].at_s
    calm = [busy[n]._replace(at_s=end + 20.0 * n, question=0) for n in range(40)]
    world: World = simulate_world(Setup([*busy, *calm], "balanced", 1, fleet=fleet))
    assert world.scaler is not None and world.scaler.ready == 1
    assert {s.outcome for s in world.seen} <= {"ok", "overloaded"}
