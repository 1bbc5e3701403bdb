"""Admission control: concurrency limits, priority queue, load shedding.

Overload is settled here and not by routing: each upstream has a learned limit, what exceeds it
waits in a bounded queue, and what would wait too long is refused at once. State machines without
a clock; times are seconds on any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from typing import Generic, TypeVar

import msgspec

LIMIT_MIN = 1
ANSWERS_MIN = 16
"""A limit is judged by this many answers, or as many as it lets in if those are more."""
STEP = 0.125
"""Of the limit, up or down: hill climbing needs steps that throughput answers to."""
CHANGE_MIN = 0.03
"""Less of a change in throughput is none; then the limit grows."""
USED_UP = 0.8
"""Answers say something of a limit only when this share of it is in flight."""
PROMPT_WEIGHT = 0.1
"""A prompt token is about this much of the work of an output token (H100 TP8: 0.055 ms of
prefill, 0.8 ms of a full batch's step)."""
ADJUST_S = 0.25
"""Refusals within this time are of one overload and make the limit smaller once."""
BACKOFF_RATE, REFUSED_MIN = 0.7, 8
"""A refusal makes the limit this share of what was in flight, but no smaller than this: with few
calls in flight it is their rate that is refused, not their number, and for that it rests."""
CODEL_TARGET_S, CODEL_INTERVAL_S = 0.1, 1.0
"""A queue whose head has waited longer than the target for a whole interval stands (RFC 8289,
where packets have 5 ms and 100 ms; calls take some hundred times as long)."""
QUEUE_CALLS_MAX = 10_000
FAIRNESS_TOKENS = 5_000.0
"""Tenants within this many weighted tokens of service count as even; then deadlines decide."""
GROUP_MAX, GROUP_LOOK, GROUP_SLACK = 8, 64, 0.2
"""Calls in a row that may go before their turn because they begin as the last one did, how many are
looked at, and how much later of a class's longest wait their deadlines may be: what an engine has
just worked off it need not work off again."""
OUTPUT_WEIGHT = 2.0
"""An output token counts as this many input tokens (VTC, arXiv 2401.00588)."""


class Priority(IntEnum):
    """Classes of calls; lower goes first."""

    SYSTEM = 0
    INTERACTIVE = 1
    DEFAULT = 2
    BULK = 3


class ClassRule(msgspec.Struct, frozen=True):
    """What one class may do."""

    load_max: float
    """Share of a limit it may fill; the rest is kept for the classes above."""
    wait_max_s: float
    starved_s: float
    """A head that waits longer goes before classes above."""


RULES = {
    Priority.SYSTEM: ClassRule(1.0, 5.0, 5.0),
    Priority.INTERACTIVE: ClassRule(1.0, 4.0, 5.0),
    Priority.DEFAULT: ClassRule(0.95, 5.0, 30.0),
    Priority.BULK: ClassRule(0.4, 300.0, 120.0),
}
"""Starvation as in SMG's scheduler (2026-08); floors and waits are our own choice."""


class ConcurrencyLimit:
    """A concurrency limit that climbs to the point where throughput is highest.

    It begins with what the operator allows: a cloud that has not refused yet may well take a
    thousand. While it is used up it takes a step, looks whether more gets done, and goes on or
    turns round; at first downwards, since beyond the peak all calls lose. A refusal of the
    upstream makes it smaller at once. Work done is calls inside times the work of an answer over
    its time (Little's law), which does not jump when many answers end together.
    """

    __slots__ = (
        "_adjusted_at", "_answers", "_before", "_direction", "_inside", "_most", "_rate",
        "_skipped", "calls",
    )  # fmt: skip

    def __init__(self, most: int) -> None:
        """
        Args:
            most: never more than this, whatever is learned.
        """
        self.calls = most
        self._most = most
        self._adjusted_at = 0.0
        self._direction = -1
        self._answers = 0
        self._inside = 0
        self._rate = 0.0
        self._before = 0.0
        self._skipped = 0

    def allow(self, most: int) -> None:
        """The operator allows another number."""
        if most != self._most:
            self.calls = most if self.calls == self._most else min(self.calls, most)
            self._most = most

    def answered(
        self, prompt_tokens: int, output_tokens: int, took_s: float, inflight: int
    ) -> None:
        """A call ended that took so long; so many were in flight, itself included."""
        if inflight < USED_UP * self.calls or took_s <= 0:
            return
        if self._skipped:
            self._skipped -= 1  # it began under another limit
            return
        self._answers += 1
        self._inside += inflight
        self._rate += inflight * (output_tokens + PROMPT_WEIGHT * prompt_tokens) / took_s
        if self._answers < max(ANSWERS_MIN, self.calls):
            return
        rate, inside = self._rate / self._answers, self._inside / self._answers
        self._answers, self._inside, self._rate = 0, 0, 0.0
        before, self._before = self._before, rate
        # Less done than under the limit before: the last step went the wrong way. As much done:
        # upwards, since room that costs nothing keeps calls from waiting.
        if before and rate < before * (1 - CHANGE_MIN):
            self._direction = -self._direction
        elif before and rate < before * (1 + CHANGE_MIN):
            self._direction = 1
        step = max(1, int(STEP * self.calls))
        wanted = min(self.calls, int(inside)) - step if self._direction < 0 else self.calls + step
        self.calls = min(self._most, max(LIMIT_MIN, wanted))
        self._skipped = int(inside)

    def refused(self, inflight: int, now: float) -> None:
        """The upstream limits the rate or is overloaded."""
        if now - self._adjusted_at >= ADJUST_S:
            self._adjusted_at = now
            # What was measured under the larger limit is no measure for the smaller one.
            self._before, self._direction = 0.0, 1
            self.calls = max(
                min(self.calls, REFUSED_MIN), int(min(self.calls, inflight + 1) * BACKOFF_RATE)
            )


T = TypeVar("T")


class Waiting(Generic[T]):
    """One call in the queue."""

    __slots__ = ("deadline", "item", "prefix", "priority", "since", "tenant")

    def __init__(
        self,
        item: T,
        priority: Priority,
        tenant: str,
        since: float,
        deadline: float,
        prefix: int = 0,
    ) -> None:
        """
        Args:
            prefix: the same for calls that begin alike; 0 for those too short to tell.
        """
        self.item = item
        self.priority = priority
        self.tenant = tenant
        self.since = since
        self.deadline = deadline
        self.prefix = prefix


class Service:
    """Who has had how much: virtual token counters by tenant, over weights (VTC)."""

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}

    def of(self, tenant: str) -> float:
        return self._counters.get(tenant, 0.0)

    def lift(self, tenant: str, others: Iterator[str]) -> None:
        """A tenant that was idle has no claim on the past: it starts level with the busy."""
        least = min((self.of(other) for other in others), default=self.of(tenant))
        self._counters[tenant] = max(self.of(tenant), least)

    def charge(self, tenant: str, input_tokens: int, output_tokens: int, weight: float) -> None:
        """A tenant was served."""
        counters = self._counters
        served = (input_tokens + OUTPUT_WEIGHT * output_tokens) / weight
        counters[tenant] = counters.get(tenant, 0.0) + served
        if len(counters) > QUEUE_CALLS_MAX:
            least = min(self._counters.values())
            self._counters = {t: c - least for t, c in self._counters.items() if c > least}


