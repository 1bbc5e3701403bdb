"""Gauges of upstreams, as a router knows them."""

from __future__ import annotations

from tests.fakes import price
from tokenschain.core.routing.health import AttemptOutcome
from tokenschain.core.snapshot import ModelRoute, Offer, Served, Snapshot, Upstream
from tokenschain.gateway.dispatch.gauges import upstream_gauges
from tokenschain.gateway.dispatch.router import Router


def test_each_upstream_tells_its_state_load_and_keys() -> None:
    upstreams = {name: Upstream(name, "sim", "http://x/v1") for name in ("a", "b", "unused")}
    offers = tuple(Offer(name, "m", price(0)) for name in ("a", "b"))
    served = Served(Snapshot("1", upstreams, {"m": ModelRoute("m", "chat", offers)}))
    router = Router(served, lambda: 1.0, lambda: 1.0, lambda: 0.5)
    plan = served.directory("").known("m", "chat")
    assert plan is not None
    found = {endpoint.name: endpoint for endpoint in router.endpoints(plan)}
    for _ in range(3):
        found["a"].health.failed(AttemptOutcome.HARD, 1.0, None, 0.5)
    found["b"].begin(10)
    gauges = upstream_gauges(upstreams, router, {"a": ["dead", "dead", "ready"]}, 1.0)
    assert gauges["upstream_breaker_open"] == {"a": 1.0, "b": 0.0, "unused": 0.0}
    assert gauges["upstream_state"] == {"a\topen": 1.0, "b\tclosed": 1.0, "unused\tclosed": 1.0}
    assert gauges["upstream_in_flight"] == {"a": 0.0, "b": 1.0, "unused": 0.0}
    assert gauges["upstream_keys"] == {"a\tdead": 2, "a\tready": 1}
