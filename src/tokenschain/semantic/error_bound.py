"""False-hit control: learns the serving threshold per tenant, project and model.

A false hit is a semantic cache hit whose answer is wrong for the question. No threshold is
configured. Whenever a question is answered by an upstream although a similar one was cached, the
two answers are compared: that is a label saying whether the cached answer would have been right.
From the labels a small logistic regression learns the hit confidence for this group of callers, and
the lowest threshold is served from at which the estimated false hit rate, with a margin for its
error, stays within `false_hit_rate_max`. Until there are `LABELS_MIN` labels nothing is served.

The threshold is chosen as in conformal risk control (Angelopoulos et al., ICLR 2024): the empirical
risk with one more, wrong, example counted in. Shadow samples, would-be hits that are sent upstream
to be checked, stand for those not sampled by inverse-probability weights (Horvitz and Thompson
1952).
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

from tokenschain.core.cache.semantic_protocol import ThresholdPreview
from tokenschain.core.snapshot.cache_rules import FALSE_HIT_RATE_MAX

LABELS_MIN = 150
LABELS_KEPT = 2_000
RIDGE = 20.0
"""L2 penalty that pulls the regression towards the verifier's own odds, so that a few labels change
little."""
NEWTON_STEPS = 8
LABEL_DECAY = 0.9985
"""Factor on a label's weight for each later label: questions and their right answers drift. Half
after some 460 labels."""
FIT_EVERY = 25
SHADOW_SHARE = 0.06
"""Share of would-be hits that are sent upstream to check the cached answer."""
SHADOW_NEAR_SHARE = 0.2
"""The same close to the threshold, where the risk is known least."""
NEAR_THRESHOLD = 0.02
SEMANTIC_FALSE_HIT_RATE_MAX = 0.1
"""Upper limit for semantic hits alone, however many exact hits dilute their errors."""
STANDARD_ERRORS = 1.1
"""How many are added to the estimate as its margin; the tests drive whole streams to see that the
rate stays within its limit on average."""
COUNT_DECAY = 0.999
"""Factor on the counts of lookups for each later lookup: the mix of exact and semantic hits of some
thousand lookups ago no longer counts."""


class Features(NamedTuple):
    """Evidence for a cached answer."""

    odds: float
    """The verifier's log-odds."""
    fine: float
    fast: float
    """Cosines of the two embedders."""
    gap: float
    """How much nearer it is than the nearest question known to have another answer; cosines."""
    agreement: float
    """Share of the neighbours that are known to have the same answer."""


_PRIOR = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
"""Intercept and coefficients before anything is learned: the verifier's odds as they are."""
_CENTRE = np.array([0.0, 0.93, 0.65, 0.02, 0.2])
_SCALE = np.array([1.0, 0.03, 0.12, 0.02, 0.2])
"""About the mean and spread of the features among neighbours: `RIDGE` then weighs on all alike."""


class Label(NamedTuple):
    """One cached answer that was compared with the upstream's."""

    features: Features
    right: bool
    weight: float
    """How many lookups it stands for: 1 / (the probability with which it was sampled)."""


class ServingDecision(Enum):
    """What is done with a lookup that found a candidate."""

    SERVE = "serve"
    CHECK = "check"
    """A shadow sample: answered by the upstream, to check the cached answer."""
    MISS = "miss"


class FalseHitRate(NamedTuple):
    """Measured share of wrong answers among all cache hits, exact ones included."""

    estimate: float
    low: float
    high: float
    """The 95 % interval (Wilson)."""
    checked: int
    """Shadow samples behind it."""


