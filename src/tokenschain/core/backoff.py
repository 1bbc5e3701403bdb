"""Back-off: a dependency that failed is not asked for a while, longer each time.

A state machine without a clock of its own, for whatever may be away: Redis, control, the semantic
process, other gateways. Its loss is reported once, and its return.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenschain.core.log_events import Reporter, silent

START_S = 30.0
"""A dependency that was not reached since the process began may still be starting for so long."""


class Backoff:
    """When a dependency may be asked again. Times are seconds on the clock that is handed in."""

    __slots__ = (
        "_away", "_back", "_began", "_clock", "_first_s", "_known", "_max_s", "_name", "_next_s",
        "_report", "_told", "_until", "failures", "is_lost", "lost_at", "why",
    )  # fmt: skip

    def __init__(
        self,
        clock: Callable[[], float],
        first_s: float,
        max_s: float | None = None,
        name: str = "",
        report: Reporter = silent,
        *,
        away: str = "lost",
        back: str = "back",
    ) -> None:
        """
        Args:
            first_s: the pause after a first failure; it doubles up to `max_s` (default: stays).
            report: told `NAME_lost` with the cause, and `NAME_back` with how long it was away;
                each once. In the first 30 s, before there was any answer, `NAME_awaited` instead
                of `NAME_lost`.
            away, back: other words for `lost` and `back`.
        """
        self._clock = clock
        self._first_s = self._next_s = first_s
        self._max_s = first_s if max_s is None else max_s
        self._name = name
        self._report = report
        self._away, self._back = away, back
        self._began = clock()
        self._known = False
        self._told = ""
        self._until = 0.0
        self.is_lost = False
        """Whether the last exchange failed."""
        self.lost_at = 0.0
        """Since when; only while it is lost."""
        self.failures = 0
        """Exchanges that failed one after the other."""
        self.why = ""
        """What it failed with."""

    @property
    def wait_s(self) -> float:
        """Until it may be asked again; 0 when it may be asked now."""
        return max(0.0, self._until - self._clock()) if self.is_lost else 0.0

    def failed(self, why: str = "") -> float:
        """An exchange failed; gives the pause until the next."""
        pause_s = self._next_s
        now = self._clock()
        self._until = now + pause_s
        self._next_s = min(2 * pause_s, self._max_s)
        self.why = why
        if not self.is_lost:
            self.is_lost, self.lost_at = True, now
        self.failures += 1
        starting = not self._known and now - self._began < START_S
        state = "awaited" if starting else self._away
        if state != self._told:
            self._told = state
            self._report(
                f"{self._name}_{state}", why, failed=self.failures, retry_in_s=round(pause_s, 3)
            )
        return pause_s

    def answered(self) -> None:
        """An exchange went well."""
        if not self.is_lost:
            self._known = True
            return
        self.is_lost, self._known, self._told = False, True, ""
        self._next_s = self._first_s
        failures, self.failures = self.failures, 0
        self._report(
            f"{self._name}_{self._back}",
            failed=failures,
            away_s=round(self._clock() - self.lost_at, 1),
        )
