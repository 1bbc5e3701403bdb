"""Long work off the event loop: a thread of its own, where those who wait take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import KeyGrant

_T = TypeVar("_T")
WAITING_MAX = 256
WAITING_OF_KEY_MAX = 32
"""So that one key does not take all places."""


class _Job:
    __slots__ = ("begun", "done", "turn", "work")

    def __init__(self, work: Callable[[], Any], turn: tuple[str, str]) -> None:
        self.work = work
        self.turn = turn
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begun = False


class _Turns:
    """Jobs that wait: of each tenant in turn the oldest of each of its keys in turn."""

    __slots__ = ("_tenants", "waiting")

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, deque[_Job]]] = {}
        self.waiting = 0

    def of_key(self, turn: tuple[str, str]) -> int:
        """How many of a key's jobs wait."""
        tenant, key_id = turn
        return len(self._tenants.get(tenant, {}).get(key_id, ()))

    def making_room_for(self, tenant: str) -> _Job | None:
        """The newest job of the busiest key of the tenant with most; None where another one of
        this tenant's would make it the one with most."""
        waiting = {name: sum(map(len, keys.values())) for name, keys in self._tenants.items()}
        most = max(waiting, key=waiting.__getitem__)
        if waiting[most] <= waiting.get(tenant, 0) + 1:
            return None
        return max(self._tenants[most].values(), key=len)[-1]

    def add(self, job: _Job) -> None:
        tenant, key_id = job.turn
        self._tenants.setdefault(tenant, {}).setdefault(key_id, deque()).append(job)
        self.waiting += 1

    def remove(self, job: _Job) -> None:
        tenant, key_id = job.turn
        self._tenants[tenant][key_id].remove(job)
        self._taken(tenant, key_id)

    def next(self) -> _Job | None:
        """Whose turn it is; its tenant and key go to the end of their lines."""
        for tenant, keys in self._tenants.items():
            key_id = next(iter(keys))
            job = keys[key_id].popleft()
            keys[key_id] = keys.pop(key_id)
            self._tenants[tenant] = self._tenants.pop(tenant)
            self._taken(tenant, key_id)
            return job
        return None

    def _taken(self, tenant: str, key_id: str) -> None:
        self.waiting -= 1
        keys = self._tenants[tenant]
        if not keys[key_id]:
            del keys[key_id]
        if not keys:
            del self._tenants[tenant]


class WorkThread:
    """Does one piece of work after the other; see `core.ports.OffLoop`.

    One thread: the work holds the interpreter most of its time, so more would gain nothing. What
    it may hold it for at once is bounded by `core.formats.json_bounds`, and whoever waits, waits
    for one piece of each other tenant at most. Where all places are taken, the tenant with most of
    them makes room: each has its equal share, however many keys another asks with.
    """

    def __init__(
        self,
        name: str,
        waiting_max: int = WAITING_MAX,
        waiting_of_key_max: int = WAITING_OF_KEY_MAX,
    ) -> None:
        """
        Args:
            name: of the thread, and in what is said where too much waits.
        """
        self._thread = ThreadPoolExecutor(1, name)
        self._name = name
        self._waiting_max = waiting_max
        self._waiting_of_key_max = waiting_of_key_max
        self._turns = _Turns()
        self._busy = False

    async def __call__(self, work: Callable[[], _T], caller: KeyGrant | None = None) -> _T:
        """See `core.ports.OffLoop.__call__`."""
        turn = ("", "") if caller is None else (caller.tenant, caller.key_id)
        return await self.in_turn(work, turn)

    async def in_turn(self, work: Callable[[], _T], turn: tuple[str, str]) -> _T:
        """The same for whatever has no key.

        Args:
            turn: whose work it is, and which of theirs: each waits in a line of its own.

        Raises:
            ApiError: `overloaded`.
        """
        if self._turns.of_key(turn) >= self._waiting_of_key_max:
            raise self._overloaded()
        if self._turns.waiting >= self._waiting_max:
            self._make_room_for(turn[0])
        job = _Job(work, turn)
        self._turns.add(job)
        if not self._busy:
            self._begin_next()
        try:
            result: _T = await asyncio.shield(job.done)
        except asyncio.CancelledError:
            if job.begun:
                # It may note things on its call: nobody settles that while it does.
                await asyncio.wait([job.done])
            elif not job.done.done():
                self._turns.remove(job)
            raise
        return result

    def _make_room_for(self, tenant: str) -> None:
        displaced = self._turns.making_room_for(tenant)
        if displaced is None:
            raise self._overloaded()
        self._turns.remove(displaced)
        displaced.done.set_exception(self._overloaded())
        displaced.done.exception()  # seen, also where the caller leaves at this moment

    def _overloaded(self) -> ApiError:
        return ApiError("overloaded", f"Too many {self._name} are waiting to be read.")

    def _begin_next(self) -> None:
        job = self._turns.next()
        self._busy = job is not None
        if job is not None:
            job.begun = True
            ended = asyncio.wrap_future(self._thread.submit(job.work))
            ended.add_done_callback(partial(self._ended, job))

    def _ended(self, job: _Job, ended: asyncio.Future[Any]) -> None:
        self._begin_next()
        if ended.cancelled():  # the thread is being closed
            job.done.cancel()
        elif (error := ended.exception()) is not None:
            job.done.set_exception(error)
            job.done.exception()  # seen, also where the caller has left
        else:
            job.done.set_result(ended.result())
