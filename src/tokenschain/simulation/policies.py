"""Baseline routing policies: round robin, least request, P2C-EWMA and other gateways' choices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Set
from typing import Any

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.routing.selection import Decision, Endpoint, Need
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.router import ALL_TRIED, Router

NO_LIMIT = 1_000_000_000
RIF_QUANTILE = 0.8
"""Prequal's hot-cold threshold (NSDI 2024: 0.6 to 0.9)."""
ALL_SEEING = "all-seeing"
_Pick = Callable[["Baseline", list[Endpoint], Need, float], Endpoint]


class Baseline(Router):
    """The router with another choice: no tiers, no price, no admission."""

    def __init__(self, pick: _Pick, *given: Any) -> None:
        super().__init__(*given)
        self._pick = pick
        self.turn = 0
        self.inflights: deque[int] = deque(maxlen=200)
        self.samples: dict[Endpoint, deque[float]] = {}
        self.rng = given[3]

    def place(
        self,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        tried: Set[Endpoint],
        waited_s: float = 0.0,
        starved: bool = False,
    ) -> Decision:
        now = self._clock()
        left = [e for e in self.endpoints(plan) if e not in tried]
        up = [e for e in left if e.health.allows(now)] or left
        if not up:
            return Decision(None, ALL_TRIED, 1.0, (), ())
        return Decision(self._choose(call, up, need, now, tried), "baseline", 1.0, (), ())

    def _choose(
        self, call: Call, up: list[Endpoint], need: Need, now: float, tried: Set[Endpoint]
    ) -> Endpoint:
        for endpoint in up:
            endpoint.concurrency_limit.calls = NO_LIMIT
        return self._pick(self, up, need, now)

    def observe(self, endpoint: Endpoint, took_s: float) -> None:
        """Note a first-token time as the caller saw it."""
        self.samples.setdefault(endpoint, deque(maxlen=100)).append(took_s)

    def mean(self, endpoint: Endpoint, last: int) -> float:
        """Mean of the last first-token times, seconds; 0 when there are none."""
        seen = list(self.samples.get(endpoint, ()))[-last:]
        return sum(seen) / len(seen) if seen else 0.0


class AllSeeing(Baseline):
    """A greedy router that sees what is in the engines: the first token that comes soonest, and
    429 where that is too late. No gateway can know as much; the distance is the cost of that."""

    def __init__(self, expected_s: Callable[[Call, Endpoint], float], *given: Any) -> None:
        super().__init__(_round_robin, *given)
        self._expected_s = expected_s

    def _choose(
        self, call: Call, up: list[Endpoint], need: Need, now: float, tried: Set[Endpoint]
    ) -> Endpoint:
        first_s, _, best = min((self._expected_s(call, e), n, e) for n, e in enumerate(up))
        if first_s > need.slo_s and not tried:
            raise ApiError("overloaded", "No engine would speak in time.")
        return best


def _round_robin(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    self.turn += 1
    return up[self.turn % len(up)]


def _least_request(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    return min(up, key=lambda e: (e.inflight, self.rng()))


def _p2c_ewma(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    pair = [up[int(self.rng() * len(up))] for _ in range(2)]
    return min(pair, key=lambda e: e.peak_s(need, now) * (e.inflight + 1))


def _hcl(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    self.inflights.extend(e.inflight for e in up)
    ordered = sorted(self.inflights)
    hot = ordered[math.floor(RIF_QUANTILE * (len(ordered) - 1))]
    cold = [e for e in up if e.inflight <= hot]
    if cold:
        return min(cold, key=lambda e: (e.peak_s(need, now), e.inflight, self.rng()))
    return min(up, key=lambda e: e.inflight)


def _weighted(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    """Latency, price and load, each scaled between the best and the worst candidate."""

    def scaled(values: list[float]) -> list[float]:
        low, high = min(values), max(values)
        return [(v - low) / (high - low) if high > low else 0.0 for v in values]

    latency = scaled([e.peak_s(need, now) for e in up])
    price = scaled([e.cost(need) for e in up])
    load = scaled([float(e.inflight) for e in up])
    scores = [0.4 * a + 0.3 * b + 0.3 * c for a, b, c in zip(latency, price, load, strict=True)]
    return up[scores.index(min(scores))]


def _lowest_latency(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    """LiteLLM 1.109: the mean of the last 10 first-token times; unknown ones first."""
    return min(up, key=lambda e: (self.mean(e, 10), self.rng()))


def _least_first_token(self: Baseline, up: list[Endpoint], need: Need, now: float) -> Endpoint:
    """Higress: the mean of the last 100 first-token times."""
    return min(up, key=lambda e: (self.mean(e, 100), self.rng()))


BASELINES: dict[str, _Pick] = {
    "round-robin": _round_robin,
    "least-request": _least_request,
    "p2c-ewma": _p2c_ewma,
    "prequal-hcl": _hcl,
    "weighted-score": _weighted,
    "lowest-latency": _lowest_latency,
    "least-first-token": _least_first_token,
}
