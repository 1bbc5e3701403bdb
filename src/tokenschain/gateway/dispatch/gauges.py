"""Gauges of upstreams, for the metrics: breaker, calls in flight, concurrency limit, keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tokenschain.core.snapshot import Upstream
from tokenschain.gateway.dispatch.router import Router


def upstream_gauges(
    upstreams: Mapping[str, Upstream],
    router: Router,
    key_states: Mapping[str, Sequence[str]],
    now: float,
) -> dict[str, dict[str, float]]:
    """How each upstream of the configuration stands: values by gauge, and by its labels.

    Labels are joined by tabs, as `infra.telemetry` has them.

    Args:
        key_states: of each upstream's keys, by the upstream's id.
        now: on the router's clock.
    """
    state: dict[str, float] = {}
    keys: dict[str, float] = {}
    breaker_open = dict.fromkeys(upstreams, 0.0)
    in_flight, limit = dict.fromkeys(upstreams, 0.0), dict.fromkeys(upstreams, 0.0)
    for endpoint in router.known:
        if endpoint.name in upstreams:
            in_flight[endpoint.name] += endpoint.inflight
            limit[endpoint.name] += endpoint.concurrency_limit.calls
    for name in upstreams:
        health = router.healths.get(name)
        stands = "closed" if health is None else health.state(now).replace(" ", "_")
        state[f"{name}\t{stands}"] = 1.0
        breaker_open[name] = float(health is not None and health.is_open)
        for kind, count in Counter(key_states.get(name, ())).items():
            keys[f"{name}\t{kind}"] = count
    return {
        "upstream_state": state,
        "upstream_breaker_open": breaker_open,
        "upstream_in_flight": in_flight,
        "upstream_concurrency_limit": limit,
        "upstream_keys": keys,
    }
