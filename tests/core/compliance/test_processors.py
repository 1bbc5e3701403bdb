"""Register of processors: which entries somebody looked at within a year."""

from __future__ import annotations

import datetime

from tokenschain.core.compliance.processors import Processor, unreviewed


def test_a_review_is_of_the_last_year_and_of_no_day_to_come() -> None:
    days = ("2026-11-28", "2026-11-29", "2025-11-28", "2025-11-26", "2099-01-01", "")
    register = {day: Processor(vendor="v", purpose="p", reviewed_on=day) for day in days}
    late = unreviewed(register, datetime.date(2026, 11, 28))
    assert late == ["", "2025-11-26", "2026-11-29", "2099-01-01"]
