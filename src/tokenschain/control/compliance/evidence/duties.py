"""Evidence of duties to authorities and people: reports and answers that are due."""

from __future__ import annotations

from sqlalchemy import Table, select

from tokenschain.control.compliance.evidence.finding import (
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.control.duties import incidents, subject_requests
from tokenschain.infra.database.duty_tables import incidents as incident_rows
from tokenschain.infra.database.duty_tables import subject_requests as request_rows

_REQUESTS_READ_MAX = 1_000


def incidents_reported(facts: PlatformFacts) -> QueryResult:
    """Whether the time for the report of an incident has run out."""
    running = incidents.running(facts.db, None, int(facts.now_s))
    late = {one.incident["id"] for one in running if one.clock.state == "overdue"}
    return QueryResult(
        {"reports_due": len(running)},
        gaps_if(late, "incident_reports_overdue", count=len(late), who=named(late)),
        gaps_if(_is_empty(facts, incident_rows), "no_incident"),
    )


def requests_answered(facts: PlatformFacts) -> QueryResult:
    """Whether the time for the answer to a person's request has run out."""
    waiting = subject_requests.due(facts.db, None, _REQUESTS_READ_MAX)
    late = {one["id"] for one in waiting if one["due_at_s"] < facts.now_s}
    return QueryResult(
        {"waiting": len(waiting)},
        gaps_if(late, "requests_overdue", count=len(late), who=named(late)),
        gaps_if(_is_empty(facts, request_rows), "no_request"),
    )


def _is_empty(facts: PlatformFacts, table: Table) -> bool:
    return facts.db.execute(select(table.c.id).limit(1)).first() is None
