"""Semantic cache protocol: the messages to the semantic process, as MessagePack arrays.

Fields may be added at the end, never moved: gateways, control and the semantic process are upgraded
one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

FIND_PATH, LEARN_PATH, DROP_PATH = "/find", "/learn", "/drop"
REPORT_PATH, CLUSTERS_PATH, PAIRS_PATH = "/report", "/clusters", "/pairs"
HEALTH_PATH, METRICS_PATH = "/health", "/metrics"


class Find(msgspec.Struct, array_like=True):
    """Look for a cached answer to a question of the same meaning."""

    namespace: bytes
    group: str
    """Callers that share one error bound: `tenant/project/model`."""
    question: str
    exact: int = 0
    """Exact hits of the group since its last `Find`."""


class Finding(msgspec.Struct, array_like=True):
    """What was found; `entry` is empty where nothing may be served."""

    hit_confidence: float = 0.0
    """Probability that the best candidate is right, whether it is served or not."""
    key: bytes = b""
    entry: bytes = b""
    learning: bool = False
    """Too few pairs of questions were compared so far: nothing is served yet."""


class Drop(msgspec.Struct, array_like=True):
    """A cached answer was flushed, or reported as wrong."""

    namespace: bytes
    group: str
    key: bytes
    false_hit_rate_max: float


class ThresholdPreview(NamedTuple):
    """What another `false_hit_rate_max` would do, as far as the labels tell."""

    false_hit_rate_max: float
    threshold: float | None
    """Hit confidence from which cached answers would be served; None: none would be."""
    served_share: float = 0.0
    """Share of the semantic lookups that would be answered from the cache."""
    false_hit_rate: float = 0.0
    """Expected, of all hits, exact ones included; without the margin."""


class Report(msgspec.Struct, array_like=True):
    """The measured false hit rate of one group, and what other limits would do."""

    group: str
    false_hit_rate_max: float
    """As configured."""
    false_hit_rate: float
    """Share of wrong answers of all cache hits, and its 95 % interval."""
    low: float
    high: float
    checked: int
    """Shadow samples behind it."""
    served: int
    threshold: float | None
    """Hit confidence from which answers are served; None: none are."""
    previews: list[ThresholdPreview]
    pairs: int = 0
    """Pairs of questions that were compared."""
    pairs_needed: int = 0
    """Before the first of them nothing is served."""


PAIRS_MAX, PAIR_BYTES_MAX = 20, 16_000
"""Of pairs that are taught at once, and of their questions in UTF-8: some seconds of comparing.
A long text takes longer than as much in short ones; one pair of the longest fits."""
QUESTION_CHARACTERS_MAX = 2_000
"""Of a pair."""


def pair_bytes(question: str, other: str) -> int:
    """What a pair is counted as, of `PAIR_BYTES_MAX`."""
    return len(f"{question}{other}".encode("utf-8", "replace"))


class LabelledPair(msgspec.Struct, array_like=True):
    """Two questions of which somebody knows whether one answer is right for both."""

    question: str
    other: str
    same: bool


class TeachPairs(msgspec.Struct, array_like=True):
    """Learn from pairs before there are calls."""

    group: str
    false_hit_rate_max: float
    pairs: list[LabelledPair]


class PairsTaught(msgspec.Struct, array_like=True):
    """What came of it."""

    learned: int
    unlike: int
    """Pairs so unlike that they would never be compared: they tell nothing."""
    pairs: int
    """Of the group, those included that calls brought."""
    pairs_needed: int
    threshold: float | None
    """See `Report.threshold`."""


class AskClusters(msgspec.Struct, array_like=True):
    """Which questions of a tenant ask the same?"""

    tenant: str
    keys: list[bytes]
    """Of the answers served most often, the most served first."""
    count_max: int


class Cluster(msgspec.Struct, array_like=True):
    """A query cluster: questions with equivalent answers."""

    group: str
    keys: list[bytes]
    questions: list[str]
    """As they were asked, in the order of `keys`; only the first so many."""
    answer: str


class Learn(msgspec.Struct, array_like=True):
    """A question was answered by an upstream."""

    namespace: bytes
    group: str
    key: bytes
    question: str
    entry: bytes
    false_hit_rate_max: float
