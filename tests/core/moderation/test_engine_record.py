"""Record of a moderation engine: what is counted, for how long, and how waits are told."""

from __future__ import annotations

from collections import Counter

import pytest

from tokenschain.core.moderation.engine_record import (
    BOUNDS_MS,
    MINUTE_S,
    P95_MIN,
    WINDOW_MINUTES,
    EngineRecord,
    NotAsked,
    percentile_ms,
)
from tokenschain.core.moderation.verdict import EngineFailure

WINDOW_S = MINUTE_S * WINDOW_MINUTES


def test_the_last_quarter_of_an_hour_is_counted_and_nothing_before() -> None:
    record = EngineRecord()
    for now in range(0, 3 * WINDOW_S, MINUTE_S):
        record.answered(now, 0.05)
        record.failed(EngineFailure.TIMEOUT, "", now, 1_000.0 + now)
        record.failed(NotAsked.BREAKER, "", now, 1_000.0 + now)
        record.withdrawn(now)
        record.remembered(now, 2)
    sums = record.sums(now)
    assert (sums.answered, sums.withdrawn, sums.from_memory) == (15, 15, 30)
    assert sums.errors == {"timeout": 15, "breaker": 15} and sums.waits.total() == 15
    later = record.sums(now + WINDOW_S / 3)
    assert later.answered == 10
    long_after = record.sums(now + WINDOW_S)
    assert not long_after.answered and not long_after.errors
    assert (record.last_error, record.last_error_s) == ("breaker", 1_000.0 + now)


@pytest.mark.parametrize("wait_ms", [0.01, 0.07, 0.9, 12.0, 300.0, 9_000.0])
def test_a_wait_is_told_within_a_tenth(wait_ms: float) -> None:
    record = EngineRecord()
    for _ in range(P95_MIN):
        record.answered(1.0, wait_ms / 1_000)
    told = percentile_ms(record.sums(1.0).waits, 0.95, P95_MIN)
    assert told is not None
    assert told == pytest.approx(max(wait_ms, BOUNDS_MS[0]), rel=0.1)


def test_waits_of_several_gateways_add_up_to_one_percentile() -> None:
    quick, slow = EngineRecord(), EngineRecord()
    for _ in range(90):
        quick.answered(1.0, 0.010)
    for _ in range(10):
        slow.answered(1.0, 1.0)
    both: Counter[int] = quick.sums(1.0).waits + slow.sums(1.0).waits
    assert percentile_ms(both, 0.5) == pytest.approx(10, rel=0.1)
    assert percentile_ms(both, 0.95) == pytest.approx(1_000, rel=0.1)


def test_too_few_answers_have_no_percentile() -> None:
    assert percentile_ms({}, 0.5) is None
    assert percentile_ms({3: P95_MIN - 1}, 0.95, P95_MIN) is None
