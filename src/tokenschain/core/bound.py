"""Keeps the share of wrong answers among those given from the cache below what was agreed.

Nobody sets a threshold. Every answer that was given afresh although a kept one was near is a
label: would the kept one have been right? From these the lowest threshold is chosen at which
the estimate of wrong answers, with its standard error, stays within the bound. Until enough is
known nothing is served by meaning.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

WRONG_MAX = 0.01
LABELS_MIN = 150
LABELS_KEPT = 2_000
FRESHNESS = 0.9985
"""Weight of a label after one more came: what callers ask and what is right for it drifts."""
FIT_EVERY = 25
SHADOW_SHARE = 0.06
"""Share of would-be hits that are answered afresh, to see whether they are right."""
SHADOW_NEAR_SHARE = 0.2
"""Of those close to the threshold, where it is least known."""
NEAR = 0.02
SEMANTIC_WRONG_MAX = 0.1
"""However many exact hits there are beside them, this share of wrong ones is too much."""
ERRORS = 1.5
"""Standard errors added to the estimate."""
MEMORY = 0.999
"""Weight of a count after one more lookup: what happened some thousand lookups ago fades."""


class Label(NamedTuple):
    """One kept answer that was checked against a fresh one."""

    likeness: float
    right: bool
    weight: float
    """How many lookups it stands for: one that was drawn as a sample stands for the others."""


class Choice(Enum):
    """What becomes of a lookup that found something."""

    SERVE = "serve"
    CHECK = "check"
    """Answered afresh, as a sample."""
    MISS = "miss"


class Wrongness(NamedTuple):
    """Measured share of wrong answers among those given from the cache, exact ones included."""

    estimate: float
    low: float
    high: float
    """The 95 % interval (Wilson)."""
    labels: int


class Bound:
    """The threshold of one group of callers whose questions are alike."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._labels: deque[Label] = deque(maxlen=LABELS_KEPT)
        self._since_fit = 0
        self._exact = 0.0
        self._looked = 0.0
        self.threshold: float | None = None
        self.exact_served = self.served = 0
        self.checked = 0
        self._checked_right = self._checked_wrong = self._squares = 0.0

    def exact(self) -> None:
        """An answer was given to the very same question."""
        self._exact = self._exact * MEMORY + 1
        self._looked *= MEMORY
        self.exact_served += 1

    def choose(self, likeness: float) -> tuple[Choice, float]:
        """What becomes of a lookup whose best answer has this likeness, and the weight that
        its label will have."""
        self._exact *= MEMORY
        self._looked = self._looked * MEMORY + 1
        threshold = self.threshold
        if threshold is None or likeness < threshold:
            return Choice.MISS, 1.0
        share = SHADOW_NEAR_SHARE if likeness < threshold + NEAR else SHADOW_SHARE
        if self._dice() < share:
            self.checked += 1
            return Choice.CHECK, 1.0 / share
        self.served += 1
        return Choice.SERVE, 0.0

    def learn(self, likeness: float, right: bool, weight: float, wrong_max: float) -> None:
        """A kept answer was compared with a fresh one."""
        self._labels.append(Label(likeness, right, weight))
        if weight > 1:
            self._squares += weight * weight
            if right:
                self._checked_right += weight
            else:
                self._checked_wrong += weight
        self._since_fit += 1
        if self._since_fit >= FIT_EVERY and len(self._labels) >= LABELS_MIN:
            self._since_fit = 0
            self.threshold = self._fit(wrong_max)

    def _fit(self, wrong_max: float) -> float | None:
        """The lowest threshold within the bound; None where there is none."""
        newest = len(self._labels) - 1
        labels = sorted(
            (
                label._replace(weight=label.weight * FRESHNESS ** (newest - at))
                for at, label in enumerate(self._labels)
            ),
            reverse=True,
        )
        # What a label stands for, as a share of all lookups by meaning.
        total = sum(label.weight for label in labels)
        exact_per_lookup = self._exact / max(self._looked, 1.0)
        exact = exact_per_lookup * total
        best: float | None = None
        hits = wrong = variance = 0.0
        for at, label in enumerate(labels):
            hits += label.weight
            if not label.right:
                wrong += label.weight
                variance += label.weight**2
            following = labels[at + 1].likeness if at + 1 < len(labels) else -1.0
            if label.likeness == following:
                continue
            # The next one could have been wrong: nobody is certain from a few right ones.
            bad = wrong + ERRORS * math.sqrt(variance + 1.0)
            if bad <= wrong_max * (exact + hits) and wrong <= SEMANTIC_WRONG_MAX * hits:
                best = label.likeness
        return best

    def wrongness(self) -> Wrongness:
        """What was measured of what is served, from the samples above the threshold."""
        count = self._checked_right + self._checked_wrong
        served = self.exact_served + self.served
        if not count or not served:
            return Wrongness(0.0, 0.0, 1.0, 0)
        by_meaning = self.served / served
        wrong = self._checked_wrong / count
        # Draws of unlike weight say less than as many of like weight (Kish's effective size).
        draws = int(count * count / self._squares)
        low, high = wilson(wrong, draws)
        return Wrongness(wrong * by_meaning, low * by_meaning, high * by_meaning, self.checked)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share seen in so many draws (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    z = 1.96
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
