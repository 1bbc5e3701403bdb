"""Verifier: the probability that two questions ask the same, by a small neural network.

Weights are trained by `python -m bench.verifier` and shipped in `data/verifier.json`.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenschain.semantic.guards import FEATURES, Guards, vetoes
from tokenschain.semantic.text_facts import TextFacts

Matrix = npt.NDArray[np.float64]


class Verifier:
    """Scores pairs of questions."""

    def __init__(self, weights: dict[str, Any], guards: Guards) -> None:
        """
        Args:
            weights: `features`, `mean`, `scale`, `hidden`, `hidden_bias`, `out`, `out_bias`.

        Raises:
            ValueError: they are for other evidence.
        """
        if tuple(weights["features"]) != FEATURES:
            raise ValueError("the verifier's weights are for other features: train it again")
        self._guards = guards
        self._mean = np.array(weights["mean"])
        self._scale = np.array(weights["scale"])
        self._hidden = np.array(weights["hidden"])
        self._hidden_bias = np.array(weights["hidden_bias"])
        self._out = np.array(weights["out"])
        self._out_bias = float(weights["out_bias"])

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
        x = (evidence - self._mean) / self._scale
        hidden = np.tanh(x @ self._hidden + self._hidden_bias)
        return np.asarray(1.0 / (1.0 + np.exp(-(hidden @ self._out + self._out_bias))))

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
    """The evidence in the order of `FEATURES`, and the vetoes."""
    found = guards.compare(a, b)
    why = vetoes(a, b, found)
    found["e5"], found["use"] = fine, fast
    return [found[name] for name in FEATURES], why
