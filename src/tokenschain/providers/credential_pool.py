"""Credential pool: several keys of one upstream take turns; a refused key rests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

from tokenschain.wire.request_head import can_be_value

REJECTED_REST_S = 600.0
"""A refused key is tried again after this long, unless its value changes before."""
EXHAUSTED_REST_S = 300.0
DENIED_REST_S = 60.0
COOLING_REST_S = 5.0
"""After a rate limit that did not say how long to wait."""
BACKOFF_RATE = 0.7
"""A rate limit leaves a key this share of the calls it had, as with an upstream's limit."""
_RESTS = {
    "upstream_rejected_credentials": ("dead", REJECTED_REST_S),
    "upstream_out_of_funds": ("exhausted", EXHAUSTED_REST_S),
    "upstream_access_denied": ("denied", DENIED_REST_S),
    "upstream_rate_limited": ("cooling", COOLING_REST_S),
}


class KeyState(StrEnum):
    READY = "ready"
    COOLING = "cooling"
    """The upstream limits its rate."""
    EXHAUSTED = "exhausted"
    """Its account has no funds or quota."""
    DENIED = "denied"
    """Its account may not use the model."""
    DEAD = "dead"
    """The upstream refuses it."""


class UpstreamKey:
    """One key; its value never leaves for a log or an error."""

    __slots__ = (
        "calls_max", "heads", "inflight", "number", "reference", "rests_until", "since", "state",
        "value",
    )  # fmt: skip

    def __init__(self, number: int, reference: str, value: str) -> None:
        self.number = number
        self.reference = reference
        self.value = value
        self.state = KeyState.READY
        self.since = 0.0
        """When it left the state `ready`."""
        self.rests_until = 0.0
        self.inflight = 0
        self.calls_max = math.inf
        """Calls at once; learned by AIMD from its rate limits, without one until the first."""
        self.heads: dict[str, bytes] = {}
        """Request heads made with this value, by path."""

    def end(self) -> None:
        """A call that took it is over."""
        self.inflight -= 1


class KeyRing:
    """Takes keys in turn, leaves alone those that an upstream has complained about."""

    def __init__(
        self,
        references: Sequence[str],
        resolve: Callable[[str], str | None],
        now: Callable[[], float],
        report: Callable[[int, KeyState, float, str], None],
    ) -> None:
        """
        Args:
            resolve: the secret behind a reference, or None while it cannot be had; one that no
                header can carry is as none.
            now: monotonic seconds.
            report: told when a key's state changes: its number from 1, the state, how many
                seconds it rests (or did, when it is ready again), and the error's code.
        """
        self._references = references
        self._resolve = resolve
        self._now = now
        self._report = report
        self._turn = 0
        self.keys: list[UpstreamKey] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the references again; a changed value is a new key. Off the hot path."""
        known = {key.reference: key for key in self.keys}
        keys = []
        for number, reference in enumerate(self._references, 1):
            value = self._resolve(reference)
            key = known.get(reference)
            if value is None or not can_be_value(value):
                continue
            if key is None or key.value != value:
                key = UpstreamKey(number, reference, value)
            keys.append(key)
        self.keys = keys

    def take(self) -> UpstreamKey | None:
        """The next key that is ready and has room, or None; `UpstreamKey.end` gives it back.

        A lone key never rests: no other could take its place, and leaving a whole upstream
        alone is for routing to decide.
        """
        keys = self.keys
        lone = len(keys) == 1
        for step in range(len(keys)):
            key = keys[(self._turn + step) % len(keys)]
            if lone or (key.inflight < key.calls_max and self._now() >= key.rests_until):
                self._turn += step + 1
                key.inflight += 1
                return key
        return None

    def blame(self, key: UpstreamKey, code: str, wait_s: float | None) -> None:
        """An upstream complained about a key with this row of `core.errors`."""
        state, rest_s = _RESTS[code]
        if state == KeyState.COOLING:
            key.calls_max = max(1.0, min(key.calls_max, key.inflight) * BACKOFF_RATE)
        now, for_s = self._now(), wait_s or rest_s
        if key.state is KeyState.READY:
            key.since = now
        if key.state != state or now >= key.rests_until:
            self._report(key.number, KeyState(state), for_s, code)
        key.state, key.rests_until = KeyState(state), now + for_s

    def answered(self, key: UpstreamKey) -> None:
        """An upstream took a call with it: whatever was said of it is over."""
        if key.state is not KeyState.READY:
            self._report(key.number, KeyState.READY, self._now() - key.since, "")
            key.state, key.rests_until = KeyState.READY, 0.0
        key.calls_max += 1.0 / key.calls_max

    def heard(self, number: int, state: KeyState, for_s: float) -> None:
        """Take another gateway's word for a key."""
        for key in self.keys:
            if key.number == number:
                if key.state is KeyState.READY:
                    key.since = self._now()
                key.state, key.rests_until = state, self._now() + for_s

    @property
    def ready_in_s(self) -> float:
        """Until the first resting key may be tried again."""
        return max(0.0, min((key.rests_until for key in self.keys), default=0.0) - self._now())
