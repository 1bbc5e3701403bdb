"""What callers are told of their rates: the `x-ratelimit-*` lines of an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TypeVar

from tokenschain.core.limits import ONE, TOKENS, Pool, Window

_Counter = TypeVar("_Counter", Window, Pool)
KINDS = {ONE: "requests", TOKENS: "tokens"}
"""The measures that callers are told of, by the names that OpenAI's SDKs look for."""


class RateLines:
    """The lines of one rate, around what is left of it."""

    __slots__ = ("_name", "after", "before", "counter", "kind", "until")

    def __init__(self, kind: int, amount: int, counter: Window | Pool) -> None:
        name = f"x-ratelimit-{{}}-{KINDS[kind]}: "
        self.kind = kind
        self.counter = counter
        self.before = f"{name.format('limit')}{amount}\r\n{name.format('remaining')}"
        self._name = f"\r\n{name.format('reset')}"
        self.after = ""
        """When all may be used again."""
        self.until = 0.0
        """Until when that reads the same, if the window is used in its last slot."""

    def renew(self, now: float) -> None:
        """Say anew when all may be used again: once a second or more seldom where one process
        counts, and for each answer of a lease."""
        counter = self.counter
        seconds = counter.reset_s(now)
        self.after = f"{self._name}{_duration(seconds)}\r\n"
        self.until = 0.0
        if seconds > 1 and isinstance(counter, Window) and counter.used > counter.before:
            other = now + seconds - (math.ceil(seconds) - 1)
            self.until = other if other < counter.slot_ends else counter.slot_ends


class RateHeaders:
    """The lines of all rates that the calls of one key for one model fall under: of the one that
    has the least left, for each kind."""

    __slots__ = ("_kinds",)

    def __init__(self, rates: Sequence[RateLines]) -> None:
        kinds = [[rate for rate in rates if rate.kind == kind] for kind in KINDS]
        told = [(_counted_by(Window, kind), _counted_by(Pool, kind)) for kind in kinds if kind]
        self._kinds = tuple((windows[:1], windows[1:], pools) for windows, pools in told)

    def lines(self, now: float) -> bytes:
        """As they stand in an answer."""
        text = ""
        for first, others, pools in self._kinds:
            if pools:
                said, least = _tightest((*first, *others), pools, now)
            else:
                said, window = first[0]
                least = window.amount - window.used
                for lines, other in others:
                    left = other.amount - other.used
                    if left < least:
                        said, window, least = lines, other, left
                if now >= said.until or window.used == window.before:
                    said.renew(now)
            text += f"{said.before}{least if least > 0 else 0}{said.after}"
        return text.encode("ascii")


def _tightest(
    windows: Sequence[tuple[RateLines, Window]], pools: Sequence[tuple[RateLines, Pool]], now: float
) -> tuple[RateLines, int]:
    """The lines of the rate that has the least left, where some are leased, and how much it is."""
    counted = [(window.amount - window.used, lines) for lines, window in windows]
    leased = [(pool.unused(), lines) for lines, pool in pools]
    least, said = min((*counted, *leased), key=itemgetter(0))
    said.renew(now)
    return said, least


def _counted_by(
    counter: type[_Counter], rates: Sequence[RateLines]
) -> tuple[tuple[RateLines, _Counter], ...]:
    return tuple((rate, rate.counter) for rate in rates if isinstance(rate.counter, counter))


def _duration(seconds: float) -> str:
    """As OpenAI writes it, `6m0s`, `2s`, `20ms`; never less than it is."""
    if seconds < 1:
        return _words(math.ceil(seconds * 1_000), "ms")
    return _words(math.ceil(seconds), "s")


@lru_cache(maxsize=8_192)
def _words(count: int, unit: str) -> str:
    if unit == "ms" or count < 60:
        return f"{count}{unit}"
    return f"{count // 60}m{count % 60}s"
