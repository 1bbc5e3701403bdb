"""What gateways ask the process that compares questions, as MessagePack."""

from __future__ import annotations

import msgspec

FIND_PATH, LEARN_PATH, DROP_PATH = "/find", "/learn", "/drop"
HEALTH_PATH, METRICS_PATH = "/health", "/metrics"


class Find(msgspec.Struct, array_like=True):
    """Is there an answer to a question that means the same?"""

    space: bytes
    group: str
    """Callers whose questions share one bound: `tenant/project/model`."""
    question: str
    exact: int = 0
    """Answers given to the very same question since the last time this was asked."""


class Finding(msgspec.Struct, array_like=True):
    """What was found; no entry where nothing may be given."""

    likeness: float = 0.0
    key: bytes = b""
    entry: bytes = b""


class Drop(msgspec.Struct, array_like=True):
    """An answer was flushed, or somebody said that it is wrong."""

    space: bytes
    group: str
    key: bytes
    wrong_max: float


class Learn(msgspec.Struct, array_like=True):
    """A question was answered afresh."""

    space: bytes
    group: str
    key: bytes
    question: str
    entry: bytes
    wrong_max: float
