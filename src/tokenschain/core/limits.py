"""Rate limits and budgets as pure state machines: sliding windows, periods, selectors.

A rate is counted in memory over a sliding window of slots, which errs on the safe side: a
window holds never more than its amount, and forgets one slot late. Where several gateways
share a rate, each draws small leases from a shared window (`Pool`), so that a call does
not wait while a lease lasts. A budget is always leased, from the ledger's owner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

Measure = Literal["requests", "tokens", "spend", "concurrent"]
OnUnavailable = Literal["allow", "deny"]
SECOND, MINUTE, HOUR = 1, 60, 3_600
SLOTS = {SECOND: 10, MINUTE: 60, HOUR: 60}
"""Slots a window is counted in; what is forgotten is forgotten a slot at a time."""
LEASE_SHARE = 100
"""A lease is a hundredth of a window's amount: the bound on what a lost lease can cost."""
IDLE_BELOW = 0.8
"""Load of the platform below which a rate with `burst_when_idle` is not enforced."""


class Selector(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which calls are meant: all fields that are not empty must be the call's."""

    tenant: str = ""
    account: str = ""
    project: str = ""
    environment: str = ""
    key_id: str = ""
    model: str = ""
    tag: str = ""
    """`name=value`."""


PER = ("tenant", "account", "project", "environment", "key_id", "model")
"""What a limit may be counted per, besides `tag:NAME`."""


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most so much in any window of that length, or at once."""

    id: str
    measure: Measure
    amount: int
    """Requests, tokens, pico-yuan, or calls at once."""
    window_s: int = MINUTE
    """One of `SLOTS`; of no meaning for calls at once."""
    match: Selector = Selector()
    per: tuple[str, ...] = ()
    """Counted apart for each value of these; one count for all when empty."""
    wait_s: float = 0.0
    """A call over the rate may wait this long for room instead of being refused."""
    burst_when_idle: bool = False
    """Not enforced while the platform has room for all calls (`IDLE_BELOW`)."""
    on_unavailable: OnUnavailable = "allow"
    """When what others use cannot be known: go on with an equal share, or refuse."""


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most so much in a calendar period, counted by the ledger."""

    id: str
    measure: Measure
    amount: int
    """Requests, tokens or pico-yuan."""
    period: Literal["day", "month", "total"] = "month"
    """Days and months are those of China Standard Time, UTC+8."""
    match: Selector = Selector()
    per: tuple[str, ...] = ()
    hard: bool = True
    """Calls beyond it are refused; a soft one only alerts."""
    on_unavailable: OnUnavailable = "deny"
    """When the ledger's owner cannot be asked and the lease is used up."""
    wallet: bool = False
    """What the tenant has paid or may owe; its amount follows deposits."""


class Facts(NamedTuple):
    """What limits select by, of one call."""

    tenant: str
    account: str
    project: str
    environment: str
    key_id: str
    model: str
    tags: Mapping[str, str] = {}


def subject_of(limit: Rate | Budget, facts: Facts) -> str | None:
    """Which count of a limit a call belongs to; None when it belongs to none."""
    match = limit.match
    if (
        (match.tenant and match.tenant != facts.tenant)
        or (match.account and match.account != facts.account)
        or (match.project and match.project != facts.project)
        or (match.environment and match.environment != facts.environment)
        or (match.key_id and match.key_id != facts.key_id)
        or (match.model and match.model != facts.model)
    ):
        return None
    if match.tag:
        name, _, value = match.tag.partition("=")
        if facts.tags.get(name) != value:
            return None
    if not limit.per:
        return ""
    parts = []
    for name in limit.per:
        if name.startswith("tag:"):
            parts.append(facts.tags.get(name[4:], ""))
        else:
            parts.append(getattr(facts, name))
    return "\x1f".join(parts)


def by_tags(limit: Rate | Budget) -> bool:
    """Whether the count depends on a call's tags."""
    return bool(limit.match.tag) or any(name.startswith("tag:") for name in limit.per)


OTHER = "\x1eother"
"""Stands for values of tags beyond a bound: callers make those up. No tag can spell it."""


def other_of(limit: Rate | Budget, subject: str) -> str:
    """The count of values of tags that have none of their own; the rest of the subject stays."""
    if not limit.per:
        return subject
    parts = zip(limit.per, subject.split("\x1f"), strict=False)
    return "\x1f".join(OTHER if name.startswith("tag:") else part for name, part in parts)


def shown_subject(subject: str) -> list[str]:
    """The values of a subject, as people see them."""
    return subject.replace(OTHER, "other").split("\x1f") if subject else []


class Window:
    """A sliding window, counted exactly: the whole truth where one process owns the rate."""

    __slots__ = ("_at", "_counts", "_slot_s", "amount", "before", "slot_ends", "used")

    def __init__(self, amount: int, window_s: int) -> None:
        slots = SLOTS[window_s]
        self.amount = amount
        self.used = 0
        """In the whole window."""
        self.before = 0
        """Of that, in slots before the one that is counted in."""
        self.slot_ends = 0.0
        """When `advance` is due."""
        self._slot_s = window_s / slots
        # One more than the window has: the slot that is only partly outside counts fully.
        self._counts = [0] * (slots + 1)
        self._at = 0

    def take(self, amount: int, now: float) -> bool:
        """Use an amount if there is room."""
        if now >= self.slot_ends:
            self.advance(now)
        if self.used + amount > self.amount:
            return False
        self.used += amount
        return True

    def settle(self, taken: int, used: int, now: float) -> None:
        """What was taken turned out to be this much: the difference is given back or counted."""
        if now >= self.slot_ends:
            self.advance(now)
        self.used += used - taken
        # Given back where it was counted last; never below nothing.
        slots, back = self._counts, 0
        while self.used < self.before:
            back += 1
            if back == len(slots):
                self.used = self.before = 0
                return
            slot = (self._at - back) % len(slots)
            part = min(slots[slot], self.before - self.used)
            slots[slot] -= part
            self.before -= part

    def left(self, now: float) -> int:
        """How much may be used now."""
        if now >= self.slot_ends:
            self.advance(now)
        return max(0, self.amount - self.used)

    def unused(self) -> int:
        """How much was left when it was last used."""
        return self.amount - self.used

    def wait_s(self, amount: int, now: float) -> float:
        """How long until that much may be used, if no other call does."""
        if now >= self.slot_ends:
            self.advance(now)
        over = self.used + min(amount, self.amount) - self.amount
        at, slots = self._at, self._counts
        slots[at % len(slots)] = self.used - self.before
        for ahead in range(1, len(slots) + 1):
            over -= slots[(at + ahead) % len(slots)]
            if over <= 0:
                return max(0.0, (at + ahead) * self._slot_s - now)
        return len(slots) * self._slot_s

    def reset_s(self, now: float) -> float:
        """How long until all may be used again, if no call does."""
        if now >= self.slot_ends:
            self.advance(now)
        at, slots = self._at, self._counts
        if self.used > self.before:  # the usual case, after a call
            return (at + len(slots)) * self._slot_s - now
        # The last slot that is used is forgotten last.
        for ahead in range(len(slots) - 1, 0, -1):
            if slots[(at + ahead) % len(slots)]:
                return (at + ahead) * self._slot_s - now
        return 0.0

    def advance(self, now: float) -> None:
        """Count in the slot of `now`, and forget those that the window has left behind."""
        at = int(now / self._slot_s)
        past, slots = at - self._at, self._counts
        if past <= 0:
            return  # the clock of another process may be a little behind
        if past >= len(slots):
            self.used = 0
            slots[:] = [0] * len(slots)
        else:
            slots[self._at % len(slots)] = self.used - self.before
            for slot in range(self._at + 1, at + 1):
                self.used -= slots[slot % len(slots)]
                slots[slot % len(slots)] = 0
        self.before = self.used
        self._at, self.slot_ends = at, (at + 1) * self._slot_s


class AtOnce:
    """Calls at once, counted exactly."""

    __slots__ = ("amount", "used")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.used = 0

    def take(self, amount: int, now: float) -> bool:
        """Begin, if there is room."""
        if self.used + amount > self.amount:
            return False
        self.used += amount
        return True

    def settle(self, taken: int, used: int, now: float) -> None:
        """It is over."""
        self.used -= taken

    def left(self, now: float) -> int:
        """How many may begin now."""
        return max(0, self.amount - self.used)

    def wait_s(self, amount: int, now: float) -> float:
        """When a call will end is unknown; look again in a second."""
        return 1.0


class Pool:
    """What one process may use of a shared count without asking: a lease.

    What is given back by settling stays in the pool; what was used beyond it is owed and
    taken off the next lease, so that nothing is lost between processes.
    """

    __slots__ = (
        "_low", "_since", "amount", "ceiling", "known_left", "reset_at_s", "settled", "taken",
    )  # fmt: skip

    def __init__(self, amount: int) -> None:
        self.amount = amount
        """Of the whole limit; what a lease's size is measured by."""
        # Three sums that only grow, as a rule, of which the rest is told: a call writes one of
        # them as it is taken and two as it is settled.
        self.ceiling = 0
        """Ever leased or given back by calls that ended, less what is too little to be left:
        beyond it another lease is due, or there is none left."""
        self.taken = 0
        """Ever, by calls."""
        self.settled = 0
        """Of that, by calls that have ended."""
        self._since = 0
        """What was taken when the last lease came."""
        self.known_left = amount
        """What the owner of the count had left when it last answered."""
        self.reset_at_s = 0.0
        """When the owner has more, on this process's clock."""
        self._low = 0

    @property
    def low(self) -> int:
        """With no more than this left, another lease is due; not below 0."""
        return self._low

    @low.setter
    def low(self, low: int) -> None:
        self.ceiling += self._low - low
        self._low = low

    @property
    def left(self) -> int:
        """Of the lease; below 0 where more was used than it covers."""
        return self.ceiling + self._low - self.taken

    @left.setter
    def left(self, left: int) -> None:
        self.ceiling = self.taken + left - self._low

    @property
    def in_use(self) -> int:
        """Taken and not yet settled."""
        return self.taken - self.settled

    @property
    def used_since(self) -> int:
        """Taken since the last lease: how fast it goes."""
        return self.taken - self._since

    def unused(self) -> int:
        """How much is left, here and as last known of the owner."""
        return self.left + self.known_left

    def reset_s(self, now: float) -> float:
        """How long until there is more."""
        return max(0.0, self.reset_at_s - now)

    def take(self, amount: int, now: float) -> bool:
        """Use an amount of the lease, if there is that much."""
        if self.left < amount:
            return False
        self.taken += amount
        return True

    def settle(self, taken: int, used: int, now: float) -> None:
        """What was taken turned out to be this much."""
        self.ceiling += taken - used
        self.settled += taken

    def request(self, need: int) -> int:
        """How much to ask for: what is needed now, what is owed, and some in advance.

        The advance is what was used since the last lease, at least a hundredth of the
        whole where there is plenty; near the end nothing is taken that others may need.
        """
        owed = max(0, need - self.left)
        share = self.amount // LEASE_SHARE
        ahead = max(share, min(self.used_since, 5 * share))
        if self.known_left < 10 * ahead:
            ahead = 0
        return owed + max(0, ahead - max(0, self.left - need))

    def granted(self, amount: int, left: int) -> None:
        """A lease came."""
        self.ceiling += amount
        self.known_left = left
        self._since = self.taken

    def surplus(self, need: int) -> int:
        """What may be given back: more than was used since the last lease, and than calls are
        waiting for that have it granted but have not taken it yet."""
        keep = max(self.amount // LEASE_SHARE, self.used_since)
        if self.known_left < 10 * keep:
            keep = 0
        return max(0, self.left - need - keep)


ONE, TOKENS, SPEND, AT_ONCE = range(4)
"""What limits measure: where it stands in a call's amounts."""
Amounts = tuple[int, int, int, int]
Counter = Window | AtOnce | Pool


class Counters:
    """The counts that one call falls under, sorted by kind: each call takes and settles them all,
    in flat loops instead of a method call for each."""

    __slots__ = ("_all", "_at_once", "_due", "_pools", "_settled", "_windows", "runs_low")

    def __init__(self, counters: Sequence[tuple[Counter, int]]) -> None:
        """
        Args:
            counters: each with what it measures.
        """
        self._windows = tuple((c, kind) for c, kind in counters if isinstance(c, Window))
        self._settled = tuple((c, kind) for c, kind in self._windows if kind != ONE)
        """A call stays one call; what else it uses is known when it is over."""
        self._pools = tuple((c, kind) for c, kind in counters if isinstance(c, Pool))
        self._at_once = tuple((c, kind) for c, kind in counters if isinstance(c, AtOnce))
        self._due = 0.0 if self._windows else math.inf
        """When the first of the windows has to advance."""
        self.runs_low = False
        """Set where another lease of a pool is due."""
        self._all: tuple[tuple[Counter, int], ...] = (*self._windows, *self._pools, *self._at_once)

    def take(self, amounts: Amounts, now: float) -> bool:
        """Use what a call may need at the most of each count, if there is room in all."""
        if now >= self._due:
            self._advance(now)
        for window, kind in self._windows:
            used = window.used + amounts[kind]
            if used > window.amount:
                return self._undo(window, amounts, now)
            window.used = used
        for pool, kind in self._pools:
            taken = pool.taken + amounts[kind]
            if taken >= pool.ceiling:
                if taken > pool.ceiling + pool.low:
                    return self._undo(pool, amounts, now)
                self.runs_low = True
            pool.taken = taken
        for count, kind in self._at_once:
            used = count.used + amounts[kind]
            if used > count.amount:
                return self._undo(count, amounts, now)
            count.used = used
        return True

    def _advance(self, now: float) -> None:
        for window, _ in self._windows:
            if now >= window.slot_ends:
                window.advance(now)
        # Another call's counts may advance one of them before: it is looked at in vain then.
        self._due = min(window.slot_ends for window, _ in self._windows)

    def _undo(self, failed: Counter, amounts: Amounts, now: float) -> bool:
        """Give back what was taken before a count had no room."""
        for counter, kind in self._all:
            if counter is failed:
                break
            if isinstance(counter, Pool):
                counter.taken -= amounts[kind]  # as if it had never been, in its sums, too
            else:
                counter.settle(amounts[kind], 0, now)
        return False

    def settle(self, taken: Amounts, tokens: int, spend: int, now: float) -> None:
        """What was taken turned out to be so many tokens and pico-yuan, as it is over."""
        # By kind, as amounts are.
        changes = (0, tokens - taken[TOKENS], spend - taken[SPEND], -taken[AT_ONCE])
        if now >= self._due:
            self._advance(now)
        for window, kind in self._settled:
            after = window.used + changes[kind]
            if after < window.before:
                window.settle(-changes[kind], 0, now)
            else:
                window.used = after
        for pool, kind in self._pools:
            pool.ceiling -= changes[kind]
            pool.settled += taken[kind]
        for count, kind in self._at_once:
            count.used -= taken[kind]


class LeaseRequest(msgspec.Struct, frozen=True):
    """One count of a limit that a process wants to use more of, or gives back to."""

    limit: str
    subject: str
    want: int
    """Asked for; negative: given back."""
    need: int = 0
    """The least that helps."""
    held: int = 0
    """What the process has of it in all, for calls at once."""


class Lease(msgspec.Struct, frozen=True):
    """The answer to a lease request."""

    granted: int
    left: int
    """What the count has left after it."""
    reset_s: float = 0.0
    """When there is more, in seconds from now."""
    until_s: float = 0.0
    """Unix time when the period ends and the lease with it; 0: never."""


HOLDER_TTL_S = 15.0
"""A process that is not heard of for this long is dead: what it held is free again."""
COUNTS_MAX = 200_000


class SharedRates:
    """Rates of several processes in the memory of one; Redis' script does the same.

    An advance is granted only where it leaves others something; what is needed is granted
    whole or not at all.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], Window] = {}
        self._held: dict[tuple[str, str], dict[str, tuple[int, float]]] = {}

    def draw(self, rate: Rate, request: LeaseRequest, holder: str, now: float) -> Lease:
        """Grant what a process asks for, or as much as there is."""
        key = (rate.id, request.subject)
        if rate.measure == "concurrent":
            return self._draw_at_once(key, rate.amount, request, holder, now)
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= COUNTS_MAX:
                self._windows = {k: w for k, w in self._windows.items() if w.used}
            window = self._windows[key] = Window(rate.amount, rate.window_s)
        window.amount = rate.amount
        if request.want < 0:
            window.settle(-request.want, 0, now)
            return Lease(request.want, window.left(now))
        left = window.left(now)
        granted = grant_of(request, left)
        window.settle(0, granted, now)
        wait_s = window.wait_s(request.need, now) if granted < request.need else 0.0
        return Lease(granted, left - granted, wait_s)

    def _draw_at_once(
        self, key: tuple[str, str], amount: int, request: LeaseRequest, holder: str, now: float
    ) -> Lease:
        held = self._held.setdefault(key, {})
        for name in [n for n, (_, seen) in held.items() if now - seen > HOLDER_TTL_S]:
            del held[name]
        # What the process says it holds is the truth, also after this memory was lost.
        others = sum(count for name, (count, _) in held.items() if name != holder)
        left = max(0, amount - others - request.held)
        granted = max(request.want, -request.held) if request.want < 0 else grant_of(request, left)
        held[holder] = (request.held + granted, now)
        if request.held + granted == 0:
            del held[holder]
        return Lease(granted, left - granted, 1.0 if granted < request.need else 0.0)


def grant_of(request: LeaseRequest, left: int) -> int:
    """How much of a lease request is granted of what is left."""
    if request.want <= left:
        return request.want
    return request.need if request.need <= left else left