PREVIEWED_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Values of `false_hit_rate_max` that previews are made for."""


class _RankedLabels(NamedTuple):
    """The labels by falling confidence, with running sums."""

    confidence: npt.NDArray[np.float64]
    last: npt.NDArray[np.bool_]
    """Whether the next has a lower confidence: equal ones are served or not served together."""
    hits: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    exact: float
    """Exact hits, in the same unit."""

    def preview(self, false_hit_rate_max: float) -> ThresholdPreview:
        """The lowest threshold within a bound."""
        # The `+ 1` counts the next answer as wrong (conformal risk control): without it a few
        # labels that are all right would have no error at all.
        risk = self.wrong + STANDARD_ERRORS * np.sqrt(self.variance + 1.0)
        within = self.last & (risk <= false_hit_rate_max * (self.exact + self.hits))
        within &= self.wrong <= SEMANTIC_FALSE_HIT_RATE_MAX * self.hits
        places = np.flatnonzero(within)
        if not len(places):
            return ThresholdPreview(false_hit_rate_max, None)
        at = places[-1]
        hits, wrong = float(self.hits[at]), float(self.wrong[at])
        return ThresholdPreview(
            false_hit_rate_max, float(self.confidence[at]), hits / float(self.hits[-1]),
            wrong / (self.exact + hits),
        )  # fmt: skip


class ErrorBoundState(msgspec.Struct, array_like=True):
    """What was learned, for the next process; it holds no text.

    It is written to disk by position: fields may be added at the end, never moved.
    """

    labels: list[tuple[Features, bool, float]]
    exact: float
    lookups: float
    false_hit_rate_max: float
    checks: tuple[float, float, float]
    counts: tuple[int, int, int]


class ErrorBound:
    """The serving threshold of one group of callers, `tenant/project/model`."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._labels: deque[Label] = deque(maxlen=LABELS_KEPT)
        self._since_fit = 0
        self._model = _PRIOR
        self._exact = 0.0
        self._lookups = 0.0
        self.false_hit_rate_max = FALSE_HIT_RATE_MAX
        """As configured when the last label came."""
        self.threshold: float | None = None
        self.previews: tuple[ThresholdPreview, ...] = ()
        self.exact_served = self.served = 0
        self.checked = 0
        self._checked_right = self._checked_wrong = self._squares = 0.0

    def record_exact_hit(self) -> None:
        """Count an answer that was served to the very same question."""
        self._exact = self._exact * COUNT_DECAY + 1
        self._lookups *= COUNT_DECAY
        self.exact_served += 1

    def hit_confidence(self, features: Features) -> float:
        """Probability that a cached answer is right here."""
        return float(_sigmoid(_row(features) @ self._model))

    @property
    def pairs(self) -> int:
        """Pairs of questions that were compared; the latest 2,000."""
        return len(self._labels)

    @property
    def learning(self) -> bool:
        """Whether there are too few of them to serve anything."""
        return len(self._labels) < LABELS_MIN

    def decide(self, hit_confidence: float) -> tuple[ServingDecision, float]:
        """What is done with a lookup whose best candidate has this confidence.

        Returns:
            The decision, and the weight that its label will have.
        """
        self._exact *= COUNT_DECAY
        self._lookups = self._lookups * COUNT_DECAY + 1
        threshold = self.threshold
        if threshold is None or hit_confidence < threshold:
            return ServingDecision.MISS, 1.0
        near = hit_confidence < threshold + NEAR_THRESHOLD
        return self._sample(SHADOW_NEAR_SHARE if near else SHADOW_SHARE)

    def decide_approved(self) -> tuple[ServingDecision, float]:
        """The same for a candidate below the threshold that a judge model called right."""
        return self._sample(SHADOW_SHARE)

    def _sample(self, share: float) -> tuple[ServingDecision, float]:
        if self._random() < share:
            self.checked += 1
            return ServingDecision.CHECK, 1.0 / share
        self.served += 1
        return ServingDecision.SERVE, 0.0

    def learn(
        self, features: Features, right: bool, weight: float, false_hit_rate_max: float
    ) -> None:
        """A cached answer was compared with the upstream's.

        Args:
            weight: as `decide` gave it.
        """
        self.false_hit_rate_max = false_hit_rate_max
        self._labels.append(Label(features, right, weight))
        # Only shadow samples weigh more than 1, and only they measure what is served.
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

    def refit(self) -> None:
        """Choose the threshold anew, where there are enough labels, without waiting for more."""
        if not self.learning:
            self._since_fit = 0
            self._fit()

    def _fit(self) -> None:
        """Fit the regression to the labels, and choose the threshold."""
        ages = np.arange(len(self._labels) - 1, -1, -1)
        weights = np.array([label.weight for label in self._labels]) * LABEL_DECAY**ages
        right = np.array([label.right for label in self._labels], dtype=float)
        rows = np.array([_row(label.features) for label in self._labels])
        self._model = _logistic(rows, right, weights)
        # Two-fold cross-fitting: a model judged by its own training labels looks too good; single
        # runs then reached 2.4 % at a bound of 1 % (docs/decisions/0010-cache.md).
        confidence = np.empty(len(rows))
        for half in (slice(0, None, 2), slice(1, None, 2)):
            rest = slice(1 - half.start, None, 2)
            model = _logistic(rows[rest], right[rest], weights[rest])
            confidence[half] = _sigmoid(rows[half] @ model)
        order = np.argsort(-confidence, kind="stable")
        confidence, wrong, weights = confidence[order], 1 - right[order], weights[order]
        # Exact hits in the unit of the labels' weights, each of which stands for a lookup.
        exact = self._exact / max(self._lookups, 1.0) * float(weights.sum())
        ranked = _RankedLabels(
            confidence,
            np.append(confidence[1:] != confidence[:-1], True),
            np.cumsum(weights),
            np.cumsum(weights * wrong),
            np.cumsum(weights**2 * wrong),
            exact,
        )
        self.threshold = ranked.preview(self.false_hit_rate_max).threshold
        self.previews = tuple(ranked.preview(rate) for rate in PREVIEWED_RATES)

    @property
    def state(self) -> ErrorBoundState:
        """What was learned; see `restored`."""
        return ErrorBoundState(
            [(label.features, label.right, label.weight) for label in self._labels],
            self._exact,
            self._lookups,
            self.false_hit_rate_max,
            (self._checked_right, self._checked_wrong, self._squares),
            (self.exact_served, self.served, self.checked),
        )

    @staticmethod
    def restored(state: ErrorBoundState, random: Callable[[], float]) -> ErrorBound:
        """An error bound that goes on from what another process has learned."""
        made = ErrorBound(random)
        made._labels.extend(Label(*label) for label in state.labels)
        made._exact, made._lookups = state.exact, state.lookups
        made.false_hit_rate_max = state.false_hit_rate_max
        made._checked_right, made._checked_wrong, made._squares = state.checks
        made.exact_served, made.served, made.checked = state.counts
        made.refit()
        return made

    def false_hit_rate(self) -> FalseHitRate:
        """Measured from the shadow samples above the threshold."""
        count = self._checked_right + self._checked_wrong
        hits = self.exact_served + self.served
        if not count or not hits:
            return FalseHitRate(0.0, 0.0, 1.0, 0)
        semantic_share = self.served / hits
        wrong = self._checked_wrong / count
        # Samples of unequal weight tell less than as many of equal weight: Kish's effective sample
        # size (Survey Sampling, 1965), the square of the sum over the sum of squares.
        samples = int(count * count / self._squares)
        low, high = wilson(wrong, samples)
        return FalseHitRate(
            wrong * semantic_share, low * semantic_share, high * semantic_share, self.checked
        )


def _row(features: Features) -> npt.NDArray[np.float64]:
    return np.concatenate(([1.0], (np.array(features) - _CENTRE) / _SCALE))


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def _logistic(
    rows: npt.NDArray[np.float64], right: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weighted logistic regression by Newton's method, with `RIDGE` towards `_PRIOR`."""
    model = _PRIOR
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(rows @ model)
        slope = rows.T @ (weights * (p - right)) + RIDGE * (model - _PRIOR)
        curve = (rows * (weights * p * (1 - p))[:, None]).T @ rows + RIDGE * np.eye(len(model))
        model = model - np.linalg.solve(curve, slope)
    return np.asarray(model)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share seen in `count` samples (Wilson, JASA 22, 1927)."""
    if not count:
        return 0.0, 1.0
    z = 1.96
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
