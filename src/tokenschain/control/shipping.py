"""How far behind the shipping of call records is: the lag and backlog that gateways had last.

Kept in memory, of what this control process received.
"""

from __future__ import annotations

from typing import NamedTuple

GATEWAYS_MAX = 1_000
FORGOTTEN_S = 120.0
"""A gateway that ships nothing for so long has nothing to ship, or is gone."""


class _Last(NamedTuple):
    at_s: float
    lag_s: float
    backlog_bytes: int


class Shipping:
    """The last batch of each gateway process."""

    def __init__(self) -> None:
        self._last: dict[str, _Last] = {}

    def note(self, gateway: str, lag_s: float, backlog_bytes: int, now_s: float) -> None:
        """A batch came.

        Args:
            lag_s: the age of its oldest record.
            backlog_bytes: what the gateway has still to ship.
        """
        if gateway not in self._last and len(self._last) >= GATEWAYS_MAX:
            self._forget(now_s)
            if len(self._last) >= GATEWAYS_MAX:
                return
        self._last[gateway] = _Last(now_s, max(0.0, lag_s), backlog_bytes)

    def lag_s(self, now_s: float) -> float:
        """Of the gateway that is furthest behind."""
        self._forget(now_s)
        return max((last.lag_s for last in self._last.values()), default=0.0)

    def complete_to_s(self, now_s: float) -> float:
        """Until when all calls that ended have come, as far as gateways have said; Unix time."""
        self._forget(now_s)
        late = (one.at_s - one.lag_s for one in self._last.values() if one.backlog_bytes)
        return min(late, default=now_s)

    def backlog_bytes(self, now_s: float) -> int:
        """Of all gateways."""
        self._forget(now_s)
        return sum(last.backlog_bytes for last in self._last.values())

    def _forget(self, now_s: float) -> None:
        for gateway, last in list(self._last.items()):
            if now_s - last.at_s > FORGOTTEN_S:
                del self._last[gateway]
