"""Evidence of the register of processors: who is handed data of calls."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from tokenschain.control.compliance.evidence.finding import (
    PlatformFacts,
    QueryResult,
    gaps_if,
    named,
)
from tokenschain.core import presentation
from tokenschain.core.compliance import processors
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.infra.config.moderation import ModerationSettings


def processors_registered(facts: PlatformFacts) -> QueryResult:
    """Whether each upstream and engine that is somebody else's has an entry, with a contract and a
    review within a year."""
    others = {one.id for one in facts.snapshot.upstreams.values() if one.zone != "own"}
    engines = engines_told(facts.settings.moderation, facts.snapshot.moderation.values())
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


def engines_told(settings: ModerationSettings, policies: Iterable[ModerationPolicy]) -> set[str]:
    """The cloud engines that texts are handed to: a policy that only watches asks none, and a
    review is made by several."""
    names = {name for one in policies if one.state != "shadow" for name in one.engines}
    reviews = settings.reviews
    return {
        engine
        for name in names
        for engine in (reviews[name].engines if name in reviews else (name,))
    }
