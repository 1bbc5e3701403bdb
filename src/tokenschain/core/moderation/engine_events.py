"""Audit events of moderation engines: every degradation and every disagreement, one object each."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tokenschain.core.moderation.verdict import EngineFailure


class EngineEventKind(StrEnum):
    """What happened."""

    FAILED = "moderation_engine_failed"
    """An engine gave no verdict."""
    HEDGED = "moderation_engine_hedged"
    """An engine was slow, so that the next one was asked beside it."""
    SINGLE = "moderation_single_verdict"
    """One verdict stands for the two that were wanted."""
    DISPUTED = "moderation_disputed"
    """Engines disagree: for review."""
    NO_VERDICT = "moderation_no_verdict"
    """Nobody gave a verdict: the policy decides, and closed where an engine is to fail closed."""


class EngineEvent(msgspec.Struct, frozen=True):
    """One of them. It holds no text of callers."""

    kind: EngineEventKind
    engine: str
    call_id: str
    tenant: str
    failure: EngineFailure | None = None
    detail: str = ""
    """The vendor's error code, or the levels of a disagreement by engine."""
    category: str = ""
    """What is in dispute."""
