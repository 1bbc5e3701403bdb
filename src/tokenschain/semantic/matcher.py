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

from tokenschain.core.caching import Entry
from tokenschain.semantic.bound import Bound, Choice, Signs, Wrongness
from tokenschain.semantic.embedders import Vectors
from tokenschain.semantic.guards import facts_of
from tokenschain.semantic.index import Candidate, Kept
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
PENDING_MAX, GROUPS_MAX, KIN_MAX = 2_000, 10_000, 500_000
GAP_ALONE = 0.85
"""Where all neighbours say the same: about the cosine of questions that have nothing in common."""


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
    signs: Signs
    weight: float


_NO_SIGNS = Signs(0.0, 0.0, 0.0, 0.0, 0.0)


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
        self._served: OrderedDict[tuple[bytes, bytes], Signs] = OrderedDict()
        self._kin: OrderedDict[bytes, bytes] = OrderedDict()

    def find(self, space: bytes, group: str, question: str) -> Found:
        """The kept answer for a question, if it may be given."""
        fast = self._models.fast([question])[0]
        near = self._kept.near(space, fast, FAST_COUNT)
        if not near or near[0].fast_cosine < FAST_MIN:
            self._wait(space, question, _Pending(fast, None, b"", _NO_SIGNS, 1.0))
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
        if best_entry is None or best < NEAR_MIN:
            self._wait(space, question, _Pending(fast, fine, b"", _NO_SIGNS, 1.0))
            return Found(Choice.MISS)
        signs = self._signs(near, alike, best_key, best)
        bound = self.bound_of(group)
        likeness = bound.likeness(signs)
        choice, weight = bound.choose(likeness)
        if choice is Choice.SERVE:
            self._served[space, best_key] = signs
            while len(self._served) > PENDING_MAX:
                self._served.popitem(last=False)
            return Found(choice, likeness, best_key, best_entry)
        self._wait(space, question, _Pending(fast, fine, best_key, signs, weight))
        return Found(choice, likeness)

    def _signs(
        self, near: list[Candidate], alike: Vectors, key: bytes, probability: float
    ) -> Signs:
        """What speaks for one of the neighbours."""
        place = next(at for at, one in enumerate(near) if one.key == key)
        kin = self._kin_of(key)
        own = [at for at, one in enumerate(near) if self._kin_of(one.key) == kin]
        others = [float(alike[at]) for at in range(len(near)) if at not in own]
        p = min(max(probability, 1e-3), 1 - 1e-3)
        return Signs(
            math.log(p / (1 - p)),
            float(alike[place]),
            near[place].fast_cosine,
            float(max(alike[at] for at in own)) - max(others, default=GAP_ALONE),
            (len(own) - 1) / FAST_COUNT,
        )

    def _kin_of(self, key: bytes) -> bytes:
        """Answers known to be the same have one kin."""
        return self._kin.get(key, key)

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
                    self.bound_of(group).learn(pending.signs, right, pending.weight, wrong_max)
                if right:
                    self._kin[key] = self._kin_of(pending.key)
                    while len(self._kin) > KIN_MAX:
                        self._kin.popitem(last=False)
        self._kept.put(space, key, question, fast, fine, entry)
        return right

    def drop(self, group: str, space: bytes, key: bytes, wrong_max: float) -> None:
        """An answer was flushed, perhaps because somebody called it wrong: so it counts."""
        signs = self._served.pop((space, key), None)
        if signs is not None:
            self.bound_of(group).learn(signs, False, 1.0, wrong_max)
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
