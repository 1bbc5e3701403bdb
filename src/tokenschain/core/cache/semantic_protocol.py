"""What gateways ask the process that compares questions, as MessagePack."""

from __future__ import annotations

import msgspec

FIND_PATH, LEARN_PATH, DROP_PATH = "/find", "/learn", "/drop"
REPORT_PATH, CLUSTERS_PATH = "/report", "/clusters"
HEALTH_PATH, METRICS_PATH = "/health", "/metrics"


class Find(msgspec.Struct, array_like=True):
    """Is there an answer to a question that means the same?"""

    namespace: bytes
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

    namespace: bytes
    group: str
    key: bytes
    wrong_max: float


class Report(msgspec.Struct, array_like=True):
    """What was measured of one group, and what would come of agreeing otherwise."""

    group: str
    wrong_max: float
    """As agreed."""
    wrong: float
    """Share of wrong answers of all given from the cache, and its 95 % interval."""
    low: float
    high: float
    checked: int
    served: int
    threshold: float | None
    outlooks: list[tuple[float, float | None, float, float]]
    """By share agreed: threshold, share of lookups by meaning served, share of wrong answers."""


class AskClusters(msgspec.Struct, array_like=True):
    """Which questions of a tenant ask the same?"""

    tenant: str
    keys: list[bytes]
    """Of answers that were given most often, the most given first."""
    count_max: int


class Cluster(msgspec.Struct, array_like=True):
    """Questions that were answered alike."""

    group: str
    keys: list[bytes]
    questions: list[str]
    """As they were asked, in the order of `keys`; so many at most."""
    answer: str


class Learn(msgspec.Struct, array_like=True):
    """A question was answered afresh."""

    namespace: bytes
    group: str
    key: bytes
    question: str
    entry: bytes
    wrong_max: float
