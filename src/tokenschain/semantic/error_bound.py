"""Keeps the share of wrong answers among those given from the cache below what was agreed.

Nobody sets a threshold. Every answer that was given afresh although a kept one was near is a
label: would the kept one have been right? From these a small logistic model learns what speaks for
a kept answer among these callers, and the lowest threshold is chosen at which the estimate of wrong
answers, with a margin for its error, stays within the bound. Until enough is known nothing is
served by meaning.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tokenschain.core.snapshot.cache_rules import FALSE_HIT_RATE_MAX

LABELS_MIN = 150
LABELS_KEPT = 2_000
RIDGE = 20.0
"""Pull of the logistic model towards the verifier's own odds: a few labels change little."""
NEWTON_STEPS = 8
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
ERRORS = 1.1
"""Standard errors added to the estimate."""
MEMORY = 0.999
"""Weight of a count after one more lookup: what happened some thousand lookups ago fades."""


class Features(NamedTuple):
    """What speaks for a kept answer."""

    odds: float
    """The verifier's, as a logarithm."""
    fine: float
    fast: float
    """Cosines of the two embedders."""
    gap: float
    """How much nearer it is than the nearest that is known to answer something else."""
    agreement: float
    """Share of the neighbours that are known to have the same answer."""


_FIRST = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
"""Before anything is learned: the verifier's odds as they are."""
_CENTRE = np.array([0.0, 0.93, 0.75, 0.02, 0.2])
_SCALE = np.array([1.0, 0.03, 0.12, 0.02, 0.2])
"""About where these lie for neighbours, so that the pull is alike for all."""


class Label(NamedTuple):
    """One kept answer that was checked against a fresh one."""

    features: Features
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


class Outlook(NamedTuple):
    """What would come of agreeing on a share of wrong answers, as far as the labels tell."""

    wrong_max: float
    threshold: float | None
    """Likeness from which answers would be given; None: none would be."""
    served: float = 0.0
    """Share of the lookups by meaning that would be answered."""
    wrong: float = 0.0
    """Share of wrong answers among those given, exact ones included; without the margin."""


