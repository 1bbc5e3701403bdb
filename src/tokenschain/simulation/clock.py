"""Virtual clock: an event loop whose time jumps to the next event, so an hour takes seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_TIE_S = 1e-12
"""Tells apart what is due at the same moment; far below any time that is modelled."""


class _NoWaiting(selectors.DefaultSelector):
    """Does not wait: moves the loop's clock forward by the wait instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        self.loop.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is scheduled, in order, at once. Sockets do not work in it."""

    def __init__(self) -> None:
        selector = _NoWaiting()
        selector.loop = self
        self.now = 0.0
        self._scheduled_count = 0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, *rest: Any, **named: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """What is due at one moment runs in the order in which it was scheduled, as what is sent
        on one network arrives; asyncio's own heap knows no order among equals."""
        self._scheduled_count += 1
        return super().call_at(when + self._scheduled_count * _TIE_S, *rest, **named)


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end in virtual time.

    Raises:
        RuntimeError: nothing is scheduled any more, and the end did not come.
    """
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
