"""Quota leases of shared counts: drawn in the background, awaited only when one is used up.

One exchange with the owner of the counts runs at a time; whatever is asked for meanwhile
goes with the next, so that many calls cost one round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tokenschain.core.backoff import Backoff
from tokenschain.core.limits import Lease, LeaseRequest, Pool, Window
from tokenschain.core.log_events import Reporter

RATES_DRAW_MAX_S = 0.25
BUDGETS_DRAW_MAX_S = 1.0
"""An owner that does not answer within is away. A call waits for one exchange at most, and
not at all while the owner is away."""
BACKOFF_S = 1.0
"""How often an owner that is away is asked again."""
RENEW_S = 2.0
IDLE_ROUNDS = 5
"""Renewals without any use, after which a lease is given back whole."""
REQUESTS_MAX = 1_000
"""Counts in one exchange."""

Draw = Callable[[Sequence[LeaseRequest]], Awaitable[Sequence[Lease]]]


class Count:
    """One shared count and this process's lease on it."""

    __slots__ = (
        "at_once", "drawn", "idle_rounds", "lapses", "limit", "needed", "pool", "subject",
        "until_s",
    )  # fmt: skip

    def __init__(
        self, limit: str, subject: str, amount: int, at_once: bool, lapses: bool = False
    ) -> None:
        """
        Args:
            lapses: the owner forgets what was leased, as a window passes: what is not used of
                an old lease must not be given back, or it would be counted off what is new.
        """
        self.limit = limit
        self.subject = subject
        self.at_once = at_once
        self.lapses = lapses
        self.pool = Pool(amount)
        self.needed = 0
        """What calls are waiting for."""
        self.until_s = 0.0
        self.idle_rounds = 0
        self.drawn: Window | None = None
        """Of a rate: what this process was granted in its window, so that it does not take a whole
        share besides when the owner is away."""


class Leases:
    """Leases of one owner: Redis, or control."""

    def __init__(
        self,
        draw: Draw,
        failures: tuple[type[Exception], ...],
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        report: Reporter,
        name: str,
        draw_max_s: float,
    ) -> None:
        """
        Args:
            draw: one exchange; raises one of `failures` when the owner is away.
            report: told once when leases cannot be drawn (`NAME_paused`), and once when they can
                again (`NAME_resumed`).
        """
        self._draw = draw
        self._failures: tuple[type[Exception], ...] = (TimeoutError, *failures)
        self._clock = clock
        self._unix_time = unix_time
        self._backoff = Backoff(
            clock, BACKOFF_S, name=name, report=report, away="paused", back="resumed"
        )
        self._draw_max_s = draw_max_s
        self._counts: set[Count] = set()
        self._wanted: set[Count] = set()
        self._woken = asyncio.Event()
        self._round: asyncio.Future[None] | None = None

    @property
    def lost(self) -> str | None:
        """Why the owner of the counts does not answer; None while it does."""
        return self._backoff.why if self._backoff.is_lost else None

    @property
    def is_away(self) -> bool:
        """Whether the owner did not answer when last asked."""
        return self._backoff.is_lost

    def add(self, count: Count) -> None:
        """Keep a count leased from now on."""
        self._counts.add(count)

    def forget(self, counts: Sequence[Count]) -> None:
        """These are no longer used."""
        self._counts.difference_update(counts)

    def request(self, count: Count) -> None:
        """The lease runs low: another is drawn soon."""
        self._wanted.add(count)
        self._woken.set()

    async def draw(self, counts: Sequence[Count], amounts: Sequence[int]) -> None:
        """Wait for leases of at least these amounts.

        Returns without a word when they do not come: the caller looks itself.
        """
        # While the owner is away no call waits for it: each would pay the whole timeout.
        if self._backoff.is_lost:
            return
        for count, amount in zip(counts, amounts, strict=True):
            count.needed += amount
            self.request(count)
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        try:
            # Twice: an exchange may be under way already, and this request goes with the next.
            async with asyncio.timeout(2 * self._draw_max_s):
                # Many calls wait for one round; one that leaves must not cancel it for the others.
                await asyncio.shield(self._round)
        except TimeoutError:
            pass
        finally:
            for count, amount in zip(counts, amounts, strict=True):
                count.needed -= amount

    async def run(self) -> None:
        """Draw until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_leases())
            while True:
                await self._woken.wait()
                self._woken.clear()
                # One turn of the loop, so that what all calls that are ready ask for goes together.
                await asyncio.sleep(0)
                batch = list(self._wanted)[:REQUESTS_MAX]
                self._wanted.difference_update(batch)
                if self._wanted:
                    self._woken.set()
                # Who comes during the exchange waits for the next round: this batch is closed.
                waiting, self._round = self._round, None
                try:
                    await self._exchange(batch)
                finally:
                    _release(waiting)
                if self._backoff.is_lost:
                    # Who came while the exchange failed must not wait for the next one.
                    waiting, self._round = self._round, None
                    _release(waiting)
                    await asyncio.sleep(self._backoff.wait_s)

    async def _exchange(self, batch: list[Count]) -> None:
        requests = []
        for count in batch:
            pool = count.pool
            idle = count.idle_rounds >= IDLE_ROUNDS and not count.needed
            want = -max(0, pool.left) if idle else pool.request(count.needed)
            need = max(0, count.needed - pool.left)
            held = pool.left + pool.in_use if count.at_once else 0
            if want <= 0 and not idle:
                want = -pool.surplus(count.needed)
            # Taken off while it is on its way, so that what is given back is not used.
            if want < 0:
                pool.left += want
            requests.append(LeaseRequest(count.limit, count.subject, want, need, max(0, held)))
        try:
            async with asyncio.timeout(self._draw_max_s):
                leases = await self._draw(requests)
        except Exception as error:
            # Whether the owner took it back is not known; used here it is at most counted twice
            # until the lease ends, given up it would be lost to all for as long.
            for count, request in zip(batch, requests, strict=True):
                if request.want < 0:
                    count.pool.left -= request.want
            self._backoff.failed(str(error) or type(error).__name__)
            if not isinstance(error, self._failures):
                raise  # a fault of ours: logged, but the owner is as good as away
            return
        self._backoff.answered()
        now = self._clock()
        for count, lease in zip(batch, leases, strict=True):
            count.pool.granted(max(0, lease.granted), lease.left)
            if count.drawn is not None and lease.granted:
                count.drawn.settle(0, lease.granted, now)
            count.pool.reset_at_s = now + lease.reset_s
            count.until_s = lease.until_s

    async def _renew_leases(self) -> None:
        """Renew what is held, give back what is too much, end what has ended."""
        while True:
            await asyncio.sleep(RENEW_S)
            unix_time = self._unix_time()
            for count in list(self._counts):
                pool = count.pool
                if count.until_s and unix_time >= count.until_s:
                    # A budget's period is over: what is left belongs to the old one. What was
                    # overdrawn (below 0) stays owed.
                    pool.left = min(0, pool.left)
                    count.until_s = 0.0
                used = pool.in_use or pool.used_since or count.needed
                count.idle_rounds = 0 if used else count.idle_rounds + 1
                if count.lapses and count.idle_rounds >= IDLE_ROUNDS:
                    pool.left = min(0, pool.left)
                if pool.in_use or pool.left or (pool.known_left == 0 and count.needed):
                    self._wanted.add(count)
            if self._wanted or self._backoff.is_lost:
                self._woken.set()


def _release(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
