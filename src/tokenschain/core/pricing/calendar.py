"""Chinese working-day calendar, and price schedules by hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec

CHINA_UTC_OFFSET_H = 8
"""China has one time zone and no summer time."""


class DayOff(msgspec.Struct, frozen=True):
    """A statutory holiday with its neighbours, and the weekend days worked for it."""

    first: date
    last: date
    worked: tuple[date, ...] = ()


Holidays = Mapping[int, tuple[DayOff, ...]]
"""By year."""

# Holiday arrangements published by the General Office of the State Council: that for 2025 on
# 2024-11-12, that for 2026 on 2025-11-04 (compared with the notice's text). A year that is
# missing here has no holidays, so that its weekdays are billed as working days: never less than
# a vendor may charge.
HOLIDAYS: Holidays = {
    2025: (
        DayOff(date(2025, 1, 1), date(2025, 1, 1)),
        DayOff(date(2025, 1, 28), date(2025, 2, 4), (date(2025, 1, 26), date(2025, 2, 8))),
        DayOff(date(2025, 4, 4), date(2025, 4, 6)),
        DayOff(date(2025, 5, 1), date(2025, 5, 5), (date(2025, 4, 27),)),
        DayOff(date(2025, 5, 31), date(2025, 6, 2)),
        DayOff(date(2025, 10, 1), date(2025, 10, 8), (date(2025, 9, 28), date(2025, 10, 11))),
    ),
    2026: (
        DayOff(date(2026, 1, 1), date(2026, 1, 3), (date(2026, 1, 4),)),
        DayOff(date(2026, 2, 15), date(2026, 2, 23), (date(2026, 2, 14), date(2026, 2, 28))),
        DayOff(date(2026, 4, 4), date(2026, 4, 6)),
        DayOff(date(2026, 5, 1), date(2026, 5, 5), (date(2026, 5, 9),)),
        DayOff(date(2026, 6, 19), date(2026, 6, 21)),
        DayOff(date(2026, 9, 25), date(2026, 9, 27)),
        DayOff(date(2026, 10, 1), date(2026, 10, 7), (date(2026, 9, 20), date(2026, 10, 10))),
    ),
}


class PeakSchedule(msgspec.Struct, frozen=True):
    """When a price list's peak prices hold, in Beijing time; all else is off-peak."""

    windows: tuple[tuple[str, str], ...]
    """From and until, as `09:00`; until is exclusive."""
    holidays_off_peak: bool = True
    worked_weekends_peak: bool = False
    """Whether a Saturday or Sunday that is worked counts as a weekday."""


def is_holiday(day: date) -> bool:
    """Whether a day belongs to a statutory holiday's days off."""
    return any(off.first <= day <= off.last for off in HOLIDAYS.get(day.year, ()))


def is_worked_weekend(day: date) -> bool:
    """Whether a Saturday or Sunday is worked in exchange for a holiday."""
    return any(day in off.worked for off in HOLIDAYS.get(day.year, ()))


def is_peak(schedule: PeakSchedule, unix_s: float) -> bool:
    """Whether a schedule's peak prices hold at a moment."""
    when = datetime.fromtimestamp(unix_s, UTC) + timedelta(hours=CHINA_UTC_OFFSET_H)
    day = when.date()
    if day.weekday() >= 5 and not (schedule.worked_weekends_peak and is_worked_weekend(day)):
        return False
    if schedule.holidays_off_peak and is_holiday(day):
        return False
    now = when.strftime("%H:%M")
    return any(start <= now < end for start, end in schedule.windows)


def is_working_day(day: date, known: Holidays = HOLIDAYS) -> bool:
    """Whether people work in China on a day; of a year that is not known, by weekday."""
    offs = known.get(day.year, ())
    if any(day in off.worked for off in offs):
        return True
    return day.weekday() < 5 and not any(off.first <= day <= off.last for off in offs)


def last_known_day(known: Holidays = HOLIDAYS) -> date:
    """The last day up to which every year's holidays are known, from the first known year on."""
    year = min(known)
    while year + 1 in known:
        year += 1
    return date(year, 12, 31)
