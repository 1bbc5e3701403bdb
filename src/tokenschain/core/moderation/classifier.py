"""Local text classifier: offensive Chinese text by hashed character n-grams, linear and small.

Keywords miss what is said in other words. This model sums a weight for each of a text's 1- to
3-grams, normalized as keywords are matched, so that it costs some 0.1 ms for 4 KB. N-grams are
known by hash only: no training text can be read from the weights, which
`bench.moderation_classifier` fits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.core.moderation.verdict import (
    CLASSIFIER,
    ClassifierThresholds,
    Level,
    RiskFinding,
)

TABLE_BITS = 20
TOPIC_BITS = 16
WINDOW_CHARACTERS = 60
"""Normalized characters that are judged together; two of three training texts are shorter. With
longer ones, an offensive sentence drowns in a long text; with shorter ones, accuracy falls."""
STRIDE_CHARACTERS = 30
GRAM_CHARACTERS_MAX = 3
TOPICS = ("discrimination/ethnicity", "discrimination/region", "discrimination/gender")
OTHER_TOPIC = "discrimination/other"
_FACTOR = np.uint32(2_654_435_761)
"""Knuth's multiplicative hash: 2^32 over the golden ratio."""
_FOLD = np.uint32(15)
_BEGIN, _END = "\x02", "\x03"
_TOPIC_MIN = 0.0

Floats = npt.NDArray[np.float32]
Buckets = npt.NDArray[np.uint32]


class ClassifierWeights(NamedTuple):
    """What was learned: a table by hash of n-grams, and one for each topic."""

    table: npt.NDArray[np.int8]
    scale: float
    """What one step of the table is."""
    bias: float
    topics: npt.NDArray[np.int8]
    topic_scale: float


class TextClassifier:
    """Says how likely a text is offensive, and against whom."""

    def __init__(self, normalizer: Normalizer, weights: ClassifierWeights) -> None:
        self._normalizer, self._weights = normalizer, weights

    def probability(self, text: str) -> float:
        """Of the most offensive part of a text, 0 to 1."""
        return self._worst(self._normalizer.normal(text))[0]

    def find(self, text: str, thresholds: ClassifierThresholds) -> list[RiskFinding]:
        """The worst part of a text, if it is bad enough; its span is of the text as written."""
        normal = self._normalizer.normal(text)
        probability, start, end = self._worst(normal)
        level = thresholds.level(probability)
        if level is Level.NONE:
            return []
        offsets = self._normalizer.offsets(text)
        span = (offsets[start], offsets[end - 1] + 1)
        return [
            RiskFinding(
                self._topic(normal[start:end]),
                level,
                round(probability, 3),
                span=span,
                label=CLASSIFIER,
            )
        ]

    def _worst(self, normal: str) -> tuple[float, int, int]:
        """The highest probability of all windows, and which it is."""
        size = len(normal)
        if not size:
            return 0.0, 0, 0
        sums = self._running(normal)
        starts = np.arange(0, max(1, size - STRIDE_CHARACTERS), STRIDE_CHARACTERS)
        ends = np.minimum(size, starts + WINDOW_CHARACTERS)
        # One more on either side: the marks of the text's beginning and end.
        first, last = starts + (starts > 0), ends + 1 + (ends == size)
        scores = (sums[last] - sums[first]) / np.sqrt(GRAM_CHARACTERS_MAX * (last - first))
        worst = int(scores.argmax())
        score = float(scores[worst]) * self._weights.scale + self._weights.bias
        score = max(-30.0, min(30.0, score))
        return 1 / (1 + math.exp(-score)), int(starts[worst]), int(ends[worst])

    def _running(self, normal: str) -> npt.NDArray[np.int64]:
        """Sums of the weights of all n-grams that end before each character, in steps."""
        grams = n_grams(normal)
        each = np.zeros(len(grams[0]), np.int64)
        for size, buckets in enumerate(grams):
            each[size:] += self._weights.table[buckets >> np.uint32(32 - TABLE_BITS)]
        sums = np.zeros(len(each) + 1, np.int64)
        np.cumsum(each, out=sums[1:])
        return sums

    def _topic(self, normal: str) -> str:
        buckets = np.concatenate(n_grams(normal)) >> np.uint32(32 - TOPIC_BITS)
        scores = self._weights.topics[:, buckets].sum(axis=1, dtype=np.int64)
        best = int(scores.argmax())
        mean = float(scores[best]) * self._weights.topic_scale / len(buckets)
        return TOPICS[best] if mean > _TOPIC_MIN else OTHER_TOPIC


def n_grams(normal: str) -> list[Buckets]:
    """Hashes of a text's n-grams, by length: of those that end at each character in turn."""
    codes = np.frombuffer(f"{_BEGIN}{normal}{_END}".encode("utf-32-le", "replace"), np.uint32)
    hashes = np.zeros(len(codes), np.uint32)
    found = []
    for size in range(1, GRAM_CHARACTERS_MAX + 1):
        hashes = (hashes[: len(codes) - size + 1] + codes[size - 1 :]) * _FACTOR
        hashes = hashes ^ (hashes >> _FOLD)
        found.append(hashes)
    return found
