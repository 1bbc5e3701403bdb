"""Incidents: what they are, by when they are reported, and whether that clock has run out.

National Cybersecurity Incident Reporting Measures, in force since 2025-11-01: within an hour for
critical information infrastructure, two hours for central bodies, four hours for any other
operator, from the tier that Chinese calls 较大 on. The final report within 30 days of the end is
known from secondary sources only, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import msgspec

IncidentKind = Literal["content", "personal-data", "security", "availability"]
Severity = Literal["general", "larger", "major", "extremely-major"]
"""一般, 较大, 重大, 特别重大."""
OperatorKind = Literal["operator", "central-body", "critical-infrastructure"]
ClockName = Literal["first-report", "final-report"]
ClockState = Literal["running", "overdue", "done", "late"]
HOUR_S, DAY_S = 3_600, 86_400
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
REPORTED: tuple[Severity, ...] = SEVERITIES[SEVERITIES.index("larger") :]
"""Those that have clocks."""
FIRST_REPORT_S: Mapping[OperatorKind, int] = {
    "critical-infrastructure": HOUR_S, "central-body": 2 * HOUR_S, "operator": 4 * HOUR_S,
}  # fmt: skip
FINAL_REPORT_S = 30 * DAY_S
_MEASURES = "National Cybersecurity Incident Reporting Measures"


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A report that is due."""

    name: ClockName
    started_at_s: int
    due_at_s: int
    done_at_s: int | None
    state: ClockState
    rule: str
    """Where the time is written."""
    confirmed: bool
    """Whether the rule's text was seen; else it is known from other sources."""


def clocks_of(
    severity: Severity,
    operator: OperatorKind,
    detected_at_s: int,
    reported_at_s: int | None,
    ended_at_s: int | None,
    final_at_s: int | None,
    now_s: int,
) -> list[Clock]:
    """The clocks of an incident; none below the tier from which it is reported."""
    if severity not in REPORTED:
        return []
    return list(_clocks(operator, detected_at_s, reported_at_s, ended_at_s, final_at_s, now_s))


def _clocks(
    operator: OperatorKind,
    detected_at_s: int,
    reported_at_s: int | None,
    ended_at_s: int | None,
    final_at_s: int | None,
    now_s: int,
) -> Iterator[Clock]:
    first = detected_at_s + FIRST_REPORT_S[operator]
    yield Clock(
        name="first-report", started_at_s=detected_at_s, due_at_s=first, done_at_s=reported_at_s,
        state=_state(first, reported_at_s, now_s), rule=_MEASURES, confirmed=False,
    )  # fmt: skip
    if ended_at_s is not None:
        final = ended_at_s + FINAL_REPORT_S
        yield Clock(
            name="final-report", started_at_s=ended_at_s, due_at_s=final, done_at_s=final_at_s,
            state=_state(final, final_at_s, now_s), rule=_MEASURES, confirmed=False,
        )  # fmt: skip


def _state(due_at_s: int, done_at_s: int | None, now_s: int) -> ClockState:
    if done_at_s is not None:
        return "done" if done_at_s <= due_at_s else "late"
    return "running" if now_s <= due_at_s else "overdue"
