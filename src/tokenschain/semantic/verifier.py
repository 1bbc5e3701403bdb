"""Verifier: the probability that two questions ask the same, from cosines and differences.

Log-odds that add up: a weight for each piece of evidence, with the sign that it must have. A higher
cosine never lowers the probability and a difference never raises it, so the verifier moves the
order that the cosine gives only where evidence says so. What the guards rule out is never served;
where the texts differ in more than that it still has a probability, so that it ranks below its like
and above what has nothing to do with it. Weights are trained by `python -m bench.verifier` and
shipped in `data/verifier.json`.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenschain.semantic.guards import Guards, settled, vetoes
from tokenschain.semantic.text_facts import TextFacts

Matrix = npt.NDArray[np.float64]
EVIDENCE = {
    "e5": 1, "use": 1,
    # The fast embedder and words in common tell more of English than of Chinese questions.
    "use_en": 1, "use_zh": 1, "gist_en": 1,
    # Of two pairs with the same cosine, the one with more words in common is likelier a question
    # with one word changed, and the other a paraphrase.
    "words": -1,
    "denied": -1, "opposite": -1, "roles": -1,
    "only_names": -1, "only_kinds": -1, "only_scopes": -1,
    "vetoed_quantity": -1, "vetoed_name": -1, "vetoed_scope": -1, "vetoed_kind": -1,
    "vetoed_opposite": -1,
}  # fmt: skip
"""What is weighed, by its name in `Guards.compare`, and whether it speaks for or against. `e5` and
`use` are the cosines of the better and of the fast embedder; `vetoed_...` is what guards rule out:
the share of words in common, by which a veto tells the more."""
MOSTLY = 0.5
VETOED = {
    "vetoed_quantity": frozenset(("numbers", "dates", "codes", "units")),
    "vetoed_name": frozenset(("names", "capitals")),
    "vetoed_scope": frozenset(("scopes", "roles", "times")),
    "vetoed_kind": frozenset(("kinds", "aspects", "substance", "narrowed")),
    "vetoed_opposite": frozenset(("opposite", "negation")),
}


def is_english(*questions: TextFacts) -> bool:
    """Whether each is in English for the most part."""
    return max(question.chinese for question in questions) <= MOSTLY


class Compared(NamedTuple):
    """What was found in a pair of questions."""

    evidence: list[float]
    """In the order of `EVIDENCE`."""
    vetoes: tuple[str, ...]
    """Why an answer to one is never served for the other."""
    settled: bool
    """Whether the probability is 0: they differ in nothing else."""


class Verifier:
    """Scores pairs of questions."""

    def __init__(self, weights: dict[str, Any], guards: Guards) -> None:
        """
        Args:
            weights: `evidence`, a weight for each name; `intercept`.

        Raises:
            ValueError: they are for other evidence, or one has the wrong sign.
        """
        given = weights["evidence"]
        if given.keys() != EVIDENCE.keys():
            raise ValueError("the verifier's weights are for other evidence: train it again")
        wrong = [name for name, sign in EVIDENCE.items() if given[name] * sign < 0]
        if wrong:
            raise ValueError(f"weights with the wrong sign: {', '.join(wrong)}")
        self._guards = guards
        self._weights = np.array([float(given[name]) for name in EVIDENCE])
        self._intercept = float(weights["intercept"])

    @staticmethod
    def shipped() -> Verifier:
        """With the weights and the lexicon that come with the platform."""
        path = resources.files("tokenschain") / "data" / "verifier.json"
        return Verifier(json.loads(path.read_text(encoding="utf-8")), Guards.shipped())

    def facts_of(self, text: str) -> TextFacts:
        """See `text_facts.FactReader.facts_of`."""
        return self._guards.facts_of(text)

    def compare(self, a: TextFacts, b: TextFacts, fine: float, fast: float) -> Compared:
        """Find the evidence, the cosines being those of the two embedders."""
        found = self._guards.compare(a, b)
        why = vetoes(a, b, found)
        chinese = not is_english(a, b)
        found |= {
            "e5": fine,
            "use": fast,
            "use_en": 0.0 if chinese else fast,
            "use_zh": fast if chinese else 0.0,
            "gist_en": 0.0 if chinese else found["gist"],
        }
        for name, reasons in VETOED.items():
            # A veto tells least of texts that have little in common: of two amounts in otherwise
            # unlike words, people often say that the questions ask the same.
            found[name] = 0.0 if reasons.isdisjoint(why) else found["words"]
        return Compared([found[name] for name in EVIDENCE], why, settled(why, found))

    def probability(self, evidence: Matrix) -> Matrix:
        """Shape (pairs,), from evidence of shape (pairs, features)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(evidence @ self._weights + self._intercept))))

    def weigh(
        self, a: TextFacts, b: TextFacts, fine: float, fast: float
    ) -> tuple[float, tuple[str, ...]]:
        """The probability that two questions ask the same, and why the answer to one is never
        served for the other, however probable that is.

        Args:
            fine, fast: cosines of the two embedders, as `Models.likeness` gives that of the better
                one; NaN or infinity rules it out.
        """
        if not (math.isfinite(fine) and math.isfinite(fast)):
            return 0.0, ("no number",)
        found = self.compare(a, b, fine, fast)
        if found.settled:
            return 0.0, found.vetoes
        return float(self.probability(np.array([found.evidence]))[0]), found.vetoes
