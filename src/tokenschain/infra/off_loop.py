"""Long work off the event loop: a thread of its own, with a bound on what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tokenschain.core.errors import ApiError

_T = TypeVar("_T")
WAITING_MAX = 64


class WorkThread:
    """Does one piece of work after the other; see `core.ports.OffLoop`.

    One thread: the work holds the interpreter most of its time, so more would gain nothing. What
    it may hold it for at once is bounded by `core.formats.json_bounds`.
    """

    def __init__(self, name: str, waiting_max: int = WAITING_MAX) -> None:
        """
        Args:
            name: of the thread, and in what is said where too much waits.
        """
        self._thread = ThreadPoolExecutor(1, name)
        self._name = name
        self._waiting_max = waiting_max
        self._waiting = 0

    async def __call__(self, work: Callable[[], _T]) -> _T:
        """See `core.ports.OffLoop.__call__`."""
        if self._waiting >= self._waiting_max:
            raise ApiError("overloaded", f"Too many {self._name} are waiting to be read.")
        self._waiting += 1
        begun = self._thread.submit(work)
        done = asyncio.wrap_future(begun)
        done.add_done_callback(self._ended)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not begun.cancel():
                # It may note things on its call: nobody settles that while it does.
                await asyncio.wait([done])
            raise

    def _ended(self, done: asyncio.Future[_T]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            done.exception()  # seen, also where the caller has left
