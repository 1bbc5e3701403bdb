"""Waiting for what comes in a moment, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WAIT_MAX_S = 40.0
LOOK_S = 0.05
STEADY_S = 0.5


def until(found: Callable[[], T], wait_max_s: float = WAIT_MAX_S) -> T:
    """The first true value of `found`.

    Raises:
        AssertionError: it did not come within `wait_max_s`; the last value is named.
    """
    deadline = time.monotonic() + wait_max_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"after {wait_max_s} s still {value!r}"
        time.sleep(LOOK_S)
    return value


def until_steady(value: Callable[[], T], steady_s: float = STEADY_S) -> T:
    """The value once it has not changed for `steady_s`, as when what produces it is held up.

    Raises:
        AssertionError: it still changes after `WAIT_MAX_S`.
    """
    deadline = time.monotonic() + WAIT_MAX_S
    last, since = value(), time.monotonic()
    while time.monotonic() - since < steady_s:
        time.sleep(LOOK_S)
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() < deadline, f"after {WAIT_MAX_S} s still changing: {now!r}"
    return last
