"""Verdicts of moderation: what an engine found, and what the policy makes of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class Level(IntEnum):
    """How grave a finding is."""

    NONE = 0
    LOW = 1
    """Worth a look, not worth a refusal."""
    MEDIUM = 2
    HIGH = 3
    """Certain and prohibited."""


class Action(IntEnum):
    """What becomes of what was found, the strictest last."""

    PASS = 0
    REVIEW = 1
    """It passes, and somebody is to look at it."""
    MASK = 2
    """Its characters become `*`."""
    REPLACE = 3
    """A text of the policy stands instead of it."""
    BLOCK = 4
    """The call is refused, or its answer ends."""


class Direction(StrEnum):
    """Whose words are screened."""

    INPUT = "input"
    """The caller's."""
    OUTPUT = "output"
    """The model's."""


class RiskFinding(msgspec.Struct, frozen=True):
    """One thing found in one text."""

    category: str
    """Of `core.moderation.risks`."""
    level: Level
    score: float = 1.0
    """How sure the engine is, 0 to 1; 1 for what a rule found."""
    text: int = 0
    """Which of the texts it is in, counted from 0."""
    span: tuple[int, int] | None = None
    """From and to in that text, in characters; None where the engine does not say where."""
    label: str = ""
    """The engine's own word for it, or the rule's name; never a caller's text."""


CLASSIFIER = "classifier"
"""What findings of the local classifier are labelled; their score is its probability."""
_Probability = Annotated[float, Meta(gt=0, le=1)]


class ClassifierThresholds(msgspec.Struct, frozen=True):
    """From which probability on the local classifier's opinion is a finding, by level."""

    medium: _Probability = 0.5
    high: _Probability = 0.9

    def __post_init__(self) -> None:
        if self.medium > self.high:
            raise ValueError("`medium` may not be above `high`")

    def level(self, probability: float) -> Level:
        if probability >= self.high:
            return Level.HIGH
        return Level.MEDIUM if probability >= self.medium else Level.NONE


class EngineCost(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What one moderation engine is owed for a call."""

    engine: str
    requests: int
    """It answered."""
    cost_pico: int
    """In `ENGINE_CURRENCY`."""

    @property
    def upstream(self) -> str:
        """Whom it is owed to, by the name that ledger and sums have."""
        return f"{ENGINE_PREFIX}{self.engine}"


ENGINE_CURRENCY = "CNY"
ENGINE_PREFIX = "moderation/"
"""Of engines, beside upstreams: no upstream's name has a slash."""


class EngineVerdict(msgspec.Struct, frozen=True):
    """What one engine found in what it was given."""

    engine: str
    findings: tuple[RiskFinding, ...] = ()
    request_id: str = ""
    """The engine's own, for questions to its vendor."""
    costs: tuple[EngineCost, ...] = ()
    """What vendors charge for it, in pico-yuan."""
    disputed: tuple[str, ...] = ()
    """Categories on which the engines of a review disagree: for a person to decide."""
    degraded: tuple[str, ...] = ()
    """What was not as it should be on the way to it; as `ENGINE:failed:timeout`,
    `ENGINE:hedged`, `ENGINE:single`."""

    @property
    def level(self) -> Level:
        """Of the gravest finding."""
        return max((finding.level for finding in self.findings), default=Level.NONE)


class EngineContext(msgspec.Struct, frozen=True):
    """What an engine may be told beside the words; ids only, nothing that names a person."""

    call_id: str
    tenant: str
    session: str = ""
    """The same for all texts of one stream, so that an engine may see them together."""
    user: str = ""
    """The end user's id as its caller gave it, hashed."""
    deadline_s: float = 0.3
    """The longest that the verdict may take, in seconds."""
    policy_version: str = ""
    """Of the policy in force: a verdict is kept for calls under the same."""
    fails_closed: bool = True
    """What the policy says of engines without a verdict, where they do not say it themselves."""
    owe: Callable[[EngineCost], None] | None = None
    """Told what is owed for requests that are withdrawn before their answers."""


class EngineFailure(StrEnum):
    """Why there is no verdict."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    THROTTLED = "throttled"
    """Too many requests, or its quota is used up."""
    REFUSED = "refused"
    """It does not take our credentials, or our request."""
    GARBAGE = "garbage"
    """What came back is no answer of this engine."""


class EngineFailed(Exception):
    """An engine gave no verdict; what becomes of the call is the policy's to say."""

    def __init__(
        self,
        engine: str,
        failure: EngineFailure,
        detail: str = "",
        *,
        closed: bool = False,
        costs: tuple[EngineCost, ...] = (),
        degraded: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            detail: the vendor's error code; no text of callers, no credential.
            closed: whether the call may not go on without a verdict, whatever the policy says of
                engines that fail: the engine itself is to fail closed.
            costs: of what was answered all the same.
            degraded: see `EngineVerdict.degraded`.
        """
        super().__init__(f"{engine}: {failure.value} {detail}".rstrip())
        self.engine, self.failure, self.detail = engine, failure, detail
        self.closed, self.costs, self.degraded = closed, costs, degraded