class AdmissionQueue(Generic[T]):
    """Calls that wait for room: by class, fair between tenants, the earliest deadline first; for
    calls that are not interactive, those that begin alike go together."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: dict[Priority, dict[str, list[Waiting[T]]]] = {p: {} for p in Priority}
        self._count = 0
        self._drained_at = 0.0
        self._drain_s = 0.0
        self._above_since: float | None = None
        self._dropping = 0
        self._next_drop = 0.0
        self._prefix = self._grouped = 0

    def __len__(self) -> int:
        return self._count

    def waiting(self, priority: Priority) -> int:
        """Calls of one class that wait."""
        return sum(map(len, self._waiting[priority].values()))

    def wait_s(self, priority: Priority) -> float:
        """Estimate of how long a new call of a class would wait."""
        ahead = sum(len(w) for p in Priority if p <= priority for w in self._waiting[p].values())
        return ahead * self._drain_s

    def add(self, waiting: Waiting[T]) -> bool:
        """Queue a call; False when it would wait too long or the queue is full."""
        rule = RULES[waiting.priority]
        allowed = waiting.deadline - waiting.since
        if waiting.priority is not Priority.INTERACTIVE:
            allowed = min(rule.wait_max_s, allowed)
        if self._count >= QUEUE_CALLS_MAX or self.wait_s(waiting.priority) > allowed:
            return False
        tenants = self._waiting[waiting.priority]
        if waiting.tenant not in tenants:
            self._service.lift(waiting.tenant, iter(tenants))
        line = tenants.setdefault(waiting.tenant, [])
        at = len(line)
        while at and line[at - 1].deadline > waiting.deadline:
            at -= 1
        line.insert(at, waiting)
        self._count += 1
        return True

    def remove(self, waiting: Waiting[T]) -> None:
        """A call gave up; nothing happens when it is not in the queue."""
        line = self._waiting[waiting.priority].get(waiting.tenant, [])
        if waiting in line:
            line.remove(waiting)
            self._forget(waiting.priority, waiting.tenant)
            if not self._count:
                self._drained_at = 0.0

    def head(self, now: float, passed: Collection[Waiting[T]] = ()) -> Waiting[T] | None:
        """Who goes next, without taking it.

        Args:
            passed: those for whom there is no room where they could be in time; others may go
                before them.
        """
        starved: Waiting[T] | None = None
        first: Waiting[T] | None = None
        for priority in Priority:
            best = self._head_of(priority, now, passed)
            if best is None:
                continue
            first = first or best
            if now - best.since > RULES[priority].starved_s and (
                starved is None or best.since < starved.since
            ):
                starved = best
        return starved or first

    def take(self, waiting: Waiting[T], now: float) -> None:
        """The head gets its place."""
        drained_at = self._drained_at
        self.remove(waiting)
        self._grouped = self._grouped + 1 if waiting.prefix == self._prefix else 0
        self._prefix = waiting.prefix
        if drained_at:
            gap = min(now - drained_at, 1.0)
            self._drain_s += 0.1 * (gap - self._drain_s)
        self._drained_at = now if self._count else 0.0

    def shed(self, now: float) -> Waiting[T] | None:
        """Load shedding, so that the others meet their deadlines: CoDel (RFC 8289), applied to
        the newest of the lowest class. None while the queue keeps moving."""
        head = self.head(now)
        if head is None or now - head.since < CODEL_TARGET_S:
            self._above_since, self._dropping = None, 0
            return None
        if self._above_since is None:
            self._above_since = now
            return None
        if now - self._above_since < CODEL_INTERVAL_S or now < self._next_drop:
            return None
        self._dropping += 1
        self._next_drop = now + CODEL_INTERVAL_S / math.sqrt(self._dropping)
        for priority in reversed(Priority):
            lines = self._waiting[priority]
            if lines and priority is Priority.DEFAULT:
                victim = max((line[-1] for line in lines.values()), key=lambda w: w.since)
                self.remove(victim)
                return victim
        return None

    def _head_of(
        self, priority: Priority, now: float, passed: Collection[Waiting[T]]
    ) -> Waiting[T] | None:
        served = self._service.of
        lines = self._waiting[priority].values()
        heads: Iterable[Waiting[T]] = (line[0] for line in lines)
        if passed:
            left = (next((w for w in line if w not in passed), None) for line in lines)
            heads = [one for one in left if one is not None]
        first = min(
            heads, key=lambda w: (served(w.tenant) // FAIRNESS_TOKENS, w.deadline), default=None
        )
        if first is None or priority < Priority.DEFAULT:
            return first
        return first if passed else self._alike(first, now) or first

    def _alike(self, first: Waiting[T], now: float) -> Waiting[T] | None:
        """Who begins as the last one did, of the tenant whose turn it is and soon in turn."""
        slack_s = GROUP_SLACK * RULES[first.priority].wait_max_s
        if not self._prefix or self._grouped >= GROUP_MAX or now - first.since > slack_s:
            return None
        line = self._waiting[first.priority][first.tenant]
        for one in line[:GROUP_LOOK]:
            if one.deadline > first.deadline + slack_s:
                return None
            if one.prefix == self._prefix:
                return one
        return None

    def _forget(self, priority: Priority, tenant: str) -> None:
        self._count -= 1
        if not self._waiting[priority][tenant]:
            del self._waiting[priority][tenant]
