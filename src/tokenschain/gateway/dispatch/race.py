"""Hedged requests: a silent upstream gets rivals, and the first to speak is taken.

"The Tail at Scale" (Dean and Barroso, 2013), with a budget: each race asks twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tokenschain.core.errors import ApiError
from tokenschain.core.routing.health import RetryBudget
from tokenschain.core.routing.selection import Endpoint
from tokenschain.gateway.dispatch.attempt import UpstreamAttempt


class RivalSource(Protocol):
    """Where a race gets its rivals."""

    def take_spare(self) -> bool:
        """Whether a call may be asked twice that nothing is known to be wrong with."""

    def rival(
        self, first: UpstreamAttempt, tried: set[Endpoint], budget: RetryBudget
    ) -> UpstreamAttempt | None:
        """Another upstream to ask beside the first, if one may be asked."""


class Race:
    """An attempt that others are started beside when it is silent; the first to speak is taken.

    Nothing that may still answer is given up before another has: a slow upstream is not lost.
    """

    __slots__ = (
        "_began", "_budget", "_clock", "_first", "_first_failed", "_hung", "_moments",
        "_rivals", "_source", "_task", "_timer", "_tried", "_won", "hung_after_s", "spare_after_s",
    )  # fmt: skip

    def __init__(
        self,
        source: RivalSource,
        clock: Callable[[], float],
        first: UpstreamAttempt,
        tried: set[Endpoint],
        budget: RetryBudget,
    ) -> None:
        self.spare_after_s: float | None = None
        """When a rival may be asked though nothing need be wrong, if the few that may are not
        used up."""
        self.hung_after_s: float | None = None
        """When it is wrong, and to blame."""
        self._began = 0.0
        self._hung = self._first_failed = False
        self._moments: list[tuple[float, bool]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._source = source
        self._clock = clock
        self._first = first
        self._tried = tried
        self._budget = budget
        self._rivals: dict[asyncio.Task[UpstreamAttempt], UpstreamAttempt] = {}
        self._task: asyncio.Task[object] | None = None
        self._won: asyncio.Task[UpstreamAttempt] | None = None

    async def run(self) -> UpstreamAttempt:
        """Wait for the first to speak.

        Raises:
            ApiError: of the last one that failed.
        """
        # The first attempt runs in the call's own task, since most calls never get a rival and a
        # task for each would cost them all; a rival that wins cancels its wait.
        self._task = asyncio.current_task()
        self._began = self._clock()
        if self.spare_after_s is not None:
            self._moments.append((self.spare_after_s, False))
        if self.hung_after_s is not None:
            self._moments.append((self.hung_after_s, True))
        self._moments.sort()
        self._set_timer()
        try:
            answer = await self._first.open()
        except asyncio.CancelledError:
            # Two things cancel this task: the caller who leaves, and `_ended` when a rival has
            # spoken. Both may come in one turn of the loop: `uncancel` takes back the one, and
            # what is left then is the caller's.
            task, won = self._task, self._won
            if won is None or task is None or task.uncancel():
                self._won = None  # the caller left: what was won is not used
                raise
            if self._hung:
                self._first.hung(self._clock() - self._began)
            else:
                self._first.lose()
            return won.result()
        except ApiError as error:
            if not self._rivals:
                raise
            return await self._rest(error)
        else:
            return answer
        finally:
            self._task = None
            if self._timer is not None:
                self._timer.cancel()
            if self._rivals:
                await self._stop()

    def _set_timer(self) -> None:
        """For the next moment at which a rival may be asked."""
        self._timer = None
        if not self._moments:
            return
        after_s, hung = self._moments.pop(0)
        waited_s = self._clock() - self._began
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, after_s - waited_s), self._due, hung)

    def _due(self, hung: bool) -> None:
        """The first has been silent for long, unless it only has not finished."""
        # A whole answer that was asked for as a stream has its first token long before its end.
        attempt = self._first.attempt
        if attempt is not None and attempt.first_token_at is not None:
            return
        self._hung = self._hung or hung
        if hung or self._source.take_spare():
            self._start()
        self._set_timer()

    def _start(self) -> None:
        rival = self._source.rival(self._first, self._tried, self._budget)
        if rival is None or self._task is None:
            return
        task = asyncio.ensure_future(rival.open())
        self._rivals[task] = rival
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[UpstreamAttempt]) -> None:
        if task.cancelled() or self._task is None or self._first_failed or self._won is not None:
            return  # over, or `_rest` waits for the rivals itself
        if task.exception() is None:
            self._won = task
            self._task.cancel()
        else:
            # The first is still silent and its rival failed: another one, within the budget.
            self._start()

    async def _rest(self, failure: ApiError) -> UpstreamAttempt:
        """The first failed: its rivals may not."""
        self._first_failed = True
        while True:
            waiting = [task for task in self._rivals if not task.done()]
            for task in self._rivals:
                if task.done() and task.exception() is None:
                    self._won = task
                    return task.result()
            if not waiting:
                raise failure
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    async def _stop(self) -> None:
        """Cancel all but the winner, and wait until they are gone: none may write to the caller."""
        losers = {t: v for t, v in self._rivals.items() if not t.done()}
        for task in losers:
            task.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        for rival in losers.values():
            rival.lose()
        for task, rival in self._rivals.items():
            if task in losers or task is self._won or task.cancelled():
                continue
            if task.exception() is None:
                # It spoke in the same turn of the loop as the winner: its stream is open.
                rival.abort()
