"""Circuit breaker and health state of an upstream, as small state machines without a clock.

Small state machines without a clock.
Times are seconds on any one clock. Numbers without another source are linkerd's unified breaker
and penalties (linkerd2-proxy, 2026-08) and Finagle's retry budget.
"""

from __future__ import annotations

import math
from enum import StrEnum

from tokenschain.core.errors import ERRORS, Blame

CONSECUTIVE_FAILURES_MAX = 3
WINDOW_S = 10
SUCCESS_SHARE_MIN = 0.6
WINDOW_CALLS_MIN = 20
MISSED_STEP, MISSED_MIN = 0.1, 1e-3
"""An attempt counts for a tenth of the share of failures; below a thousandth it is none."""
OPEN_FIRST_S, OPEN_MAX_S, OPEN_JITTER = 1.0, 30.0, 0.2
SLOW_START_SUCCESSES = 3
SLOW_START_S = 10.0
SHARE_MIN = 0.1
"""Of its usual load, that an upstream gets just after its breaker closed."""
COOLING_FIRST_S, COOLING_MAX_S = 1.0, 60.0
QUARANTINE_S = 30.0
"""After refused credentials or an empty account: only a person can mend that."""
REGION_SHARE, REGION_S = 0.6, 5.0
"""When so many upstreams of a region open within so long, the region is gone, not they."""
RETRY_SHARE, RETRIES_PER_S, RETRY_BUDGET_S = 0.2, 3.0, 10.0
RETRIES_LEFT_MAX = RETRIES_PER_S * RETRY_BUDGET_S + 100


class AttemptOutcome(StrEnum):
    """What one attempt says about its upstream."""

    OK = "ok"
    HARD = "hard"
    """Unreachable, 5xx, broken off, silent: the breaker counts it."""
    RATE = "rate"
    """Limited or overloaded: a cooldown of as long as it says."""
    AUTH = "auth"
    """The platform's account is refused or empty."""
    CLIENT = "client"
    """The caller's fault: says nothing."""
    CANCEL = "cancel"
    """The caller left: says nothing."""


_RATE = frozenset({"upstream_rate_limited", "upstream_overloaded", "upstream_busy"})
_CANCELLED = frozenset({"caller_gone", "caller_stalled", "lost_race"})


def outcome_of(code: str) -> AttemptOutcome:
    """The class of an attempt's outcome: `ok` or a code of `core.errors`."""
    if code == "ok":
        return AttemptOutcome.OK
    if code in _CANCELLED:
        return AttemptOutcome.CANCEL
    if code in _RATE:
        return AttemptOutcome.RATE
    blame = ERRORS[code].blame
    if blame is Blame.KEY:
        return AttemptOutcome.AUTH
    if blame is Blame.UPSTREAM:
        return AttemptOutcome.HARD
    return AttemptOutcome.AUTH if code == "upstream_model_not_found" else AttemptOutcome.CLIENT


