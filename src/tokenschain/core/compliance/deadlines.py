"""Filing deadlines in Chinese working days: what is due when, by which rule, and how sure that is.

Pure: days are handed in, and so are holidays beyond those of `core.pricing.calendar`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Literal, NamedTuple

import msgspec

from tokenschain.core.pricing.calendar import (
    HOLIDAYS,
    Holidays,
    is_working_day,
    last_known_day,
)
from tokenschain.core.snapshot.filings import Filing, FilingKind

Duty = Literal["file-algorithm", "file-model", "register-use", "file-change", "file-end"]
State = Literal["done", "late", "due", "overdue"]
"""`done` in time or `late`; not done and still `due`, or `overdue`."""
FILE_WORKING_DAYS, CHANGE_WORKING_DAYS, END_WORKING_DAYS = 10, 10, 20
"""Provisions on the Management of Algorithm Recommendation in Internet Information Services,
Art. 24: within ten working days of providing the service; ten of a change; twenty of its end."""
_PROVISIONS = "Provisions on Algorithm Recommendation, Art. 24"
_MEASURES = "Interim Measures for Generative AI Services, Art. 17"
_Period = tuple[Duty, int, str]
"""What is to be filed, within how many working days, and where that is written."""
_FIRST: dict[FilingKind, _Period] = {
    "algorithm": ("file-algorithm", FILE_WORKING_DAYS, _PROVISIONS),
    "generative-ai": ("file-model", 0, _MEASURES),
    "registration": ("register-use", 0, _MEASURES),
}
"""A model is filed, and the use of a filed one registered, before the public is served."""


class DueDay(NamedTuple):
    """The last day of a period."""

    day: date
    certain: bool
    """False where a year's holidays are not published yet, or not known here: they can only move
    the day to later, and weekends that are worked for them to earlier."""
    calendar_ends_on: date | None = None
    """Where the period goes on after it: the last day whose holidays are known."""


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be filed by a day."""

    filing: str
    """Name in the register."""
    duty: Duty
    from_on: date
    """The day that the period is counted from; it is not one of its days."""
    working_days: int
    """0: it is due before that day's service."""
    due_on: date
    certain: bool
    calendar_ends_on: date | None
    """See `DueDay`, both."""
    done_on: date | None
    state: State
    rule: str
    """Where it is written."""


def working_days_after(first: date, count: int, known: Holidays = HOLIDAYS) -> DueDay:
    """The last day of a period of working days; the day that starts it is not counted.

    Args:
        count: 0: that day itself, whatever it is.
    """
    day, left = first, count
    years = {day.year}
    while left:
        day += timedelta(days=1)
        years.add(day.year)
        left -= is_working_day(day, known)
    certain = not count or years <= known.keys()
    ends = last_known_day(known)
    return DueDay(day, certain, ends if not certain and ends < day else None)


def deadlines_of(
    filings: Mapping[str, Filing], today: date, known: Holidays = HOLIDAYS
) -> list[Deadline]:
    """What filings ask for, the most urgent first: what is overdue, what is due, what is done."""
    found = [
        one for name, filing in filings.items() for one in _of_filing(name, filing, today, known)
    ]
    return sorted(found, key=lambda one: (one.done_on is not None, one.due_on, one.filing))


def _of_filing(name: str, filing: Filing, today: date, known: Holidays) -> Iterator[Deadline]:
    first = _FIRST[filing.kind]
    # The Measures (Art. 17) have a model's changes and end filed by the same Provisions.
    changed: _Period = ("file-change", CHANGE_WORKING_DAYS, _PROVISIONS)
    ended: _Period = ("file-end", END_WORKING_DAYS, _PROVISIONS)
    periods: Iterable[tuple[_Period, str, str]] = (
        (first, filing.launched_on, filing.filed_on),
        (changed, filing.changed_on, filing.change_filed_on),
        (ended, filing.ended_on, filing.end_filed_on),
    )
    for (duty, working_days, rule), begins, done in periods:
        if not begins:
            continue
        from_on = date.fromisoformat(begins)
        due = working_days_after(from_on, working_days, known)
        done_on = date.fromisoformat(done) if done else None
        yield Deadline(
            filing=name, duty=duty, from_on=from_on, working_days=working_days, due_on=due.day,
            certain=due.certain, calendar_ends_on=due.calendar_ends_on, done_on=done_on,
            state=_state(due.day, done_on, today), rule=rule,
        )  # fmt: skip


def _state(due_on: date, done_on: date | None, today: date) -> State:
    if done_on is not None and done_on <= today:
        return "done" if done_on <= due_on else "late"
    return "due" if today <= due_on else "overdue"
