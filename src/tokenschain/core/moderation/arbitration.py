"""Arbitration between moderation engines: what their verdicts on the same texts come to.

Vendors divide the same ground differently, so verdicts are compared by text and family of
categories (`values`, `discrimination`, ...), not by category. A family is flagged from
`Level.MEDIUM` on; engines disagree where some flag it and others do not. Every disagreement is
named, whatever becomes of it: a person looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import groupby

import msgspec

from tokenschain.core.moderation.verdict import EngineVerdict, Level, RiskFinding

FLAGGED = Level.MEDIUM


class ArbitrationRule(StrEnum):
    """Whose word counts."""

    AGREE = "agree"
    """What all engines flag counts, in the mildest of their levels; the rest is for review."""
    STRICTER = "stricter"
    """What any engine finds counts, in its own level."""
    THIRD = "third"
    """Where two disagree, the majority with a third; the stricter of the two while it is silent."""


class OnFailure(StrEnum):
    """What becomes of a call without an engine's verdict."""

    BLOCK = "block"
    """It is refused: fail closed."""
    LOCAL = "local"
    """The other engines decide, or the local rules alone."""


class Dispute(msgspec.Struct, frozen=True):
    """Engines that disagree on one text."""

    category: str
    """Of the gravest finding in question."""
    text: int
    levels: tuple[tuple[str, Level], ...]
    """Each engine and how grave it is by its word."""


class Arbitrated(msgspec.Struct, frozen=True):
    """What the verdicts come to."""

    findings: tuple[RiskFinding, ...]
    disputes: tuple[Dispute, ...] = ()
    needs_third: bool = False
    """Whether one more verdict would decide."""


def arbitrate(verdicts: Sequence[EngineVerdict], rule: ArbitrationRule) -> Arbitrated:
    """Weigh the verdicts of different engines on the same texts; at least one.

    Raises:
        ValueError: none is given: no verdict is never a harmless one.
    """
    if not verdicts:
        raise ValueError("there is no verdict to weigh")
    findings: list[RiskFinding] = []
    disputes: list[Dispute] = []
    for found in _by_place(verdicts):
        levels = [_level(found, verdict.engine) for verdict in verdicts]
        flagged = sum(level >= FLAGGED for level in levels)
        if 0 < flagged < len(levels):
            disputes.append(_dispute(found, verdicts, levels))
        at_most = _at_most(levels, rule)
        findings += (_capped(finding, at_most) for _, finding in found)
    needs_third = rule is ArbitrationRule.THIRD and len(verdicts) == 2 and bool(disputes)
    return Arbitrated(tuple(dict.fromkeys(findings)), tuple(disputes), needs_third)


_Found = list[tuple[str, RiskFinding]]
"""Engines and what they found, in one text and family."""


def _by_place(verdicts: Sequence[EngineVerdict]) -> Iterator[_Found]:
    def place(one: tuple[str, RiskFinding]) -> tuple[int, str]:
        return one[1].text, one[1].category.partition("/")[0]

    every = [(verdict.engine, finding) for verdict in verdicts for finding in verdict.findings]
    for _, found in groupby(sorted(every, key=place), place):
        yield list(found)


def _level(found: _Found, engine: str) -> Level:
    return max((finding.level for name, finding in found if name == engine), default=Level.NONE)


def _at_most(levels: Sequence[Level], rule: ArbitrationRule) -> Level:
    """How grave a family counts at most; what was found at all is worth a look."""
    if rule is ArbitrationRule.AGREE:
        return max(Level.LOW, min(levels))
    if rule is ArbitrationRule.THIRD and len(levels) > 2:
        return max(Level.LOW, sorted(levels)[(len(levels) - 1) // 2])  # as the majority has it
    return Level.HIGH


def _capped(finding: RiskFinding, at_most: Level) -> RiskFinding:
    if finding.level <= at_most:
        return finding
    return msgspec.structs.replace(finding, level=at_most)


def _dispute(found: _Found, verdicts: Sequence[EngineVerdict], levels: Sequence[Level]) -> Dispute:
    _, gravest = max(found, key=lambda one: one[1].level)
    engines = [verdict.engine for verdict in verdicts]
    return Dispute(gravest.category, gravest.text, tuple(zip(engines, levels, strict=True)))
