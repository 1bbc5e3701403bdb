"""Back-off: a dependency that failed is not asked for a while, longer each time.

A state machine without a clock of its own, for whatever may be away: Redis, control, the semantic
process, other gateways. Its loss is reported once, and its return.
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """When a dependency may be asked again. Times are seconds on the clock that is handed in."""

    __slots__ = ("_clock", "_first_s", "_max_s", "_name", "_next_s", "_report", "_until", "is_lost")

    def __init__(
        self,
        clock: Callable[[], float],
        first_s: float,
        max_s: float | None = None,
        name: str = "",
        report: Callable[[str, str], None] = lambda event, why: None,
    ) -> None:
        """
        Args:
            first_s: the pause after a first failure; it doubles up to `max_s` (default: stays).
            report: told `NAME_lost`, with why, and `NAME_back`; each once.
        """
        self._clock = clock
        self._first_s = self._next_s = first_s
        self._max_s = first_s if max_s is None else max_s
        self._name = name
        self._report = report
        self._until = 0.0
        self.is_lost = False
        """Whether the last exchange failed."""

    @property
    def wait_s(self) -> float:
        """Until it may be asked again; 0 when it may be asked now."""
        return max(0.0, self._until - self._clock()) if self.is_lost else 0.0

    def failed(self, why: str = "") -> float:
        """An exchange failed; gives the pause until the next."""
        pause_s = self._next_s
        self._until = self._clock() + pause_s
        self._next_s = min(2 * pause_s, self._max_s)
        if not self.is_lost:
            self.is_lost = True
            self._report(f"{self._name}_lost", why)
        return pause_s

    def answered(self) -> None:
        """An exchange went well."""
        if self.is_lost:
            self.is_lost = False
            self._next_s = self._first_s
            self._report(f"{self._name}_back", "")
