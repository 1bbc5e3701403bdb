"""Upstream health as calls found it: clouds are not probed, so that what calls met tells.

Kept in memory, from the records that this control process entered last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ERRORS, Blame

KEPT_MAX = 20
"""Outcomes kept of each upstream."""
UPSTREAMS_MAX = 4_096
RECENT_S = 900.0
FAILURES_MIN = 3
"""As many as open a gateway's circuit breaker."""
WAITS_KEPT_MAX = 100
"""Waits for the first byte kept of each upstream."""
WAITS_MIN = 20
"""From so many on, the slowest twentieth is more than one call."""


class _Outcome(NamedTuple):
    at_s: float
    error: str
    """Empty where the upstream answered."""


class RecentOutcomes(NamedTuple):
    """What the last attempts at one upstream met, within `RECENT_S`."""

    succeeded: int = 0
    failed: int = 0
    last_success_s: float | None = None
    """Unix time."""
    last_failure_s: float | None = None
    last_error: str = ""
    """Code of the last failure."""


class FirstByteWaits(NamedTuple):
    """How long answers of one upstream began to arrive after they were asked for, within
    `RECENT_S`; null where too few tell."""

    p50_ms: float | None = None
    p95_ms: float | None = None


class UpstreamHealth:
    """The last outcomes of each upstream's attempts."""

    def __init__(self) -> None:
        self._outcomes: dict[str, deque[_Outcome]] = {}
        self._waits: dict[str, deque[tuple[float, float]]] = {}

    def note(self, records: Iterable[CallRecord]) -> None:
        """Remember how attempts ended; those that tell nothing of the upstream are left out."""
        for record in records:
            for attempt in record.attempts:
                kind = ERRORS.get(attempt.outcome)
                if attempt.outcome == "ok":
                    error = ""
                elif kind is not None and kind.blame is not Blame.NONE:
                    error = kind.code
                else:
                    continue
                known = self._outcomes.get(attempt.upstream)
                if known is None:
                    if len(self._outcomes) >= UPSTREAMS_MAX:
                        continue
                    known = self._outcomes[attempt.upstream] = deque(maxlen=KEPT_MAX)
                known.append(_Outcome(record.started_ms / 1e3, error))
                if not error and attempt.first_byte_ms is not None:
                    waits = self._waits.setdefault(attempt.upstream, deque(maxlen=WAITS_KEPT_MAX))
                    waits.append(
                        (record.started_ms / 1e3, attempt.first_byte_ms - attempt.started_ms)
                    )

    def of(self, upstream: str, now_s: float) -> str:
        """`up`, `down: why`, or nothing where no recent calls tell."""
        recent = self._recent(upstream, now_s)
        if not recent:
            return ""
        failed = 0
        for outcome in reversed(recent):
            if not outcome.error:
                break
            failed += 1
        if failed < FAILURES_MIN:
            return "" if failed == len(recent) else "up"
        return f"down: the last {failed} calls failed ({recent[-1].error})"

    def recent(self, upstream: str, now_s: float) -> RecentOutcomes:
        """The last attempts at an upstream, counted."""
        outcomes = self._recent(upstream, now_s)
        failures = [outcome for outcome in outcomes if outcome.error]
        successes = [outcome for outcome in outcomes if not outcome.error]
        return RecentOutcomes(
            len(successes),
            len(failures),
            successes[-1].at_s if successes else None,
            failures[-1].at_s if failures else None,
            failures[-1].error if failures else "",
        )

    def first_byte_waits(self, upstream: str, now_s: float) -> FirstByteWaits:
        """Percentiles of the last waits at an upstream (nearest rank)."""
        known = tuple(self._waits.get(upstream, ()))
        waits = sorted(wait_ms for at_s, wait_ms in known if now_s - at_s < RECENT_S)
        if not waits:
            return FirstByteWaits()
        p95 = waits[-(-len(waits) * 95 // 100) - 1] if len(waits) >= WAITS_MIN else None
        return FirstByteWaits(waits[(len(waits) - 1) // 2], p95)

    def _recent(self, upstream: str, now_s: float) -> list[_Outcome]:
        known = self._outcomes.get(upstream, ())
        return [outcome for outcome in tuple(known) if now_s - outcome.at_s < RECENT_S]
