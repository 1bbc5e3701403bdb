"""Filing deadlines: Chinese working days, what is due when, and what is not known."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.compliance.deadlines import deadlines_of, working_days_after
from tokenschain.core.pricing.calendar import (
    HOLIDAYS,
    DayOff,
    is_working_day,
    last_known_day,
)
from tokenschain.core.snapshot.filings import Filing, FilingKind

_days = st.dates(date(2025, 1, 1), date(2026, 11, 15))


@pytest.mark.parametrize(
    ("first", "count", "last"),
    [
        (date(2026, 3, 2), 10, date(2026, 3, 16)),  # two plain weeks
        (date(2026, 2, 13), 1, date(2026, 2, 14)),  # a Saturday that is worked
        (date(2026, 2, 14), 1, date(2026, 2, 24)),  # over the Spring Festival
        (date(2026, 2, 13), 10, date(2026, 3, 5)),  # with both Saturdays worked for it
        (date(2026, 9, 25), 10, date(2026, 10, 15)),  # Mid-Autumn, National Day, one Saturday
        (date(2025, 12, 29), 10, date(2026, 1, 13)),  # into the next year, with a worked Sunday
        (date(2026, 3, 7), 0, date(2026, 3, 7)),
    ],
)
def test_working_days_leave_out_holidays_and_count_weekends_that_are_worked(
    first: date, count: int, last: date
) -> None:
    assert working_days_after(first, count) == (last, True, None)


@given(_days, st.integers(1, 20))
def test_a_period_has_just_so_many_working_days_and_ends_on_one(first: date, count: int) -> None:
    last = working_days_after(first, count).day
    span = [first + timedelta(days=n) for n in range(1, (last - first).days + 1)]
    assert sum(map(is_working_day, span)) == count and is_working_day(last)


@given(_days, st.integers(1, 20), st.integers(1, 20))
def test_periods_that_follow_each_other_are_one(first: date, one: int, other: int) -> None:
    through = working_days_after(working_days_after(first, one).day, other)
    assert through == working_days_after(first, one + other)


@given(_days, st.integers(1, 20), st.integers(0, 30))
def test_who_begins_later_is_due_no_earlier(first: date, count: int, later: int) -> None:
    then = working_days_after(first + timedelta(days=later), count).day
    assert then >= working_days_after(first, count).day


def test_a_year_whose_holidays_are_not_known_is_said() -> None:
    assert working_days_after(date(2026, 12, 1), 10).certain
    assert not working_days_after(date(2026, 12, 25), 10).certain
    found = working_days_after(date(2050, 1, 3), 5)
    assert found == (date(2050, 1, 10), False, date(2026, 12, 31))
    assert working_days_after(date(2026, 12, 25), 10).calendar_ends_on == date(2026, 12, 31)


def test_holidays_that_the_operator_adds_count_and_make_it_certain() -> None:
    known = {**HOLIDAYS, 2027: (DayOff(date(2027, 1, 1), date(2027, 1, 3), (date(2027, 1, 9),)),)}
    found = working_days_after(date(2026, 12, 29), 5, known)
    assert found == (date(2027, 1, 6), True, None)
    assert working_days_after(date(2027, 1, 8), 1, known).day == date(2027, 1, 9)
    gap = {**HOLIDAYS, 2028: ()}
    assert last_known_day(gap) == date(2026, 12, 31), "a year between is not known"


def filing(kind: FilingKind, **days: str) -> Filing:
    return Filing(kind=kind, number="1", models=("m",), source="notice", **days)  # type: ignore[arg-type]


def test_what_is_due_comes_by_urgency_with_its_rule() -> None:
    filings = {
        "done": filing("algorithm", launched_on="2026-03-02", filed_on="2026-03-16"),
        "late": filing("algorithm", launched_on="2026-03-02", filed_on="2026-03-17"),
        "new": filing("algorithm", launched_on="2026-11-27"),
        "changed": filing("generative-ai", filed_on="2026-01-05", changed_on="2026-11-02"),
        "over": filing("registration", ended_on="2026-11-27"),
        "unfiled": filing("generative-ai", launched_on="2026-11-20"),
        "quiet": filing("generative-ai"),
    }
    found = deadlines_of(filings, date(2026, 11, 28))
    assert [(one.filing, one.duty, str(one.due_on), one.state) for one in found] == [
        ("changed", "file-change", "2026-11-16", "overdue"),
        ("unfiled", "file-model", "2026-11-20", "overdue"),
        ("new", "file-algorithm", "2026-12-11", "due"),
        ("over", "file-end", "2026-12-25", "due"),
        ("done", "file-algorithm", "2026-03-16", "done"),
        ("late", "file-algorithm", "2026-03-16", "late"),
    ]
    assert all("Art." in one.rule and one.certain for one in found)
