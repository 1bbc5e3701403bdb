"""Evidence of the register of processors: who is handed data of calls."""

from __future__ import annotations

import datetime

from tokenschain.control.compliance.evidence.finding import (
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.core import presentation
from tokenschain.core.compliance import processors


def processors_registered(facts: PlatformFacts) -> QueryResult:
    """Whether each upstream and engine that is somebody else's has an entry, with a contract and a
    review within a year."""
    others = {one.id for one in facts.snapshot.upstreams.values() if one.zone != "own"}
    reviews = facts.settings.moderation.reviews
    named_by = {
        name
        for policy in facts.snapshot.moderation.values()
        if policy.state == "active"
        for name in policy.engines
    }
    engines = {
        engine
        for name in named_by
        for engine in (reviews[name].engines if name in reviews else (name,))
    }
    register = facts.processors
    missing = processors.missing(register.values(), others, engines)
    today = datetime.date.fromisoformat(presentation.date(facts.now_s))
    old = processors.unreviewed(register, today)
    without = processors.without_contract(register)
    return QueryResult(
        {"upstreams": len(others), "engines": len(engines), "entries": len(register)},
        [
            *gaps_if(missing, "processors_missing", count=len(missing), who=named(missing)),
            *gaps_if(without, "processors_without_contract", who=named(without)),
            *gaps_if(old, "processors_unreviewed", who=named(old)),
        ],
        gaps_if(not others and not engines, "no_processor"),
    )
