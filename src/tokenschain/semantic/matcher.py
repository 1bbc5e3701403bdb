"""From a question to a kept answer that is right for it, or none; and what is learned of it.

fast embedder -> 20 nearest -> better embedder -> 5 nearest -> vetoes -> verifier
    -> the bound: serve it, answer afresh to check it, or miss
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from tokenschain.core.bound import Bound, Choice, Wrongness
from tokenschain.core.caching import Entry
from tokenschain.semantic.embedders import Vectors
from tokenschain.semantic.guards import facts_of
from tokenschain.semantic.index import Kept
from tokenschain.semantic.verifier import Verifier

FAST_COUNT, FINE_COUNT = 20, 5
FAST_MIN = 0.35
"""Below this nothing asks the same, and the better embedder is not asked."""
NEAR_MIN = 0.02
"""Likeness from which a kept answer is worth comparing with the fresh one."""
SAME_ANSWER, OTHER_ANSWER = 0.95, 0.88
"""Cosines of two answers from, and up to, which they say the same, or not; what is between is
no evidence. E5's floor is about 0.8 (random pairs)."""
ANSWER_CHARS = 600
PENDING_MAX, GROUPS_MAX = 2_000, 10_000


class Models(Protocol):
    """The two embedders; see `semantic.embedders.Embedders`."""

    def fast(self, texts: list[str]) -> Vectors: ...
    def fine(self, texts: list[str]) -> Vectors: ...


class Found(NamedTuple):
    """What a question led to."""

    choice: Choice
    likeness: float = 0.0
    key: bytes = b""
    entry: Entry | None = None


class _Pending(NamedTuple):
    """A question that is being answered afresh."""

    fast: Vectors
    fine: Vectors | None
    key: bytes
    """Of the best kept answer; empty where none was near."""
    likeness: float
    weight: float


Judge = Callable[[str, str, str, str], bool | None]
"""Whether a kept answer is right for a question that was answered afresh: kept question and
answer, new question and answer. None: it cannot be said."""


class Matcher:
    """All spaces of one machine; used from one thread."""

    def __init__(
        self,
        models: Models,
        verifier: Verifier,
        dice: Callable[[], float],
        kept: Kept,
        judge: Judge | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            judge: compares answers; by default by their numbers and their embeddings.
        """
        self._models = models
        self._verifier = verifier
        self._dice = dice
        self._judge = judge or self._alike
        self._wall = wall
        self._kept = kept
        self._bounds: OrderedDict[str, Bound] = OrderedDict()
        self._pending: OrderedDict[tuple[bytes, str], _Pending] = OrderedDict()

    def find(self, space: bytes, group: str, question: str) -> Found:
        """The kept answer for a question, if it may be given."""
        fast = self._models.fast([question])[0]
        near = self._kept.near(space, fast, FAST_COUNT)
        if not near or near[0].fast_cosine < FAST_MIN:
            self._wait(space, question, _Pending(fast, None, b"", 0.0, 1.0))
            return Found(Choice.MISS)
        fine = self._models.fine([question])[0]
        alike = np.array([one.fine for one in near]) @ fine
        best, best_key, best_entry = 0.0, b"", None
        for rank in np.argsort(-alike)[:FINE_COUNT]:
            one = near[int(rank)]
            likeness, _ = self._verifier.weigh(
                one.question, question, float(alike[rank]), one.fast_cosine
            )
            if likeness <= best:
                continue
            entry = self._kept.entry(space, one.key, self._wall())
            if entry is not None:
                best, best_key, best_entry = likeness, one.key, entry
        choice, weight = Choice.MISS, 1.0
        if best_entry is not None and best >= NEAR_MIN:
            choice, weight = self.bound_of(group).choose(best)
        else:
            best_key = b""
        if choice is Choice.SERVE:
            return Found(choice, best, best_key, best_entry)
        self._wait(space, question, _Pending(fast, fine, best_key, best, weight))
        return Found(choice, best)

    def learn(
        self, space: bytes, group: str, key: bytes, question: str, entry: Entry, wrong_max: float
    ) -> bool | None:
        """A question was answered afresh: keep that, and compare it with what was near.

        Returns:
            Whether the kept answer would have been right; None where there was none, or where
            it cannot be said.
        """
        pending = self._pending.pop((space, question), None)
        fast = pending.fast if pending is not None else self._models.fast([question])[0]
        fine = pending.fine if pending is not None else None
        if fine is None:
            fine = self._models.fine([question])[0]
        right = None
        if pending is not None and pending.key:
            kept = self._kept.entry(space, pending.key, self._wall())
            if kept is not None:
                right = self._judge(kept.question, _said(kept), question, _said(entry))
                if right is not None:
                    self.bound_of(group).learn(pending.likeness, right, pending.weight, wrong_max)
        self._kept.put(space, key, question, fast, fine, entry)
        return right

    def drop(self, group: str, space: bytes, key: bytes, wrong_max: float) -> None:
        """An answer was flushed; it counts as one that was wrong just where it is least known."""
        bound = self.bound_of(group)
        if bound.threshold is not None:
            bound.learn(bound.threshold, False, 1.0, wrong_max)
        self._kept.drop(space, key)

    def bound_of(self, group: str) -> Bound:
        """The bound of one group."""
        bound = self._bounds.get(group)
        if bound is None:
            bound = self._bounds[group] = Bound(self._dice)
            while len(self._bounds) > GROUPS_MAX:
                self._bounds.popitem(last=False)
        return bound

    def wrongness(self) -> dict[str, tuple[Wrongness, float | None, int]]:
        """By group: what was measured, the threshold, and how many were served by meaning."""
        return {
            group: (bound.wrongness(), bound.threshold, bound.served)
            for group, bound in self._bounds.items()
        }

    def _wait(self, space: bytes, question: str, pending: _Pending) -> None:
        self._pending[space, question] = pending
        while len(self._pending) > PENDING_MAX:
            self._pending.popitem(last=False)

    def _alike(self, asked: str, kept: str, question: str, fresh: str) -> bool | None:
        """Whether two answers say the same, by their numbers and their embeddings."""
        kept, fresh = kept[:ANSWER_CHARS], fresh[:ANSWER_CHARS]
        if kept == fresh:
            return True
        one, other = facts_of(kept), facts_of(fresh)
        if one.numbers != other.numbers or one.codes != other.codes:
            return False
        vectors = self._models.fine([kept, fresh])
        cosine = float(vectors[0] @ vectors[1])
        if math.isnan(cosine) or OTHER_ANSWER < cosine < SAME_ANSWER:
            return None
        return cosine >= SAME_ANSWER


def _said(entry: Entry) -> str:
    """What an answer says, without its frame."""
    reply: Any = msgspec.json.decode(entry.body)
    choices = reply.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")
