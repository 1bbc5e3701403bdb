"""From a question to a kept answer that is right for it, or none; and what is learned of it.

fast embedder -> 20 nearest -> better embedder -> 5 nearest -> vetoes -> verifier
    -> the bound: serve it, answer afresh to check it, or miss
    -> what stays in doubt may be put to a judge, see `semantic.service`
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from tokenschain.core.cache.semantic_protocol import Cluster, Report
from tokenschain.core.cache.store import Entry
from tokenschain.semantic.embedders import Vectors
from tokenschain.semantic.error_bound import (
    BoundState,
    Choice,
    ErrorBound,
    Features,
)
from tokenschain.semantic.guards import facts_of
from tokenschain.semantic.index import Candidate, VectorStore
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
PENDING_MAX, GROUPS_MAX, SPACES_MAX, KIN_MAX = 2_000, 10_000, 10_000, 500_000
DOUBT_MIN = 0.2
"""Likeness from which a judge is worth asking."""
ALIKE_MIN = 0.9
"""Likeness from which two questions are shown as one where their answers do not tell."""
VARIANTS_MAX, SHOWN_CHARS_MAX = 20, 2_000
GAP_ALONE = 0.85
"""Where all neighbours say the same: about the cosine of questions that have nothing in common."""


class Models(Protocol):
    """The two embedders; see `semantic.embedders.Embedders`."""

    def fast(self, texts: list[str]) -> Vectors: ...
    def fine(self, texts: list[str]) -> Vectors: ...
    def to_scale(self, cosines: Vectors) -> Vectors: ...


class Found(NamedTuple):
    """What a question led to."""

    choice: Choice
    likeness: float = 0.0
    key: bytes = b""
    entry: Entry | None = None
    doubt: Doubt | None = None
    """What a miss was nearest to, where a judge could tell."""


class Doubt(NamedTuple):
    """A kept answer that may be right for a question."""

    key: bytes
    entry: Entry


class Unclear(NamedTuple):
    """A kept and a fresh answer of which cannot be said here whether they say the same."""

    group: str
    key: bytes
    question: str
    kept: str
    fresh: str
    pending: _Pending
    wrong_max: float


class _Pending(NamedTuple):
    """A question that is being answered afresh."""

    fast: Vectors
    fine: Vectors | None
    key: bytes
    """Of the best kept answer; empty where none was near."""
    features: Features
    weight: float


_NO_SIGNS = Features(0.0, 0.0, 0.0, 0.0, 0.0)


Judge = Callable[[str, str, str, str], bool | None]
"""Whether a kept answer is right for a question that was answered afresh: kept question and
answer, new question and answer. None: it cannot be said."""


class Matcher:
    """All spaces of one machine; used from one thread."""

    def __init__(
        self,
        models: Models,
        verifier: Verifier,
        random: Callable[[], float],
        kept: VectorStore,
        judge: Judge | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            judge: compares answers; by default by their numbers and their embeddings.
        """
        self._models = models
        self._verifier = verifier
        self._random = random
        self._judge = judge or self._alike
        self._unix_time = unix_time
        self._kept = kept
        self._bounds: OrderedDict[str, ErrorBound] = OrderedDict()
        self._pending: OrderedDict[tuple[bytes, str], _Pending] = OrderedDict()
        self._served: OrderedDict[tuple[bytes, bytes], Features] = OrderedDict()
        self._kin: OrderedDict[bytes, bytes] = OrderedDict()
        self._like: OrderedDict[bytes, bytes] = OrderedDict()
        self._groups: OrderedDict[bytes, str] = OrderedDict()

    def find(self, namespace: bytes, group: str, question: str) -> Found:
        """The kept answer for a question, if it may be given."""
        fast = self._models.fast([question])[0]
        near = self._kept.near(namespace, fast, FAST_COUNT)
        if not near or near[0].fast_cosine < FAST_MIN:
            self._wait(namespace, question, _Pending(fast, None, b"", _NO_SIGNS, 1.0))
            return Found(Choice.MISS)
        fine = self._models.fine([question])[0]
        alike = self._models.to_scale(np.array([one.fine for one in near]) @ fine)
        best, best_key, best_entry = 0.0, b"", None
        for rank in np.argsort(-alike)[:FINE_COUNT]:
            one = near[int(rank)]
            likeness, _ = self._verifier.weigh(
                one.question, question, float(alike[rank]), one.fast_cosine
            )
            if likeness <= best:
                continue
            entry = self._kept.entry(namespace, one.key, self._unix_time())
            if entry is not None:
                best, best_key, best_entry = likeness, one.key, entry
        if best_entry is None or best < NEAR_MIN:
            self._wait(namespace, question, _Pending(fast, fine, b"", _NO_SIGNS, 1.0))
            return Found(Choice.MISS)
        features = self._signs(near, alike, best_key, best)
        bound = self.bound_of(group)
        likeness = bound.likeness(features)
        choice, weight = bound.choose(likeness)
        if choice is Choice.SERVE:
            self._given(namespace, best_key, features)
            return Found(choice, likeness, best_key, best_entry)
        self._wait(namespace, question, _Pending(fast, fine, best_key, features, weight))
        doubtful = choice is Choice.MISS and likeness >= DOUBT_MIN
        return Found(choice, likeness, doubt=Doubt(best_key, best_entry) if doubtful else None)

    def confirmed(self, namespace: bytes, group: str, question: str, doubt: Doubt) -> bool:
        """A judge called a kept answer right. Whether it is given: a sample is answered afresh,
        so that judges are judged."""
        bound = self.bound_of(group)
        pending = self._pending.get((namespace, question))
        if pending is None:
            return False
        choice, weight = bound.confirm()
        if choice is not Choice.SERVE:
            self._pending[namespace, question] = pending._replace(weight=weight)
            return False
        del self._pending[namespace, question]
        self._given(namespace, doubt.key, pending.features)
        return True

    def _signs(
        self, near: list[Candidate], alike: Vectors, key: bytes, probability: float
    ) -> Features:
        """What speaks for one of the neighbours."""
        place = next(at for at, one in enumerate(near) if one.key == key)
        equivalence_class = self._kin_of(key)
        own = [at for at, one in enumerate(near) if self._kin_of(one.key) == equivalence_class]
        others = [float(alike[at]) for at in range(len(near)) if at not in own]
        p = min(max(probability, 1e-3), 1 - 1e-3)
        return Features(
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
        self,
        namespace: bytes,
        group: str,
        key: bytes,
        question: str,
        entry: Entry,
        wrong_max: float,
    ) -> bool | Unclear | None:
        """A question was answered afresh: keep that, and compare it with what was near.

        Returns:
            Whether the kept answer would have been right; None where there was none.
        """
        pending = self._pending.pop((namespace, question), None)
        fast = pending.fast if pending is not None else self._models.fast([question])[0]
        fine = pending.fine if pending is not None else None
        if fine is None:
            fine = self._models.fine([question])[0]
        found: bool | Unclear | None = None
        if pending is not None and pending.key:
            kept = self._kept.entry(namespace, pending.key, self._unix_time())
            if kept is not None:
                said, fresh = answer_in(kept), answer_in(entry)
                unclear = Unclear(group, key, question, said, fresh, pending, wrong_max)
                right = self._judge(kept.question, said, question, fresh)
                found = unclear if right is None else right
                if right is not None:
                    self.judged(unclear, right=right)
                elif self.bound_of(group).likeness(pending.features) >= ALIKE_MIN:
                    _join(self._like, key, pending.key)
        self._kept.put(namespace, key, question, fast, fine, entry)
        _remember(self._groups, namespace, group, SPACES_MAX)
        return found

    def judged(self, unclear: Unclear, *, right: bool) -> None:
        """Whether a kept answer would have been right has been said."""
        pending = unclear.pending
        self.bound_of(unclear.group).learn(
            pending.features, right, pending.weight, unclear.wrong_max
        )
        if right:
            _join(self._kin, unclear.key, pending.key)

    def drop(self, group: str, namespace: bytes, key: bytes, wrong_max: float) -> None:
        """An answer was flushed, perhaps because somebody called it wrong: so it counts."""
        features = self._served.pop((namespace, key), None)
        if features is not None:
            self.bound_of(group).learn(features, False, 1.0, wrong_max)
        self._kept.drop(namespace, key)

    def bound_of(self, group: str) -> ErrorBound:
        """The bound of one group."""
        bound = self._bounds.get(group)
        if bound is None:
            bound = self._bounds[group] = ErrorBound(self._random)
            while len(self._bounds) > GROUPS_MAX:
                self._bounds.popitem(last=False)
        return bound

    def reports(self) -> list[Report]:
        """What was measured, by group."""
        found = []
        for group, bound in self._bounds.items():
            wrong = bound.wrongness()
            outlooks = [(o.wrong_max, o.threshold, o.served, o.wrong) for o in bound.outlooks]
            found.append(
                Report(group, bound.wrong_max, wrong.estimate, wrong.low, wrong.high,
                       wrong.labels, bound.served, bound.threshold, outlooks)
            )  # fmt: skip
        return found

    def clusters(self, tenant: str, keys: list[bytes], count_max: int) -> list[Cluster]:
        """A tenant's questions by what they ask, as far as this process has them.

        Args:
            keys: of answers that were given most often; theirs come first, then those with the
                most variants.
        """
        members: dict[bytes, list[tuple[bytes, str]]] = {}
        homes: dict[bytes, bytes] = {}
        for namespace, group in self._groups.items():
            if not group.startswith(f"{tenant}/"):
                continue
            for key, question in self._kept.questions(namespace):
                equivalence_class = self._kin_of(self._like.get(key, key))
                members.setdefault(equivalence_class, []).append((key, question))
                homes[equivalence_class] = namespace
        ranks = {key: rank for rank, key in enumerate(keys)}
        order = sorted(
            (one for one in members if len(members[one]) > 1 or members[one][0][0] in ranks),
            key=lambda one: (min(ranks.get(key, len(keys)) for key, _ in members[one]),
                             -len(members[one])),
        )  # fmt: skip
        found = []
        for equivalence_class in order[:count_max]:
            rows = sorted(members[equivalence_class], key=lambda row: ranks.get(row[0], len(keys)))
            namespace = homes[equivalence_class]
            answers = (self._kept.entry(namespace, key, self._unix_time()) for key, _ in rows)
            answer = next((answer_in(entry) for entry in answers if entry is not None), "")
            found.append(
                Cluster(
                    self._groups[namespace],
                    [key for key, _ in rows],
                    [question[:SHOWN_CHARS_MAX] for _, question in rows[:VARIANTS_MAX]],
                    answer[:SHOWN_CHARS_MAX],
                )
            )
        return found

    def state(self) -> bytes:
        """What the bounds have learned; no text is in it."""
        return _encode_bounds({name: bound.state for name, bound in self._bounds.items()})

    def restore(self, state: bytes) -> None:
        """Go on from what was learned before.

        Raises:
            msgspec.DecodeError: this is none.
        """
        for name, learned in _decode_bounds(state).items():
            self._bounds[name] = ErrorBound.restored(learned, self._random)

    def _given(self, namespace: bytes, key: bytes, features: Features) -> None:
        _remember(self._served, (namespace, key), features, PENDING_MAX)

    def _wait(self, namespace: bytes, question: str, pending: _Pending) -> None:
        _remember(self._pending, (namespace, question), pending, PENDING_MAX)

    def _alike(self, asked: str, kept: str, question: str, fresh: str) -> bool | None:
        """Whether two answers say the same, by their numbers and their embeddings."""
        kept, fresh = kept[:ANSWER_CHARS], fresh[:ANSWER_CHARS]
        if kept == fresh:
            return True
        one, other = facts_of(kept), facts_of(fresh)
        if one.numbers != other.numbers or one.codes != other.codes:
            return False
        vectors = self._models.fine([kept, fresh])
        cosine = float(self._models.to_scale(vectors[:1] @ vectors[1])[0])
        if math.isnan(cosine) or OTHER_ANSWER < cosine < SAME_ANSWER:
            return None
        return cosine >= SAME_ANSWER


_encode_bounds = msgspec.msgpack.Encoder().encode
_decode_bounds = msgspec.msgpack.Decoder(dict[str, BoundState]).decode


def _remember(rows: OrderedDict[Any, Any], key: Any, value: Any, count_max: int) -> None:
    """Keep the latest."""
    rows[key] = value
    while len(rows) > count_max:
        rows.popitem(last=False)


def _join(equivalence_class: OrderedDict[bytes, bytes], key: bytes, other: bytes) -> None:
    """From here on both have the same root."""
    _remember(equivalence_class, key, equivalence_class.get(other, other), KIN_MAX)


def answer_in(entry: Entry) -> str:
    """What an answer says, without its frame."""
    reply: Any = msgspec.json.decode(entry.body)
    choices = reply.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")
