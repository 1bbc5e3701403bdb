"""The verifier against plain cosine, on our own questions: `make check-verifier` in small."""

from __future__ import annotations

import itertools
import json
import random
from importlib import resources

import numpy as np
import pytest

from tokenschain.semantic import synthetic_faq
from tokenschain.semantic.embedders import Embedders
from tokenschain.semantic.evaluation import EmbeddingCache, PairSet, auc, rank, score
from tokenschain.semantic.guards import Guards
from tokenschain.semantic.verifier import EVIDENCE, Verifier

PAIRS = 80
THIRDS = 3


@pytest.fixture(scope="module")
def models() -> EmbeddingCache:
    return EmbeddingCache(Embedders)


def some(pairs: list[synthetic_faq.QuestionPair]) -> PairSet:
    chosen = random.Random(3).sample(pairs, PAIRS)
    return PairSet("some", [(a, b) for a, b, _ in chosen],
                   np.array([float(pair.same) for pair in chosen]), [""] * PAIRS)  # fmt: skip


def weights() -> dict[str, object]:
    path = resources.files("tokenschain") / "data" / "verifier.json"
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_natural_questions_are_ranked_at_least_as_well_as_by_cosine(models: EmbeddingCache) -> None:
    found = some(synthetic_faq.faq_pairs(2))
    scores = score(found, models, Verifier.shipped())
    assert auc(scores.unguarded, found.same) >= auc(scores.cosine, found.same) - 0.02
    parts = np.array_split(found.same[np.argsort(scores.unguarded, kind="stable")], THIRDS)
    shares = [float(part.mean()) for part in parts]
    assert shares[-1] > 0.85 and shares[0] < 0.25
    assert all(after > before - 0.1 for before, after in itertools.pairwise(shares))


def test_traps_are_ranked_better_than_by_cosine_and_no_worse_than_with_vetoes(
    models: EmbeddingCache,
) -> None:
    texts = [ways[0] for questions in synthetic_faq.faq().values() for ways in questions]
    ranking = rank(found := some(synthetic_faq.rule_pairs(texts, 2)),
                   score(found, models, Verifier.shipped()))  # fmt: skip
    assert ranking.ours > ranking.cosine + 0.05
    assert ranking.ours >= ranking.cosine_vetoed - 0.01


def test_a_higher_cosine_never_lowers_the_confidence_and_a_difference_never_raises_it() -> None:
    verifier = Verifier.shipped()
    names = list(EVIDENCE)
    rng = np.random.default_rng(1)
    rows = rng.random((2_000, len(names)))
    before = verifier.probability(rows)
    for at, name in enumerate(names):
        more = rows.copy()
        more[:, at] += rng.random(len(rows))
        change = (verifier.probability(more) - before) * EVIDENCE[name]
        assert (change >= -1e-12).all(), name


def test_weights_of_the_wrong_sign_or_for_other_evidence_are_refused() -> None:
    evidence = {name: float(sign) for name, sign in EVIDENCE.items()}
    guards = Guards.shipped()
    Verifier({"evidence": evidence, "intercept": 0.0}, guards)
    with pytest.raises(ValueError, match="wrong sign: e5"):
        Verifier({"evidence": evidence | {"e5": -1.0}, "intercept": 0.0}, guards)
    with pytest.raises(ValueError, match="train it again"):
        Verifier({"evidence": evidence | {"more": 1.0}, "intercept": 0.0}, guards)


@pytest.mark.parametrize(
    ("a", "b", "like"),
    [
        ("I expect a refund of $160", "please give me back the 350 dollars", "please refund me"),
        ("退保要多少手续费", "想退保的话几天能到账", "想退保的话要交多少钱"),
    ],
)
def test_what_is_ruled_out_and_worded_otherwise_ranks_below_its_like(
    a: str, b: str, like: str
) -> None:
    verifier = Verifier.shipped()
    one, other, third = map(verifier.facts_of, (a, b, like))
    confidence, why = verifier.weigh(one, other, 0.93, 0.8)
    assert why
    assert verifier.weigh(one, third, 0.93, 0.8)[0] > confidence > 0.0
    # A stranger is further away.
    assert confidence > verifier.weigh(one, verifier.facts_of("今晚吃什么"), 0.8, 0.2)[0]


def test_what_differs_in_nothing_else_is_settled() -> None:
    verifier = Verifier.shipped()
    for a, b in (("refund $1499", "refund $1490"), ("怎么开通自动续费", "怎么关闭自动续费"),
                 ("从北京到上海的高铁", "从上海到北京的高铁")):  # fmt: skip
        confidence, why = verifier.weigh(verifier.facts_of(a), verifier.facts_of(b), 0.999, 0.999)
        assert confidence == 0.0 and why


@pytest.mark.parametrize("cosines", [(float("nan"), 0.9), (0.9, float("inf"))])
def test_what_is_no_cosine_rules_a_hit_out(cosines: tuple[float, float]) -> None:
    verifier = Verifier.shipped()
    facts = verifier.facts_of("怎么退货")
    assert verifier.weigh(facts, facts, *cosines) == (0.0, ("no number",))


def test_the_weights_are_few_and_name_what_they_weigh() -> None:
    found = weights()
    assert found.keys() == {"evidence", "intercept"}
    assert len(json.dumps(found)) < 2_000
