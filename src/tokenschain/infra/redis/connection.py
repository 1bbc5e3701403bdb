"""Redis connection: time limits, key prefix, and the errors of a Redis that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

REDIS_FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)
CONNECT_MAX_S = 0.3
ANSWER_MAX_S = 0.4
CONNECTIONS_MAX = 4
CONNECTION_WAIT_MAX_S = 0.3
"""For one of them, where all are in use: being busy is not being away."""
# The braces are a hash tag: in a cluster, all keys are in one slot, as one script needs them.
KEY_PREFIX = "{tokenschain}:"


def connect(url: str) -> Redis:
    """A client that fails fast: a call never waits long for Redis."""
    pool = BlockingConnectionPool.from_url(
        url,
        socket_connect_timeout=CONNECT_MAX_S,
        socket_timeout=ANSWER_MAX_S,
        max_connections=CONNECTIONS_MAX,
        timeout=CONNECTION_WAIT_MAX_S,
        retry_on_timeout=False,
        protocol=2,
    )
    return Redis.from_pool(pool)


class WrongAnswer(RedisError):
    """Redis, or what stands in its place, said what is no answer to what it was asked."""


@contextmanager
def understood() -> Iterator[None]:
    """Who says what cannot be read is as good as away.

    The client raises whatever its parser stumbles over: a ValueError for a length that is no
    number, a TypeError for a nil where there must be a list.

    Raises:
        RedisError, OSError: Redis is away, or answers wrongly.
    """
    try:
        yield
    except REDIS_FAILURES:
        raise
    except Exception as error:
        why = f"Redis answers what was not asked ({type(error).__name__})"
        raise WrongAnswer(why) from error


async def server_time(url: str) -> float:
    """The Unix time by Redis' own clock.

    Raises:
        RedisError, OSError: Redis is away, or refuses who asks.
    """
    client = connect(url)
    try:
        with understood():
            seconds, micros = await client.time()
            return float(seconds) + micros / 1e6
    finally:
        await client.aclose()
