"""Polling of open pages: parts that are drawn once for all who see the same, and how often pages
ask again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from starlette.responses import Response

from tokenschain.console import static_files
from tokenschain.console.visit import Visit
from tokenschain.infra.security.suite import Suite

POLLED = {
    "/console/live": 2.0,
    "/console/calls": 2.0,
    "/console/routing": 2.0,
    "/console/routing/upstream": 2.0,
    "/console/night": 5.0,
    "/console/alerts": 10.0,
    "/console/system": 10.0,
}
"""Pages that ask again, and after how many seconds where few are open."""
POLL_HEADER, AFTER_HEADER = "x-tc-poll", "x-tc-poll-after-ms"
"""Of a page that asks again, and when the answer wants it to do so next."""
CORE_SHARE_MAX = 0.03
"""Of one core, for all polling of this process: the ledger's own work shares its interpreter."""
WORKERS_SHARE = 3.0
"""What a poll takes of all threads, for what it takes of the event loop's: the API reads in
threads of its own, where nobody can tell its work from the ledger's. Alone it is 2.1; beside a
busy ledger, whose threads it waits for, more (`python -m bench.console`)."""
WINDOW_S = 5.0
SLOWDOWN_MAX = 15.0
KEPT_MAX = 64


class PollPace:
    """Tells pages to ask less often when polling takes more than its share of a core.

    What polling takes is proportional to the number of open pages and to the cost of each poll,
    and falls as the pause grows: so the pause grows by how much too much it was.
    """

    def __init__(
        self,
        spent: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            spent: computing time of the event loop's thread, in seconds.
        """
        self._spent = spent
        self._clock = clock
        self.slowdown = 1.0
        """By how much the pauses of `POLLED` are longer now."""
        self._began_s = clock()
        self._running = 0
        self._since_s = 0.0
        self._used_s = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around each poll; several at a time are measured together."""
        if self._running == 0:
            self._since_s = self._spent()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._used_s += self._spent() - self._since_s
                self._adjust()

    def _adjust(self) -> None:
        passed_s = self._clock() - self._began_s
        if passed_s < WINDOW_S:
            return
        share = self._used_s * WORKERS_SHARE / passed_s
        wanted = min(SLOWDOWN_MAX, max(1.0, self.slowdown * share / CORE_SHARE_MAX))
        self.slowdown = (self.slowdown + wanted) / 2
        self._began_s, self._used_s = self._clock(), 0.0


class _DrawnPart:
    """A part of a page, as it is sent to all who may see it."""

    def __init__(self, response: Response, suite: Suite) -> None:
        self.response = response
        self.body = bytes(response.body)
        self.etag = f'W/"{suite.hex_digest(self.body)[:32]}"'

    @cached_property
    def packed(self) -> bytes:
        """With gzip."""
        return static_files.pack(self.body)

    @property
    def is_fine(self) -> bool:
        """Whether it is what was asked for."""
        return self.response.status_code == 200


class _SharedPart(NamedTuple):
    drawing: asyncio.Task[_DrawnPart]
    expires_s: float


class SharedParts:
    """Parts that many open pages ask for: drawn once for all who may see the same.

    Who asks is known before, by the API and each time anew; a part is shared by those of one
    tenant with the same rights, language and address, for one pause.
    """

    def __init__(self, suite: Suite, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = PollPace(clock=clock)
        self._suite = suite
        self._clock = clock
        self._kept: dict[Hashable, _SharedPart] = {}

    async def answer(
        self, visit: Visit, known: str, draw: Callable[[], Awaitable[Response]], *, packed: bool
    ) -> Response:
        """The part that a page asks for again; 304 where it is as the page has it.

        Args:
            known: the ETag of what the page shows; empty where it does not say.
            packed: whether the browser takes gzip.

        Raises:
            Exception: whatever drawing raised.
        """
        pause_s = POLLED[visit.path] * self.pace.slowdown
        key, now_s = _key(visit), self._clock()
        shared = self._kept.get(key)
        if shared is None or (shared.expires_s <= now_s and shared.drawing.done()):
            drawing = asyncio.ensure_future(self._draw(draw))
            shared = _SharedPart(drawing, now_s + pause_s)
            self._keep(key, shared, now_s)
            part = await self._first(key, shared)
        else:  # what went wrong may be the other's own, as the end of a session is
            part = await _of_another(shared.drawing) or await self._draw(draw)
        if not part.is_fine:
            return part.response
        headers = {
            AFTER_HEADER: str(round(pause_s * 1_000)),
            "etag": part.etag,
            "vary": "accept-encoding, cookie",
        }
        if known == part.etag:
            return Response(status_code=304, headers=headers)
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(part.packed if packed else part.body, 200, headers, "text/html")

    async def _draw(self, draw: Callable[[], Awaitable[Response]]) -> _DrawnPart:
        return _DrawnPart(await draw(), self._suite)

    async def _first(self, key: Hashable, shared: _SharedPart) -> _DrawnPart:
        """What was just begun to be drawn; of what went wrong nothing is kept."""
        fine = False
        try:
            part = await asyncio.shield(shared.drawing)
            fine = part.is_fine
            return part
        finally:
            if not fine and self._kept.get(key) is shared:
                del self._kept[key]

    def _keep(self, key: Hashable, shared: _SharedPart, now_s: float) -> None:
        """Beside those that are still good, and no more than there is room for."""
        self._kept = {k: one for k, one in self._kept.items() if one.expires_s > now_s}
        while len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = shared


async def _of_another(drawing: asyncio.Task[_DrawnPart]) -> _DrawnPart | None:
    """What somebody else had drawn; None where that failed."""
    if not drawing.done():
        await asyncio.wait((drawing,))
    if drawing.cancelled() or drawing.exception() is not None:
        return None
    part = drawing.result()
    return part if part.is_fine else None


def _key(visit: Visit) -> Hashable:
    """All that decides what a part shows."""
    reader = visit.reader
    return (
        visit.path,
        tuple(sorted(visit.query.items())),
        visit.fragment,
        visit.language,
        reader.tenant,
        frozenset(reader.bindings),
    )
