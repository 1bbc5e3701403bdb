"""Tells each upstream's circuit breaker what its answers and failures mean, and who must know."""

from __future__ import annotations

from collections.abc import Callable

from tokenschain.core.errors import ApiError
from tokenschain.core.routing.health import AttemptOutcome, outcome_of
from tokenschain.core.routing.selection import Endpoint
from tokenschain.gateway.dispatch.router import Router


class HealthEvents:
    """One for a gateway; see `core.routing.health.Health`."""

    def __init__(
        self,
        router: Router,
        clock: Callable[[], float],
        random: Callable[[], float],
        report: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            clock: monotonic seconds, as the router's.
            random: uniform in [0, 1), for the jitter of pauses.
            report: told when an upstream's breaker opens or closes: its id and the state.
        """
        self._router = router
        self._clock = clock
        self._random = random
        self._report = report
        self.publish: Callable[[str, str, float], None] = lambda upstream, kind, for_s: None
        """Lets other gateways know; see `gateway.dispatch.health_sharing`."""
        self.note: Callable[[str, str, ApiError], None] = lambda upstream, call, error: None
        """Told of a failure whose detail the caller does not get: upstream, id of the call."""

    def failed(self, endpoint: Endpoint, error: ApiError, call: str = "") -> None:
        """What a failure means for the upstream.

        Args:
            call: the id of the call that it failed.
        """
        if error.detail:
            self.note(endpoint.name, call, error)
        outcome = outcome_of(error.code)
        now = self._clock()
        if outcome is AttemptOutcome.RATE:
            endpoint.concurrency_limit.refused(endpoint.inflight, now)
        health = endpoint.health
        opened = health.failed(outcome, now, error.retry_after_s, self._random())
        if outcome is AttemptOutcome.RATE or outcome is AttemptOutcome.AUTH:
            self.publish(endpoint.name, "rests", health.cooldown_until - now)
        elif outcome is AttemptOutcome.HARD and health.is_open:
            self.publish(endpoint.name, "open", health.reopens_at - now)
        if opened:
            self._report(endpoint.name, "open")
            for other in self._router.breaker_opened(endpoint):
                self._report(other, "open_with_its_region")

    def succeeded(self, endpoint: Endpoint, now: float) -> None:
        """An upstream began to answer."""
        health = endpoint.health
        was_open = health.is_open
        health.succeeded(now)
        if was_open and not health.is_open:
            self._report(endpoint.name, "closed")
            self.publish(endpoint.name, "closed", 0.0)
