"""Rates by keys that strangers choose: a leaky bucket (GCRA) for each, in a bounded table."""

from __future__ import annotations

KEYS_MAX = 20_000
"""Keys remembered at one time; all beyond share one bucket."""
OTHER = "other"
NOT_FOUND_PER_MINUTE = 600
"""Requests that are answered 404: a caller with a wrong setting stays below it."""
_LOOKED_AT = 2
"""Old entries looked at whenever a new one comes: more go than come, and none is swept."""


class KeyedRates:
    """So many events a minute by each key, all of a minute's at once if it must be."""

    __slots__ = ("_empty_at", "_interval_s", "_keys_max")

    def __init__(self, per_minute: int, keys_max: int = KEYS_MAX) -> None:
        self._interval_s = 60.0 / per_minute
        self._keys_max = keys_max
        self._empty_at: dict[str, float] = {}
        """When the bucket of a key will have run dry; one that has is as good as none."""

    def __len__(self) -> int:
        return len(self._empty_at)

    def wait_s(self, key: str, now: float) -> float:
        """Count an event; 0 where there was room, else the seconds until there is.

        Args:
            now: in seconds; a clock that is put back costs a minute at most.
        """
        buckets = self._empty_at
        empty_at = buckets.pop(key, None)
        if empty_at is None:
            self._forget_some(now)
            if len(buckets) >= self._keys_max:
                key = OTHER
                empty_at = buckets.pop(key, None)
        empty_at = now if empty_at is None else min(max(empty_at, now), now + 60.0)
        wait_s = empty_at + self._interval_s - now - 60.0
        # Put back last: who comes often is not looked at by the hand that forgets.
        buckets[key] = empty_at if wait_s > 0 else empty_at + self._interval_s
        return max(0.0, wait_s)

    def is_full(self, key: str, now: float) -> bool:
        """Whether `wait_s` would find no room; nothing is counted."""
        found = self._empty_at.get(key)
        if found is None and len(self._empty_at) >= self._keys_max:
            found = self._empty_at.get(OTHER)
        return found is not None and min(found, now + 60.0) + self._interval_s > now + 60.0

    def _forget_some(self, now: float) -> None:
        buckets = self._empty_at
        for _ in range(min(_LOOKED_AT, len(buckets))):
            key = next(iter(buckets))
            empty_at = buckets.pop(key)
            if empty_at > now:
                buckets[key] = empty_at
