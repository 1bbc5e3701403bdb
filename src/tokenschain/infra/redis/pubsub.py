"""Redis pub/sub between gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tokenschain.infra.redis.connection import KEY_PREFIX, connect

LISTEN_S = 1.0


class RedisPubSub:
    """What gateways tell each other; see `gateway.dispatch.health_sharing.HealthChannel`."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)

    async def publish(self, message: bytes) -> None:
        """Tell all who listen now."""
        await self._redis.publish(f"{KEY_PREFIX}news", message)

    async def listen(self) -> AsyncIterator[bytes]:
        """What is told, or nothing; a Redis that does not answer is noticed within `LISTEN_S`."""
        async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(f"{KEY_PREFIX}news")
            while True:
                message = await heard.get_message(timeout=LISTEN_S)
                if message is not None:
                    yield message["data"]
                else:
                    await self._redis.ping()
                    yield b""

    async def claim(self, name: str, for_s: float) -> bool:
        """Be the only one for a while."""
        key = f"{KEY_PREFIX}trial:{name}"
        return bool(await self._redis.set(key, "1", nx=True, px=int(for_s * 1e3)))

    async def release(self, name: str) -> None:
        """Let another be the one."""
        await self._redis.delete(f"{KEY_PREFIX}trial:{name}")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
