"""Verifier: the probability that two questions ask the same, from cosines and differences.

Log-odds that add up: a weight for each piece of evidence, with the sign that it must have. A higher
cosine never lowers the probability and a difference never raises it, so the verifier moves the
order that the cosine gives only where evidence says so. Weights are trained by
`python -m bench.verifier` and shipped in `data/verifier.json`.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenschain.semantic.guards import Guards, vetoes
from tokenschain.semantic.text_facts import TextFacts

Matrix = npt.NDArray[np.float64]
EVIDENCE = {
    "e5": 1, "use": 1,
    # Of two pairs with the same cosine, the one with more words in common is likelier a question
    # with one word changed, and the other a paraphrase.
    "words": -1,
    "negation": -1, "denied": -1, "opposite": -1, "roles": -1, "times": -1,
    "only_names": -1, "only_kinds": -1, "only_scopes": -1,
}  # fmt: skip
"""What is weighed, by its name in `Guards.compare`, and whether it speaks for or against; `e5` and
`use` are the cosines of the better and of the fast embedder."""


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

    def evidence(
        self, a: TextFacts, b: TextFacts, fine: float, fast: float
    ) -> tuple[list[float], tuple[str, ...]]:
        """See `evidence_of`."""
        return evidence_of(self._guards, a, b, fine, fast)

    def probability(self, evidence: Matrix) -> Matrix:
        """Shape (pairs,), from evidence of shape (pairs, features)."""
        return np.asarray(1.0 / (1.0 + np.exp(-(evidence @ self._weights + self._intercept))))

    def weigh(
        self, a: TextFacts, b: TextFacts, fine: float, fast: float
    ) -> tuple[float, tuple[str, ...]]:
        """The probability that two questions ask the same, and what rules it out.

        Args:
            fine, fast: cosines of the two embedders; NaN or infinity rules it out.
        """
        if not (math.isfinite(fine) and math.isfinite(fast)):
            return 0.0, ("no number",)
        evidence, why = self.evidence(a, b, fine, fast)
        if why:
            return 0.0, why
        return float(self.probability(np.array([evidence]))[0]), ()


def evidence_of(
    guards: Guards, a: TextFacts, b: TextFacts, fine: float, fast: float
) -> tuple[list[float], tuple[str, ...]]:
    """The evidence in the order of `EVIDENCE`, and the vetoes."""
    found = guards.compare(a, b)
    why = vetoes(a, b, found)
    found["e5"], found["use"] = fine, fast
    return [found[name] for name in EVIDENCE], why
