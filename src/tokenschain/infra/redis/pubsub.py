"""Redis pub/sub between gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tokenschain.infra.redis.connection import KEY_PREFIX, WrongAnswer, connect, understood

LISTEN_S = 1.0


class RedisPubSub:
    """What gateways tell each other; see `gateway.dispatch.health_sharing.HealthChannel`."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)

    async def publish(self, message: bytes) -> None:
        """Tell all who listen now."""
        with understood():
            await self._redis.publish(f"{KEY_PREFIX}news", message)

    async def listen(self) -> AsyncIterator[bytes]:
        """What is told, or nothing; a Redis that does not answer is noticed within `LISTEN_S`."""
        async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
            with understood():
                await heard.subscribe(f"{KEY_PREFIX}news")
            while True:
                with understood():
                    message = await heard.get_message(timeout=LISTEN_S)
                    if message is None:
                        await self._redis.ping()
                said = b"" if message is None else message["data"]
                if not isinstance(said, bytes):
                    raise WrongAnswer("Redis tells what nobody said (no bytes)")
                yield said

    async def claim(self, name: str, for_s: float) -> bool:
        """Be the only one for a while."""
        key = f"{KEY_PREFIX}trial:{name}"
        with understood():
            return bool(await self._redis.set(key, "1", nx=True, px=int(for_s * 1e3)))

    async def release(self, name: str) -> None:
        """Let another be the one."""
        with understood():
            await self._redis.delete(f"{KEY_PREFIX}trial:{name}")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