AGREED = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""The shares of wrong answers that outlooks are given for."""


class _Curve(NamedTuple):
    """The labels, the likeliest first, and what they add up to so far."""

    likeness: npt.NDArray[np.float64]
    last: npt.NDArray[np.bool_]
    """Whether the next is less likely: those that are alike are given or kept back together."""
    hits: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    exact: float
    """Answers to the very same question, in the same unit."""

    def outlook(self, wrong_max: float) -> Outlook:
        """The lowest threshold within a bound."""
        # The next one could have been wrong: nobody is certain from a few right ones.
        bad = self.wrong + ERRORS * np.sqrt(self.variance + 1.0)
        within = self.last & (bad <= wrong_max * (self.exact + self.hits))
        within &= self.wrong <= SEMANTIC_WRONG_MAX * self.hits
        places = np.flatnonzero(within)
        if not len(places):
            return Outlook(wrong_max, None)
        at = places[-1]
        hits, wrong = float(self.hits[at]), float(self.wrong[at])
        return Outlook(
            wrong_max, float(self.likeness[at]), hits / float(self.hits[-1]),
            wrong / (self.exact + hits),
        )  # fmt: skip


class BoundState(msgspec.Struct, array_like=True):
    """What a bound has learned, for the next process. No text."""

    labels: list[tuple[Features, bool, float]]
    exact: float
    looked: float
    wrong_max: float
    checks: tuple[float, float, float]
    counts: tuple[int, int, int]


class ErrorBound:
    """The threshold of one group of callers whose questions are alike."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._labels: deque[Label] = deque(maxlen=LABELS_KEPT)
        self._since_fit = 0
        self._model = _FIRST
        self._exact = 0.0
        self._looked = 0.0
        self.wrong_max = FALSE_HIT_RATE_MAX
        """As agreed, when a lesson last came."""
        self.threshold: float | None = None
        self.outlooks: tuple[Outlook, ...] = ()
        self.exact_served = self.served = 0
        self.checked = 0
        self._checked_right = self._checked_wrong = self._squares = 0.0

    def exact(self) -> None:
        """An answer was given to the very same question."""
        self._exact = self._exact * MEMORY + 1
        self._looked *= MEMORY
        self.exact_served += 1

    def likeness(self, features: Features) -> float:
        """How likely a kept answer is right here, between 0 and 1."""
        return float(_sigmoid(_row(features) @ self._model))

    def choose(self, likeness: float) -> tuple[Choice, float]:
        """What becomes of a lookup whose best answer has this likeness, and the weight that
        its label will have."""
        self._exact *= MEMORY
        self._looked = self._looked * MEMORY + 1
        threshold = self.threshold
        if threshold is None or likeness < threshold:
            return Choice.MISS, 1.0
        share = SHADOW_NEAR_SHARE if likeness < threshold + NEAR else SHADOW_SHARE
        if self._random() < share:
            self.checked += 1
            return Choice.CHECK, 1.0 / share
        self.served += 1
        return Choice.SERVE, 0.0

    def confirm(self) -> tuple[Choice, float]:
        """What becomes of a kept answer that a judge called right, and the label's weight."""
        if self._random() < SHADOW_SHARE:
            self.checked += 1
            return Choice.CHECK, 1.0 / SHADOW_SHARE
        self.served += 1
        return Choice.SERVE, 0.0

    def learn(self, features: Features, right: bool, weight: float, wrong_max: float) -> None:
        """A kept answer was compared with a fresh one."""
        self.wrong_max = wrong_max
        self._labels.append(Label(features, right, weight))
        if weight > 1:
            self._squares += weight * weight
            if right:
                self._checked_right += weight
            else:
                self._checked_wrong += weight
        self._since_fit += 1
        if self._since_fit >= FIT_EVERY and len(self._labels) >= LABELS_MIN:
            self._since_fit = 0
            self._fit()

    def _fit(self) -> None:
        """Learn from the labels, and choose the threshold."""
        ages = np.arange(len(self._labels) - 1, -1, -1)
        weights = np.array([label.weight for label in self._labels]) * FRESHNESS**ages
        right = np.array([label.right for label in self._labels], dtype=float)
        rows = np.array([_row(label.features) for label in self._labels])
        self._model = _logistic(rows, right, weights)
        # What a model says of its own lessons flatters it: each half is judged by the other.
        likeness = np.empty(len(rows))
        for half in (slice(0, None, 2), slice(1, None, 2)):
            rest = slice(1 - half.start, None, 2)
            model = _logistic(rows[rest], right[rest], weights[rest])
            likeness[half] = _sigmoid(rows[half] @ model)
        order = np.argsort(-likeness, kind="stable")
        likeness, wrong, weights = likeness[order], 1 - right[order], weights[order]
        # What a label stands for, as a share of all lookups by meaning.
        exact = self._exact / max(self._looked, 1.0) * float(weights.sum())
        curve = _Curve(
            likeness,
            np.append(likeness[1:] != likeness[:-1], True),
            np.cumsum(weights),
            np.cumsum(weights * wrong),
            np.cumsum(weights**2 * wrong),
            exact,
        )
        self.threshold = curve.outlook(self.wrong_max).threshold
        self.outlooks = tuple(curve.outlook(agreed) for agreed in AGREED)

    @property
    def state(self) -> BoundState:
        """What was learned; see `restored`."""
        return BoundState(
            [(label.features, label.right, label.weight) for label in self._labels],
            self._exact,
            self._looked,
            self.wrong_max,
            (self._checked_right, self._checked_wrong, self._squares),
            (self.exact_served, self.served, self.checked),
        )

    @staticmethod
    def restored(state: BoundState, random: Callable[[], float]) -> ErrorBound:
        """A bound that goes on from what another has learned."""
        bound = ErrorBound(random)
        bound._labels.extend(Label(*label) for label in state.labels)
        bound._exact, bound._looked = state.exact, state.looked
        bound.wrong_max = state.wrong_max
        bound._checked_right, bound._checked_wrong, bound._squares = state.checks
        bound.exact_served, bound.served, bound.checked = state.counts
        if len(bound._labels) >= LABELS_MIN:
            bound._fit()
        return bound

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


def _row(features: Features) -> npt.NDArray[np.float64]:
    return np.concatenate(([1.0], (np.array(features) - _CENTRE) / _SCALE))


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def _logistic(
    rows: npt.NDArray[np.float64], right: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weighted logistic regression by Newton's method, pulled towards `_FIRST`."""
    model = _FIRST
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(rows @ model)
        slope = rows.T @ (weights * (p - right)) + RIDGE * (model - _FIRST)
        curve = (rows * (weights * p * (1 - p))[:, None]).T @ rows + RIDGE * np.eye(len(model))
        model = model - np.linalg.solve(curve, slope)
    return np.asarray(model)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share seen in so many draws (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    z = 1.96
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
