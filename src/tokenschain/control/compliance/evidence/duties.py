"""Evidence of duties to authorities and people: reports and answers that are due."""

from __future__ import annotations

from tokenschain.control.compliance.evidence.finding import (
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.control.duties import incidents, subject_requests

_REQUESTS_READ_MAX = 1_000


def incidents_reported(facts: PlatformFacts) -> QueryResult:
    """Whether the time for the report of an incident has run out."""
    running = incidents.running(facts.db, None, int(facts.now_s))
    late = {one.incident["id"] for one in running if one.clock.state == "overdue"}
    return QueryResult(
        {"reports_due": len(running)},
        gaps_if(late, "incident_reports_overdue", count=len(late), who=named(late)),
    )


def requests_answered(facts: PlatformFacts) -> QueryResult:
    """Whether the time for the answer to a person's request has run out."""
    waiting = subject_requests.due(facts.db, None, _REQUESTS_READ_MAX)
    late = {one["id"] for one in waiting if one["due_at_s"] < facts.now_s}
    return QueryResult(
        {"waiting": len(waiting)},
        gaps_if(late, "requests_overdue", count=len(late), who=named(late)),
    )
