"""False-hit control without embedders: the limit on the false hit rate is kept, also with bad luck."""

from __future__ import annotations

import math
import random

import pytest

from tokenschain.semantic.error_bound import (
    LABELS_MIN,
    ErrorBound,
    Features,
    ServingDecision,
    wilson,
)


def features(confidence: float, noise: float = 0.0) -> Features:
    """The verifier's odds, and four features that tell nothing."""
    p = min(max(confidence, 1e-3), 1 - 1e-3)
    return Features(math.log(p / (1 - p)), 0.93 + noise, 0.75, 0.02, 0.2)


def drive(seed: int, wrong_below: float, lookups: int, exact_share: float = 0.7,
          errs: float = 0.0, shift_at: int = 10**9) -> tuple[ErrorBound, int, int]:  # fmt: skip
    """Cached answers are right with odds that grow with their confidence; gives wrong and served."""
    rng = random.Random(seed)
    bound = ErrorBound(rng.random)
    served = wrong = 0
    for number in range(lookups):
        if rng.random() < exact_share:
            bound.record_exact_hit()
            served += 1
            continue
        confidence = rng.random()
        edge = wrong_below if number < shift_at else wrong_below + 0.15
        right = rng.random() < (0.995 if confidence > edge else confidence * 0.8)
        found = features(confidence, rng.uniform(-0.03, 0.03))
        decision, weight = bound.decide(bound.hit_confidence(found))
        if decision is ServingDecision.SERVE:
            served += 1
            wrong += not right
        else:
            bound.learn(found, right ^ (rng.random() < errs), weight, 0.01)
    return bound, wrong, served


def test_nothing_is_served_before_enough_is_known() -> None:
    bound = ErrorBound(random.Random(1).random)
    for number in range(LABELS_MIN - 1):
        assert bound.decide(1.0)[0] is ServingDecision.MISS, number
        bound.learn(features(1.0), True, 1.0, 0.01)
    for _ in range(LABELS_MIN):
        bound.learn(features(1.0), True, 1.0, 0.01)
    assert bound.threshold is not None


@pytest.mark.parametrize("edge", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("way", ["plain", "judge errs", "shifts"])
def test_the_bound_is_kept_on_average_and_something_is_served(edge: float, way: str) -> None:
    shares = []
    for seed in range(6):
        bound, wrong, served = drive(
            seed, edge, 12_000, errs=0.03 if way == "judge errs" else 0.0,
            shift_at=6_000 if way == "shifts" else 10**9,
        )  # fmt: skip
        shares.append(wrong / served)
        assert bound.served > 0 or edge == 0.9
    assert sum(shares) / len(shares) <= 0.01


def test_where_answers_are_often_wrong_there_are_no_semantic_hits() -> None:
    bound = ErrorBound(random.Random(2).random)
    rng = random.Random(3)
    for _ in range(2_000):
        decision, weight = bound.decide(rng.random())
        assert decision is not ServingDecision.SERVE
        bound.learn(features(rng.random()), rng.random() < 0.7, weight, 0.01)


def test_it_learns_what_speaks_for_an_answer_among_these_callers() -> None:
    """Where the verifier says little and a cosine says all, the cosine decides."""
    rng = random.Random(5)
    bound = ErrorBound(rng.random)
    for _ in range(3_000):
        bound.record_exact_hit()
        fine = rng.uniform(0.88, 0.99)
        found = features(0.6)._replace(fine=fine)
        decision, weight = bound.decide(bound.hit_confidence(found))
        if decision is not ServingDecision.SERVE:
            bound.learn(found, fine > 0.94, weight, 0.01)
    assert bound.served > 300
    good, bad = (bound.hit_confidence(features(0.6)._replace(fine=fine)) for fine in (0.98, 0.89))
    assert good > bound.threshold > bad  # type: ignore[operator]


def test_what_is_measured_has_an_interval() -> None:
    bound, wrong, served = drive(4, 0.6, 20_000)
    found = bound.false_hit_rate()
    assert found.checked > 20 and found.high < 0.05
    assert found.low <= found.estimate <= found.high
    assert found.low <= wrong / served <= found.high
    assert wilson(0.0, 0) == (0.0, 1.0) and wilson(0.5, 100)[0] == pytest.approx(0.404, abs=0.001)