class Health:
    """Breaker, cooling and slow start of one upstream.

    Closed, it lets calls through. Three hard failures on end, or less than 60 % success of 20
    calls in 10 s, open it for 1 s, doubling up to 30 s; then one call is a trial. Success closes
    it, and its share of the load grows back over 10 s.
    """

    __slots__ = (
        "_buckets",
        "_cooling_s",
        "_failures",
        "_missed_at",
        "_open_s",
        "_successes",
        "_trial",
        "closed_at",
        "cooldown_until",
        "is_open",
        "may_try",
        "missed",
        "open_since",
        "opened_at",
        "reopens_at",
        "shares_trials",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_open = False
        self.reopens_at = 0.0
        """When a trial may be made; only while open."""
        self.cooldown_until = 0.0
        """Rate limited or refused until then."""
        self.closed_at = -SLOW_START_S
        self.opened_at = 0.0
        self.open_since = 0.0
        """When the breaker opened first; trials that fail open it again at `opened_at`."""
        self.shares_trials = False
        """Whether one process of several at a time makes the trial."""
        self.may_try = True
        """Whether it is this one."""
        self._failures = 0
        self._successes = SLOW_START_SUCCESSES
        self._open_s = OPEN_FIRST_S
        self._cooling_s = COOLING_FIRST_S
        self._trial = False
        self.missed = self._missed_at = 0.0
        """The share of attempts that failed, as it was then; below `MISSED_MIN` it is none."""
        self._buckets: list[list[int]] = []
        """Of the last seconds: which, successes, failures."""

    def allows(self, now: float) -> bool:
        """Whether a call may go there now; a trial included."""
        if now < self.cooldown_until:
            return False
        if not self.is_open:
            return True
        return self.may_try and not self._trial and now >= self.reopens_at

    def state(self, now: float) -> str:
        """`closed`, `open`, `trial`, `resting` or `slow start`."""
        if now < self.cooldown_until:
            return "resting"
        if self.is_open:
            return "trial" if self._trial or now >= self.reopens_at else "open"
        return "slow start" if self.share(now) < 1 else "closed"

    def share(self, now: float) -> float:
        """How much of its usual load it should get, above 0 up to 1."""
        if self._successes >= SLOW_START_SUCCESSES and now - self.closed_at >= SLOW_START_S:
            return 1.0
        return min(1.0, max(SHARE_MIN, (now - self.closed_at) / SLOW_START_S))

    def ready_in_s(self, now: float) -> float:
        """Until a call may be tried."""
        return max(0.0, self.cooldown_until - now, self.reopens_at - now if self.is_open else 0.0)

    def begin(self) -> None:
        """A call goes there; while open, it is the trial."""
        if self.is_open:
            self._trial = True

    def withdrawn(self) -> None:
        """A call ended without saying anything of the upstream; if it was the trial, another
        may be made."""
        self._trial = False

    def succeeded(self, now: float) -> None:
        """An attempt was answered."""
        buckets = self._buckets
        if buckets and buckets[-1][0] == int(now) and self.missed < MISSED_MIN:
            buckets[-1][1] += 1  # what `_count` does of nearly every call
        else:
            self._count(now, True)
        self._failures = 0
        self._cooling_s = COOLING_FIRST_S
        if self.is_open:
            if not self._trial:
                return  # an answer to a call from before: says nothing about now
            self._close(now)
        elif self._successes < SLOW_START_SUCCESSES:
            self._successes += 1
            if self._successes == SLOW_START_SUCCESSES:
                self._open_s = OPEN_FIRST_S

    def failed(
        self, outcome: AttemptOutcome, now: float, wait_s: float | None, random: float
    ) -> bool:
        """An attempt ended otherwise; whether that opened the breaker.

        Args:
            wait_s: what the upstream asked for.
            random: uniform in [0, 1), for the jitter.
        """
        if outcome is AttemptOutcome.RATE:
            self._count(now, False)
            self.cooldown_until = now + min(wait_s or self._cooling_s, COOLING_MAX_S)
            self._cooling_s = min(self._cooling_s * 2, COOLING_MAX_S)
            if self.is_open:
                self._open(now, random)
        elif outcome is AttemptOutcome.AUTH:
            self.cooldown_until = now + QUARANTINE_S
            self._trial = False
        elif outcome is AttemptOutcome.HARD:
            self._count(now, False)
            self._failures += 1
            if self.is_open or self._failures >= CONSECUTIVE_FAILURES_MAX or self._window_bad(now):
                opened = not self.is_open
                self._open(now, random)
                return opened
        else:
            self.withdrawn()
        return False

    @property
    def heard_at(self) -> float:
        """About when something was last known of it, to the second."""
        return float(self._buckets[-1][0]) if self._buckets else 0.0

    def present(self, now: float) -> None:
        """It answered a health check."""
        self._count(now, True)

    def try_soon(self, now: float) -> None:
        """Ejected, it answered a health check: the next call may be the trial."""
        self.reopens_at = min(self.reopens_at, now)

    def eject(self, now: float, random: float) -> None:
        """Eject it for what others of its region did."""
        if not self.is_open:
            self._open(now, random)

    def heard(self, kind: str, for_s: float, now: float) -> None:
        """Take another process's word for it: `open`, `closed`, or `rests`; no other."""
        if kind == "rests":
            self.cooldown_until = max(self.cooldown_until, now + min(for_s, COOLING_MAX_S))
        elif kind == "closed":
            if self.is_open:
                self._close(now)
        elif kind == "open" and not self._trial:
            if not self.is_open:
                self._opened(now)
            self.reopens_at = now + min(for_s, OPEN_MAX_S * (1 + OPEN_JITTER))

    def failures(self, now: float) -> int:
        """Attempts that failed: one after the other, or in the last 10 s, whichever are more."""
        return max(self._failures, sum(b[2] for b in self._buckets if b[0] > now - WINDOW_S))

    @property
    def tries(self) -> bool:
        """Whether the trial is on its way."""
        return self._trial

    def _close(self, now: float) -> None:
        self.is_open = self._trial = False
        self.closed_at = now
        self._failures = self._successes = 0
        self._buckets.clear()

    def _opened(self, now: float) -> None:
        self.opened_at = now
        if not self.is_open:
            self.open_since = now
        self.is_open, self._trial = True, False
        self.may_try = not self.shares_trials
        self._successes = 0

    def _open(self, now: float, random: float) -> None:
        self._opened(now)
        self.reopens_at = now + self._open_s * (1 - OPEN_JITTER + 2 * OPEN_JITTER * random)
        self._open_s = min(self._open_s * 2, OPEN_MAX_S)

    def _count(self, now: float, good: bool) -> None:
        if not good or self.missed >= MISSED_MIN:
            faded = self.missed * math.exp((self._missed_at - now) / WINDOW_S)
            self.missed = faded + MISSED_STEP * ((not good) - faded)
            self._missed_at = now
        second, which = int(now), 1 if good else 2
        buckets = self._buckets
        if not buckets or buckets[-1][0] != second:
            buckets.append([second, 0, 0])
            if len(buckets) > WINDOW_S:
                del buckets[0]
        buckets[-1][which] += 1

    def _window_bad(self, now: float) -> bool:
        recent = [b for b in self._buckets if b[0] > now - WINDOW_S]
        ok, bad = sum(b[1] for b in recent), sum(b[2] for b in recent)
        return ok + bad >= WINDOW_CALLS_MIN and ok < SUCCESS_SHARE_MIN * (ok + bad)

    def success_share(self, now: float) -> float:
        """Of the latest attempts; what went wrong fades within 10 s, nothing known is good."""
        missed = self.missed
        if missed < MISSED_MIN:
            return 1.0
        return 1.0 - missed * math.exp((self._missed_at - now) / WINDOW_S)


class RetryBudget:
    """Retries as a share of calls, so that failures do not feed on themselves."""

    __slots__ = ("_at", "_left", "calls")

    def __init__(self) -> None:
        self.calls = 0
        """That came in since it was last asked what is left: counted by who has the calls, as
        each of them would else be a call of a method."""
        self._left = RETRIES_PER_S * RETRY_BUDGET_S
        self._at = 0.0

    def left(self, now: float) -> float:
        """Retries that may be made at once."""
        left = self._left + RETRY_SHARE * self.calls + RETRIES_PER_S * (now - self._at)
        self._left = min(left, RETRIES_LEFT_MAX)
        self.calls, self._at = 0, now
        return self._left

    def take(self, now: float) -> bool:
        """Whether a retry may be made."""
        if self.left(now) < 1:
            return False
        self._left -= 1
        return True
