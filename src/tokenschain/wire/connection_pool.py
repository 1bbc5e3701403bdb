"""Connections of one origin: a stack of idle ones, and those who wait for a place."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Generic, Protocol, TypeVar


class Pooled(Protocol):
    """A connection, as far as the pool looks at it."""

    closed: bool
    forgotten: bool
    """Whether its place was given to another."""
    idle_since: float
    """Monotonic seconds."""

    def abort(self) -> None: ...


C = TypeVar("C", bound=Pooled)


class ConnectionPool(Generic[C]):
    """The connections of one origin: a stack of idle ones and a bounded count."""

    __slots__ = ("count", "idle", "waiters")

    def __init__(self) -> None:
        self.idle: list[C] = []
        self.count = 0
        self.waiters: deque[asyncio.Future[None]] = deque()

    def take_idle(self) -> C | None:
        """The one that was used last."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
        return None

    def give_back(self, connection: C) -> None:
        connection.idle_since = time.monotonic()
        self.idle.append(connection)
        if self.waiters:
            self.wake_one()

    def forget(self, connection: C) -> None:
        """Give the place of a closed connection to the next who waits."""
        if connection.forgotten:
            return
        connection.forgotten = True
        self.count -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self.wake_one()

    def wake_one(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close_idle(self, before: float) -> None:
        """Close those that were last used before a time; the stack's bottom is the longest idle."""
        while self.idle and self.idle[0].idle_since < before:
            self.idle[0].abort()
