"""Tells each upstream's circuit breaker what its answers and failures mean, and who must know."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import Reporter
from tokenschain.core.routing.health import AttemptOutcome, outcome_of
from tokenschain.core.routing.selection import Endpoint
from tokenschain.gateway.dispatch.router import Router

_SAYS_NOTHING = (AttemptOutcome.CLIENT, AttemptOutcome.CANCEL)


class Failure(NamedTuple):
    """How an attempt failed."""

    at: float
    code: str


class HealthEvents:
    """One for a gateway; see `core.routing.health.Health`."""

    def __init__(
        self,
        router: Router,
        clock: Callable[[], float],
        random: Callable[[], float],
        report: Reporter,
    ) -> None:
        """
        Args:
            clock: monotonic seconds, as the router's.
            random: uniform in [0, 1), for the jitter of pauses.
            report: told when an upstream's breaker changes its state, or an upstream rests.
        """
        self._router = router
        self._clock = clock
        self._random = random
        self._report = report
        self.publish: Callable[[str, str, float], None] = lambda upstream, kind, for_s: None
        """Lets other gateways know; see `gateway.dispatch.health_sharing`."""
        self.note: Callable[[str, str, ApiError], None] = lambda upstream, call, error: None
        """Told of a failure whose detail the caller does not get: upstream, id of the call."""
        self._resting: dict[str, tuple[Endpoint, float]] = {}
        """Upstreams that rest, and since when."""
        self.last_failures: dict[str, Failure] = {}
        """The latest of each upstream."""

    def failed(self, endpoint: Endpoint, error: ApiError, call: str = "") -> None:
        """What a failure means for the upstream.

        Args:
            call: the id of the call that it failed.
        """
        if error.detail:
            self.note(endpoint.name, call, error)
        outcome = outcome_of(error.code)
        now = self._clock()
        if outcome not in _SAYS_NOTHING:
            self.last_failures[endpoint.name] = Failure(now, error.code)
        if outcome is AttemptOutcome.RATE:
            endpoint.concurrency_limit.refused(endpoint.inflight, now)
        health = endpoint.health
        was_trial = health.is_open and health.tries
        opened = health.failed(outcome, now, error.retry_after_s, self._random())
        if outcome is AttemptOutcome.RATE or outcome is AttemptOutcome.AUTH:
            self.publish(endpoint.name, "rests", health.cooldown_until - now)
            self.rests(endpoint, error.code, detail=error.detail)
        elif outcome is AttemptOutcome.HARD and health.is_open:
            self.publish(endpoint.name, "open", health.reopens_at - now)
        if opened or (was_trial and health.is_open and not health.tries):
            self._report(
                "breaker_open", error.code, upstream=endpoint.name, detail=error.detail,
                failed=health.failures(now), retry_in_s=round(health.reopens_at - now, 1),
            )  # fmt: skip
        if opened:
            for other, retry_in_s in self._router.breaker_opened(endpoint).items():
                self._report(
                    "breaker_open_with_its_region", f"{endpoint.name} failed as well",
                    upstream=other, region=endpoint.candidate.upstream.region,
                    retry_in_s=round(retry_in_s, 1),
                )  # fmt: skip

    def succeeded(self, endpoint: Endpoint, now: float) -> None:
        """An upstream began to answer whose breaker was open."""
        health = endpoint.health
        health.succeeded(now)
        if not health.is_open:
            open_s = round(now - health.open_since, 1)
            self._report("breaker_closed", upstream=endpoint.name, open_s=open_s)
            self.publish(endpoint.name, "closed", 0.0)

    def trial(self, endpoint: Endpoint, call: str) -> None:
        """A call is sent to an upstream whose breaker is open: it decides whether it closes."""
        open_s = round(self._clock() - endpoint.health.open_since, 1)
        self._report("breaker_half_open", upstream=endpoint.name, open_s=open_s, trial=call)

    def rests(self, endpoint: Endpoint, why: str, **fields: object) -> None:
        """An upstream gets no calls for a while; said when that begins, not when it goes on."""
        if endpoint.name not in self._resting:
            now = self._clock()
            self._resting[endpoint.name] = endpoint, now
            retry_in_s = round(max(0.0, endpoint.health.cooldown_until - now), 1)
            self._report(
                "upstream_resting", why, upstream=endpoint.name, retry_in_s=retry_in_s, **fields
            )

    def end_rests(self) -> None:
        """Say whose rest is over; called every second or two."""
        now = self._clock()
        for name, (endpoint, since) in list(self._resting.items()):
            if now >= endpoint.health.cooldown_until:
                del self._resting[name]
                self._report("upstream_back", upstream=name, rested_s=round(now - since, 1))

    def forget_but(self, upstreams: Collection[str]) -> None:
        """Let go of the others' failures: they have left the configuration."""
        for name in [name for name in self.last_failures if name not in upstreams]:
            del self.last_failures[name]
