"""How each upstream is, as this worker knows it: breaker, last failure, running calls, keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tokenschain.core.gateway_status import KeyStatus, UpstreamStatus
from tokenschain.core.snapshot import Upstream
from tokenschain.gateway.dispatch.health_events import HealthEvents
from tokenschain.gateway.dispatch.router import Router
from tokenschain.infra import hardening

FAILURE_TOLD_S = 60.0
"""How long a failure is told of an upstream that has answered since."""


def variables_of(upstreams: Iterable[Upstream]) -> tuple[str, ...]:
    """The environment variables that upstreams' credentials are in."""
    named = (reference for upstream in upstreams for reference in upstream.credentials)
    return tuple(sorted(hardening.variables_in(named)))


def upstream_statuses(
    router: Router,
    events: HealthEvents,
    keys: Mapping[str, Sequence[KeyStatus]],
    now: float,
) -> tuple[UpstreamStatus, ...]:
    """Every upstream that calls have come to, by id."""
    running: Counter[str] = Counter()
    for endpoint in router.known:
        running[endpoint.name] += endpoint.inflight
    taking = {upstream.id for upstream in router.upstreams if not upstream.drain}
    found = []
    for name, health in sorted(router.healths.items()):
        failure = events.last_failures.get(name)
        state = health.state(now)
        told = failure is not None and (state != "closed" or now - failure.at < FAILURE_TOLD_S)
        found.append(
            UpstreamStatus(
                id=name,
                breaker=state,
                why=failure.code if failure is not None and told else "",
                ready_in_s=round(health.ready_in_s(now), 3),
                running=running[name],
                leaves=name not in taking,
                keys=tuple(keys.get(name, ())),
            )
        )
    return tuple(found)
