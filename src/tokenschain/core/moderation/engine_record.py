"""Record of one moderation engine: answers, failures and waits of the last quarter of an hour.

A ring of minutes of which each is replaced as a whole, so that threads may write to it without a
lock: at worst a count is lost. Times are seconds on any one clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import msgspec

MINUTE_S = 60
WINDOW_MINUTES = 15
_STEP = 1.2
"""Between two bounds: what is told of a wait is at most a tenth off."""
BOUNDS_MS = tuple(0.05 * math.pow(_STEP, n) for n in range(68))
"""From 50 microseconds, as the local rules take, to ten seconds."""
_MIDDLES_MS = tuple(bound / math.sqrt(_STEP) for bound in BOUNDS_MS)
P95_MIN = 20
"""From so many answers on, a 95th percentile is of more than one of them."""


class NotAsked(StrEnum):
    """Why an engine was not even asked; counted beside the failures of those that were."""

    BREAKER = "breaker"
    QUOTA = "quota"
    NO_CREDENTIAL = "no_credential"


class _Minute:
    """What happened in one of them."""

    __slots__ = ("answered", "errors", "from_memory", "number", "waits", "withdrawn")

    def __init__(self, number: int) -> None:
        self.number = number
        self.answered = self.withdrawn = self.from_memory = 0
        self.errors: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()


class EngineRecord:
    """What one engine did lately, and how it failed last."""

    __slots__ = ("_minutes", "last_error", "last_error_s")

    def __init__(self) -> None:
        self._minutes = [_Minute(-1) for _ in range(WINDOW_MINUTES)]
        self.last_error = ""
        """Kind and the vendor's code."""
        self.last_error_s = 0.0
        """Unix time; 0 for never."""

    def answered(self, now: float, took_s: float) -> None:
        """It gave a verdict."""
        minute = self._minute(now)
        minute.answered += 1
        minute.waits[bisect_left(BOUNDS_MS, took_s * 1_000)] += 1

    def failed(self, kind: str, detail: str, now: float, unix_s: float) -> None:
        """It gave none, or was not asked: `EngineFailure` or `NotAsked`."""
        self._minute(now).errors[kind] += 1
        self.last_error, self.last_error_s = f"{kind} {detail}".rstrip(), unix_s

    def withdrawn(self, now: float) -> None:
        """Another engine was faster, or the caller left."""
        self._minute(now).withdrawn += 1

    def remembered(self, now: float, verdicts: int) -> None:
        """Verdicts that were at hand."""
        self._minute(now).from_memory += verdicts

    def sums(self, now: float) -> EngineCounts:
        """Of the last minutes."""
        oldest = int(now // MINUTE_S) - WINDOW_MINUTES
        found = EngineCounts()
        for minute in self._minutes:
            if minute.number > oldest:
                found.answered += minute.answered
                found.withdrawn += minute.withdrawn
                found.from_memory += minute.from_memory
                found.errors.update(dict(minute.errors))
                found.waits.update(dict(minute.waits))
        return found

    def _minute(self, now: float) -> _Minute:
        number = int(now // MINUTE_S)
        found = self._minutes[number % WINDOW_MINUTES]
        if found.number != number:
            found = self._minutes[number % WINDOW_MINUTES] = _Minute(number)
        return found


class EngineCounts:
    """Counts of one engine, at one gateway or at several."""

    __slots__ = ("answered", "errors", "from_memory", "waits", "withdrawn")

    def __init__(self) -> None:
        self.answered = self.withdrawn = self.from_memory = 0
        self.errors: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()
        """Answers by the first of `BOUNDS_MS` that is not below."""


class EngineStatus(msgspec.Struct, frozen=True):
    """What one worker knows of a moderation engine; counts are of the last quarter of an hour."""

    name: str
    vendor: str
    """`local` for the rules of the platform itself."""
    breaker: str
    """See `core.routing.health.Health.state`."""
    zone: str = ""
    ready_in_s: float = 0.0
    """Until it is asked again."""
    credential: bool = True
    """Whether there is one."""
    answered: int = 0
    errors: dict[str, int] = {}
    """By `core.moderation.verdict.EngineFailure` or `NotAsked`."""
    withdrawn: int = 0
    """Another engine was faster, or the caller left."""
    from_memory: int = 0
    """Verdicts that were at hand, so that nobody was asked."""
    waits: dict[int, int] = {}
    """Answers by the bound of `BOUNDS_MS`."""
    last_error: str = ""
    last_error_s: float = 0.0
    """Unix time; 0 for never."""
    requests_today: int = 0
    """Of the day in UTC."""
    requests_a_day: int | None = None
    """The bound of this worker; None: there is none."""


def percentile_ms(waits: Mapping[int, int], share: float, answers_min: int = 1) -> float | None:
    """A percentile of waits, nearest rank: the middle of the bounds between which it falls; None
    where too few tell."""
    answers = sum(waits.values())
    if answers < answers_min:
        return None
    rank = share * answers
    for bucket in sorted(waits):
        rank -= waits[bucket]
        if rank <= 1e-9:
            return round(_MIDDLES_MS[min(bucket, len(BOUNDS_MS) - 1)], 3)
    return None
