"""Slots for slow work: few at once, one for each tenant, and one kept for the platform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM


class Slots:
    """Whoever is slow, or makes others slow on purpose, takes no more than their own slot."""

    def __init__(self, count: int, busy: str) -> None:
        """
        Args:
            busy: what is said where no slot is free.
        """
        self._count = count
        self._busy = busy
        self._taken: list[str] = []

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Hold a slot.

        Args:
            tenant: whose; empty or `*`: the platform's.

        Raises:
            ApiError: `server_busy`: none is free for them.
        """
        whose = tenant or PLATFORM
        tenants = [one for one in self._taken if one != PLATFORM]
        full = len(self._taken) >= self._count
        if whose != PLATFORM:
            full = full or whose in tenants or len(tenants) >= self._count - 1
        if full:
            raise ApiError("server_busy", self._busy)
        self._taken.append(whose)
        try:
            yield
        finally:
            self._taken.remove(whose)
