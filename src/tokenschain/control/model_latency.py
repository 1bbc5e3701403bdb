"""How fast models answered, and whether they did: histograms of each minute, as calls found it.

Kept in memory, from the records that this control process entered since it started.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokenschain.core.call_record import CallRecord, is_outage, result_of

MINUTE_S = 60
KEPT_S = 86_400
KEPT_MAX = 50_000
"""Minutes of models; of more, the oldest are given up."""
P95_MIN, P99_MIN = 20, 200
"""From so many calls on, a percentile is of more than one of them."""
_STEP = 1.2
"""Between two bounds: what is told is at most a tenth off."""
BOUNDS_MS = tuple(10 * math.pow(_STEP, n) for n in range(53))
"""From 10 ms to two minutes."""
_MIDDLES_MS = tuple(bound / math.sqrt(_STEP) for bound in BOUNDS_MS)
ANSWERED = frozenset({"ok", "rescued"})


class MinuteFigures:
    """What calls of one tenant's to one model met in a minute, or in several."""

    __slots__ = ("answered", "failed", "first_token", "total")

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.first_token: Counter[int] = Counter()
        """Calls by the first bound that is not below."""
        self.total: Counter[int] = Counter()

    def add(self, other: MinuteFigures) -> None:
        """Count another minute in."""
        self.answered += other.answered
        self.failed += other.failed
        self.first_token += other.first_token
        self.total += other.total


class Percentiles(NamedTuple):
    """Of a histogram, in milliseconds; null where too few calls tell."""

    p50: float | None
    p95: float | None
    p99: float | None


class ModelLatency:
    """The figures of each minute, by tenant and model asked for."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[tuple[str, str], MinuteFigures]] = {}
        self._kept = 0
        self._oldest = 0
        """Minutes before were given up."""
        self._lock = threading.Lock()
        self.since_s = time.time()
        """Calls before are not in it; Unix time."""

    def note(self, records: Iterable[CallRecord], now_s: float) -> None:
        """Count calls that a model answered, or that failed; neither what callers did wrong nor
        what the cache answered, nor what is not of the last day by this clock."""
        latest = int(now_s) // MINUTE_S + 1
        oldest = latest - KEPT_S // MINUTE_S
        with self._lock:
            self._forget(oldest)
            for record in records:
                result = result_of(record.status, record.outcome, record.cache, 1)
                failed = is_outage(record.status, record.outcome, record.fault)
                minute = record.started_ms // (1_000 * MINUTE_S)
                if not (failed or result in ANSWERED) or not oldest <= minute <= latest:
                    continue
                found = self._of(minute, record)
                if failed:
                    found.failed += 1
                    continue
                found.answered += 1
                found.total[bisect_left(BOUNDS_MS, record.total_ms)] += 1
                if record.first_token_ms is not None:
                    found.first_token[bisect_left(BOUNDS_MS, record.first_token_ms)] += 1

    def _of(self, minute: int, record: CallRecord) -> MinuteFigures:
        models = self._minutes.setdefault(minute, {})
        key = record.tenant, record.model_asked
        found = models.get(key)
        if found is None:
            found = models[key] = MinuteFigures()
            self._kept += 1
            while self._kept > KEPT_MAX and len(self._minutes) > 1:
                self._forget(min(self._minutes) + 1)
        return found

    def _forget(self, until: int) -> None:
        """Give up the minutes before one."""
        if until <= self._oldest:
            return
        self._oldest = until
        for minute in [one for one in self._minutes if one < until]:
            self._kept -= len(self._minutes.pop(minute))

    def read(
        self, from_s: float, until_s: float, step_s: int, tenant: str | None, model: str | None
    ) -> dict[str, dict[int, MinuteFigures]]:
        """Figures by model and by when each step begins (Unix time).

        Args:
            tenant: None: of all.
            model: None: each.
        """
        found: dict[str, dict[int, MinuteFigures]] = {}
        with self._lock:
            for minute, key, figures in self._each(int(from_s) // MINUTE_S, until_s / MINUTE_S):
                if tenant in (None, key[0]) and model in (None, key[1]):
                    step = minute * MINUTE_S // step_s * step_s
                    steps = found.setdefault(key[1], {})
                    steps.setdefault(step, MinuteFigures()).add(figures)
        return found

    def _each(
        self, first: int, until: float
    ) -> Iterator[tuple[int, tuple[str, str], MinuteFigures]]:
        for minute, models in self._minutes.items():
            if first <= minute < until:
                for key, figures in models.items():
                    yield minute, key, figures


def percentiles(histogram: Counter[int]) -> Percentiles:
    """Of a histogram's calls, nearest rank: the middle of the two bounds between which it falls."""
    calls = histogram.total()

    def at(share: float, calls_min: int) -> float | None:
        if calls < calls_min:
            return None
        rank = share * calls
        for bucket in sorted(histogram):
            rank -= histogram[bucket]
            if rank <= 1e-9:
                return round(_MIDDLES_MS[min(bucket, len(BOUNDS_MS) - 1)], 1)
        return None

    return Percentiles(at(0.5, 1), at(0.95, P95_MIN), at(0.99, P99_MIN))
