"""Redis connection: time limits, key prefix, and the errors of a Redis that is away."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import RedisError

REDIS_FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)
CONNECT_MAX_S = 0.3
ANSWER_MAX_S = 0.4
CONNECTIONS_MAX = 4
# The braces are a hash tag: in a cluster, all keys are in one slot, as one script needs them.
KEY_PREFIX = "{tokenschain}:"


def connect(url: str) -> Redis:
    """A client that fails fast: a call never waits long for Redis."""
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_MAX_S,
        socket_timeout=ANSWER_MAX_S,
        max_connections=CONNECTIONS_MAX,
        retry_on_timeout=False,
        protocol=2,
    )


async def server_time(url: str) -> float:
    """The Unix time by Redis' own clock.

    Raises:
        RedisError, OSError: Redis is away, or refuses who asks.
    """
    client = connect(url)
    try:
        seconds, micros = await client.time()
        return float(seconds) + micros / 1e6
    finally:
        await client.aclose()
