"""Active health checks of idle or ejected upstreams.

Where calls go, they are the probe. An upstream has a `probe_path` to be asked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import Reporter, report_failure
from tokenschain.core.routing.selection import Endpoint
from tokenschain.core.snapshot import Upstream
from tokenschain.gateway.dispatch.health_events import HealthEvents
from tokenschain.gateway.dispatch.router import Router

PROBE_S = 2.0
IDLE_S = 30.0
"""Without an answer or a failure for this long, nothing is known any more."""


class Probes:
    """Runs beside the calls; see `run`."""

    def __init__(
        self,
        router: Router,
        health: HealthEvents,
        clock: Callable[[], float],
        ask: Callable[[Upstream], Awaitable[None]],
        report: Reporter,
    ) -> None:
        """
        Args:
            ask: is the upstream there; raises `ApiError` when it is not. Limited in time.
            report: told `breaker_answers_probe`, when an ejected one is back.
        """
        self._router = router
        self._health = health
        self._clock = clock
        self._ask = ask
        self._report = report

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PROBE_S)
            self._health.end_rests()
            await asyncio.gather(*(self._probe(endpoint) for endpoint in self._due()))

    def _due(self) -> list[Endpoint]:
        """One offer of each upstream that is to be checked."""
        now = self._clock()
        due: dict[str, Endpoint] = {}
        for endpoint in self._router.known:
            upstream, health = endpoint.candidate.upstream, endpoint.health
            if not upstream.probe_path or upstream.id in due or health.tries:
                continue
            waits = health.is_open and now < health.reopens_at
            if waits or (not health.is_open and now - health.heard_at > IDLE_S):
                due[upstream.id] = endpoint
        return list(due.values())

    async def _probe(self, endpoint: Endpoint) -> None:
        health = endpoint.health
        try:
            await self._ask(endpoint.candidate.upstream)
        except ApiError as error:
            if not health.is_open:
                self._health.failed(endpoint, error)
            return
        except Exception as error:  # noqa: BLE001 - ours, and nothing is known of the upstream
            report_failure(self._report, error, upstream=endpoint.name)
            return
        now = self._clock()
        if health.is_open:
            # It is there; whether it answers calls is for the next call to say.
            health.try_soon(now)
            self._report("breaker_answers_probe", upstream=endpoint.name)
        else:
            health.present(now)
