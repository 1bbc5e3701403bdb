"""Vectors of one space's questions, in memory."""

from __future__ import annotations

import numpy as np

from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS, Vectors

QUESTIONS_MAX = 20_000
"""Of one space; the oldest leave. A search of so many takes about a millisecond."""
_GROWTH = 1.5


class Index:
    """Questions by key, nearest first."""

    def __init__(self) -> None:
        self._fast = np.zeros((16, FAST_DIMENSIONS), dtype=np.float32)
        self._fine = np.zeros((16, FINE_DIMENSIONS), dtype=np.float32)
        self._keys: list[bytes] = []
        self._questions: list[str] = []
        self._places: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, question: str, fast: Vectors, fine: Vectors) -> None:
        """Keep a question, or its vectors anew."""
        at = self._places.get(key)
        if at is None:
            if len(self._keys) >= QUESTIONS_MAX:
                self.remove(self._keys[0])
            at = len(self._keys)
            if at >= len(self._fast):
                size = int(len(self._fast) * _GROWTH) + 1
                self._fast.resize((size, FAST_DIMENSIONS), refcheck=False)
                self._fine.resize((size, FINE_DIMENSIONS), refcheck=False)
            self._keys.append(key)
            self._questions.append(question)
            self._places[key] = at
        self._fast[at], self._fine[at] = fast, fine

    def remove(self, key: bytes) -> None:
        """Forget a question; the last takes its place. Nothing happens when there is none."""
        at = self._places.pop(key, None)
        if at is None:
            return
        last = len(self._keys) - 1
        if at != last:
            self._fast[at], self._fine[at] = self._fast[last], self._fine[last]
            self._keys[at], self._questions[at] = self._keys[last], self._questions[last]
            self._places[self._keys[at]] = at
        self._keys.pop()
        self._questions.pop()

    def nearest(self, fast: Vectors, count: int) -> list[tuple[int, float]]:
        """Places and cosines of those nearest by the fast embedder."""
        size = len(self._keys)
        if not size:
            return []
        alike = self._fast[:size] @ fast
        count = min(count, size)
        top = np.argpartition(-alike, count - 1)[:count]
        return sorted(((int(at), float(alike[at])) for at in top), key=lambda row: -row[1])

    def fine_of(self, places: list[int]) -> Vectors:
        """The better vectors of some places; shape (places, 384)."""
        return self._fine[places]

    def at(self, place: int) -> tuple[bytes, str]:
        """Key and question of a place."""
        return self._keys[place], self._questions[place]
