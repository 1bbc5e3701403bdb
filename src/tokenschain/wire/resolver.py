"""DNS resolver with a cache, off the event loop."""

from __future__ import annotations

import asyncio
import socket
import time

DNS_TTL_S = 30.0
NAMES_MAX = 10_000
"""Names that are remembered; callers choose some."""


class Resolver:
    """Names to addresses, off the loop, cached; an old answer beats none."""

    def __init__(self, ttl_s: float = DNS_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._cache: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """Addresses of a host, in the system's order of preference.

        Raises:
            OSError: the name is unknown and was never known.
        """
        now = time.monotonic()
        cached = self._cache.get((host, port))
        if cached is not None and now < cached[0]:
            return cached[1]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            if cached is not None:
                return cached[1]
            if isinstance(error, OSError):
                raise
            raise OSError(f"no name of a host: {error}") from error  # `UnicodeError` is a value's
        if len(self._cache) >= NAMES_MAX:
            self._cache.clear()
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._cache[host, port] = (now + self._ttl_s, addresses)
        return addresses
