"""Response cache entries in Redis, sealed."""

from __future__ import annotations

from tokenschain.infra.redis.connection import KEY_PREFIX, WrongAnswer, connect, understood
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Unsealable


class RedisCacheStore:
    """Answers that gateways share (`gateway.cache.lookup.SharedCacheStore`). Sealed: whoever reads
    Redis learns neither questions nor answers."""

    def __init__(self, url: str, sealer: Sealer) -> None:
        self._redis = connect(url)
        self._sealer = sealer

    async def get(self, key: bytes) -> bytes | None:
        """What was put there.

        Raises:
            RedisError, OSError: Redis is away, or answers wrongly.
        """
        name = f"{KEY_PREFIX}answer:{key.hex()}"
        with understood():
            sealed = await self._redis.get(name)
        if sealed is None:
            return None
        if not isinstance(sealed, bytes):
            raise WrongAnswer("Redis answers what was not asked (no bytes)")
        try:
            return self._sealer.unseal(_place(name), sealed)
        except Unsealable:
            return None

    async def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep it for so long."""
        name = f"{KEY_PREFIX}answer:{key.hex()}"
        sealed = self._sealer.seal(_place(name), value)
        with understood():
            await self._redis.set(name, sealed, px=int(ttl_s * 1e3))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _place(name: str) -> Place:
    # Its name is made of the tenant, too (`core.cache.key`).
    return Place(Sealable.CACHED_ANSWER, "", name)
