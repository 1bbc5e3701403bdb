"""State of each moderation engine, from what all gateways say of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tokenschain.core.moderation.engine_record import (
    P95_MIN,
    EngineCounts,
    EngineStatus,
    percentile_ms,
)

_BREAKERS = ("closed", "slow start", "trial", "resting", "open")
"""From the best to the worst."""


class EngineState(NamedTuple):
    """One engine at all gateways; counts are of the last quarter of an hour."""

    name: str
    vendor: str
    zone: str
    breaker: str
    """As at the gateway where it is worst."""
    retry_after_s: float
    gateways: int
    """They say something of it."""
    without_credential: int
    """Gateways among them."""
    answered: int
    errors: dict[str, int]
    withdrawn: int
    from_memory: int
    p50_ms: float | None
    p95_ms: float | None
    last_error: str
    last_error_s: float | None
    requests_today: int
    requests_left_today: int | None
    """Of all gateways together; None where one of them has no bound."""


def together(statuses: Iterable[EngineStatus]) -> list[EngineState]:
    """Each engine once: the local one first, then by name."""
    told: dict[str, list[EngineStatus]] = {}
    for status in statuses:
        told.setdefault(status.name, []).append(status)
    local = [name for name, found in told.items() if found[0].vendor == "local"]
    return [_state(told[name]) for name in (*local, *sorted(told.keys() - set(local)))]


def unheard(name: str, vendor: str, zone: str) -> EngineState:
    """An engine that is set up, and that no gateway tells of."""
    return _state([EngineStatus(name, vendor, "", zone)])._replace(gateways=0)


def _state(found: list[EngineStatus]) -> EngineState:
    worst = max(found, key=lambda one: (_badness(one.breaker), one.ready_in_s))
    latest = max(found, key=lambda one: one.last_error_s)
    sums = EngineCounts()
    for one in found:
        sums.errors.update(one.errors)
        sums.waits.update(one.waits)
    left = [
        max(0, one.requests_a_day - one.requests_today)
        for one in found
        if one.requests_a_day is not None
    ]
    return EngineState(
        name=worst.name, vendor=worst.vendor, zone=worst.zone,
        breaker=worst.breaker, retry_after_s=worst.ready_in_s,
        gateways=len(found), without_credential=sum(not one.credential for one in found),
        answered=sum(one.answered for one in found), errors=dict(sorted(sums.errors.items())),
        withdrawn=sum(one.withdrawn for one in found),
        from_memory=sum(one.from_memory for one in found),
        p50_ms=percentile_ms(sums.waits, 0.5), p95_ms=percentile_ms(sums.waits, 0.95, P95_MIN),
        last_error=latest.last_error, last_error_s=latest.last_error_s or None,
        requests_today=sum(one.requests_today for one in found),
        requests_left_today=sum(left) if len(left) == len(found) else None,
    )  # fmt: skip


def _badness(breaker: str) -> int:
    return _BREAKERS.index(breaker) if breaker in _BREAKERS else len(_BREAKERS)
