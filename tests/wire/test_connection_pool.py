"""The pool of connections to one origin."""

from __future__ import annotations

import asyncio

from tokenschain.wire.connection_pool import ConnectionPool


class Connection:
    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self.closed = self.forgotten = False
        self.idle_since = 0.0
        pool.count += 1

    def abort(self) -> None:
        self.closed = True
        self._pool.forget(self)


def test_the_one_used_last_is_taken_first_and_a_closed_one_never() -> None:
    pool: ConnectionPool[Connection] = ConnectionPool()
    first, second, third = (Connection(pool) for _ in range(3))
    for connection in (first, second, third):
        pool.give_back(connection)
    third.closed = True
    assert [pool.take_idle(), pool.take_idle(), pool.take_idle()] == [second, first, None]


def test_who_was_idle_for_long_is_closed_and_its_place_goes_to_who_waits() -> None:
    async def body() -> None:
        pool: ConnectionPool[Connection] = ConnectionPool()
        old, new = Connection(pool), Connection(pool)
        pool.give_back(old)
        pool.give_back(new)
        old.idle_since, new.idle_since = 1.0, 3.0
        gone, waiter = (asyncio.get_running_loop().create_future() for _ in range(2))
        gone.cancel()
        pool.waiters += (gone, waiter)
        pool.close_idle(2.0)
        pool.forget(old)
        assert waiter.done() and old.closed
        assert (pool.idle, pool.count) == ([new], 1)

    asyncio.run(body())
