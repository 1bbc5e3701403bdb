"""Semantic cache: from a question to a cached answer that is right for it, and what is learned.

fast embedder -> 20 nearest -> better embedder -> 5 nearest -> guards -> verifier
    -> error bound: serve it, answer upstream to check it, or miss
    -> a miss in doubt may be put to a judge model, see `semantic.service`
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from tokenschain.core.cache.semantic_protocol import Cluster, LabelledPair, Report
from tokenschain.core.cache.store import CacheEntry
from tokenschain.semantic.embedders import Flags, Vectors
from tokenschain.semantic.error_bound import (
    LABELS_MIN,
    ErrorBound,
    ErrorBoundState,
    Features,
    ServingDecision,
)
from tokenschain.semantic.index import CachedQuestion, VectorStore
from tokenschain.semantic.tenant_rows import TenantRows
from tokenschain.semantic.text_facts import TextFacts
from tokenschain.semantic.verifier import Verifier, is_english

FAST_COUNT, FINE_COUNT = 20, 5
FAST_MIN = 0.2
"""Cosine below which no two questions ask the same; the better embedder is not run."""
NEAR_MIN = 0.02
"""Verifier's probability from which a cached answer is worth comparing with the upstream's."""
SAME_ANSWER, OTHER_ANSWER = 0.95, 0.88
"""Cosines of two answers from, and up to, which they say the same, or not; what is between is
no evidence. E5's floor is about 0.8 (random pairs)."""
ANSWER_CHARS = 600
PENDING_MAX, GROUPS_MAX, NAMESPACES_MAX, EQUIVALENCES_MAX = 2_000, 10_000, 10_000, 500_000
DOUBT_MIN = 0.2
"""Hit confidence from which a judge is worth its price."""
ALIKE_MIN = 0.9
"""Hit confidence from which two questions are shown as one cluster where their answers do not
tell."""
ALIKE_LOG_ODDS_MIN = 3.3
"""The same of the verifier alone (a probability of 0.964), whatever calls have taught."""
VARIANTS_MAX, SHOWN_CHARS_MAX = 20, 2_000
GAP_ALONE = 0.85
"""Where all neighbours have one answer: about the cosine of unrelated questions."""


class Models(Protocol):
    """The two embedders; see `semantic.embedders.Embedders`."""

    def fast(self, texts: list[str]) -> Vectors: ...
    def fine(self, texts: list[str]) -> Vectors: ...
    def to_scale(self, cosines: Vectors) -> Vectors: ...
    def likeness(self, ones: Vectors, others: Vectors, english: Flags) -> Vectors: ...


class MatchResult(NamedTuple):
    """What a question led to."""

    decision: ServingDecision
    hit_confidence: float = 0.0
    key: bytes = b""
    entry: CacheEntry | None = None
    doubt: Doubt | None = None
    """The best candidate of a miss, where a judge could tell."""


class Doubt(NamedTuple):
    """A cached answer that may be right for a question."""

    key: bytes
    entry: CacheEntry


class Unclear(NamedTuple):
    """A cached and an upstream's answer that cannot be compared here."""

    group: str
    key: bytes
    question: str
    cached: str
    fresh: str
    pending: _Pending
    false_hit_rate_max: float


class _Pending(NamedTuple):
    """A question that an upstream is answering."""

    fast: Vectors
    fine: Vectors | None
    key: bytes
    """Of the best cached answer; empty where none was near."""
    features: Features
    weight: float


_NO_FEATURES = Features(0.0, 0.0, 0.0, 0.0, 0.0)


AnswerComparison = Callable[[str, str, str, str], bool | None]
"""Whether a cached answer is right for a question that an upstream answered: cached question and
answer, new question and answer. None: it cannot be said."""


class Matcher:
    """All namespaces of one machine; used from one thread."""

    def __init__(
        self,
        models: Models,
        verifier: Verifier,
        random: Callable[[], float],
        store: VectorStore,
        compare: AnswerComparison | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            compare: compares answers; by default by their numbers and their embeddings.
        """
        self._models = models
        self._verifier = verifier
        self._random = random
        self._compare = compare or self._same_answer
        self._unix_time = unix_time
        self._store = store
        self._error_bounds: TenantRows[str, ErrorBound] = TenantRows(GROUPS_MAX)
        self._pending: TenantRows[tuple[bytes, str], _Pending] = TenantRows(PENDING_MAX)
        self._served: TenantRows[tuple[bytes, bytes], Features] = TenantRows(PENDING_MAX)
        self._equivalent: TenantRows[bytes, bytes] = TenantRows(EQUIVALENCES_MAX)
        """By key: the class of answers known to be the same. It counts as evidence."""
        self._alike: TenantRows[bytes, bytes] = TenantRows(EQUIVALENCES_MAX)
        """By key: a question that most likely asks the same. For query clusters only."""
        self._groups: TenantRows[bytes, str] = TenantRows(NAMESPACES_MAX)

    def find(self, namespace: bytes, group: str, question: str) -> MatchResult:
        """The cached answer for a question, if it may be served."""
        tenant, asked = tenant_of(group), (namespace, question)
        fast = self._models.fast([question])[0]
        near = self._store.near(namespace, fast, FAST_COUNT)
        if not near or near[0].fast_cosine < FAST_MIN:
            self._pending.keep(tenant, asked, _Pending(fast, None, b"", _NO_FEATURES, 1.0))
            return MatchResult(ServingDecision.MISS)
        fine = self._models.fine([question])[0]
        facts = self._verifier.facts_of(question)
        cosines = self._likeness(facts, fine, np.array([one.fine for one in near]))
        best = self._best(namespace, facts, near, cosines)
        if best is None:
            self._pending.keep(tenant, asked, _Pending(fast, fine, b"", _NO_FEATURES, 1.0))
            return MatchResult(ServingDecision.MISS)
        probability, key, entry = best
        features = self._features(tenant, near, cosines, key, probability)
        error_bound = self.error_bound_of(group)
        confidence = error_bound.hit_confidence(features)
        decision, weight = error_bound.decide(confidence)
        if decision is ServingDecision.SERVE:
            self._served.keep(tenant, (namespace, key), features)
            return MatchResult(decision, confidence, key, entry)
        self._pending.keep(tenant, asked, _Pending(fast, fine, key, features, weight))
        # A shadow sample is no doubt: a judge that served it would take the sample away.
        doubtful = decision is ServingDecision.MISS and confidence >= DOUBT_MIN
        return MatchResult(decision, confidence, doubt=Doubt(key, entry) if doubtful else None)

    def _best(
        self, namespace: bytes, asked: TextFacts, near: list[CachedQuestion], cosines: Vectors
    ) -> tuple[float, bytes, CacheEntry] | None:
        """The most probable of the candidates whose answer is still there: the verifier's
        probability, key and answer."""
        best: tuple[float, bytes, CacheEntry] | None = None
        for rank in np.argsort(-cosines)[:FINE_COUNT]:
            one = near[int(rank)]
            probability, vetoes = self._verifier.weigh(
                self._verifier.facts_of(one.question), asked, float(cosines[rank]), one.fast_cosine
            )
            if vetoes or probability <= (best[0] if best is not None else 0.0):
                continue
            entry = self._store.entry(namespace, one.key, self._unix_time())
            if entry is not None:
                best = probability, one.key, entry
        return best if best is not None and best[0] >= NEAR_MIN else None

    def _likeness(self, question: TextFacts, fine: Vectors, others: Vectors) -> Vectors:
        """Cosines of a question and others as the verifier knows them. If it is English and one of
        the others is not, the guards tell them apart."""
        english = np.full(len(others), is_english(question))
        return self._models.likeness(np.broadcast_to(fine, others.shape), others, english)

    def approve(self, namespace: bytes, group: str, question: str, doubt: Doubt) -> bool:
        """A judge called a cached answer right. Whether it is served: a sample of them is still
        answered upstream, so that the judge's errors count against the bound."""
        tenant, asked = tenant_of(group), (namespace, question)
        pending = self._pending.get(tenant, asked)
        if pending is None:
            return False
        decision, weight = self.error_bound_of(group).decide_approved()
        if decision is not ServingDecision.SERVE:
            self._pending.keep(tenant, asked, pending._replace(weight=weight))
            return False
        self._pending.take(tenant, asked)
        self._served.keep(tenant, (namespace, doubt.key), pending.features)
        return True

    def _features(
        self,
        tenant: str,
        near: list[CachedQuestion],
        cosines: Vectors,
        key: bytes,
        probability: float,
    ) -> Features:
        """The evidence for one of the neighbours."""
        place = next(at for at, one in enumerate(near) if one.key == key)
        mine = self._class_of(tenant, key)
        own = [at for at, one in enumerate(near) if self._class_of(tenant, one.key) == mine]
        others = [float(cosines[at]) for at in range(len(near)) if at not in own]
        p = min(max(probability, 1e-3), 1 - 1e-3)
        return Features(
            math.log(p / (1 - p)),
            float(cosines[place]),
            near[place].fast_cosine,
            float(max(cosines[at] for at in own)) - max(others, default=GAP_ALONE),
            (len(own) - 1) / FAST_COUNT,
        )

    def _class_of(self, tenant: str, key: bytes) -> bytes:
        """The equivalence class of an answer, named by one of its keys."""
        return self._equivalent.get(tenant, key) or key

    def learn(
        self,
        namespace: bytes,
        group: str,
        key: bytes,
        question: str,
        entry: CacheEntry,
        false_hit_rate_max: float,
    ) -> bool | Unclear | None:
        """An upstream answered a question: store that, and compare it with the best candidate.

        Returns:
            Whether the cached answer would have been right; None where there was none.
        """
        tenant = tenant_of(group)
        pending = self._pending.take(tenant, (namespace, question))
        fast = pending.fast if pending is not None else self._models.fast([question])[0]
        fine = pending.fine if pending is not None else None
        if fine is None:
            fine = self._models.fine([question])[0]
        found: bool | Unclear | None = None
        if pending is not None and pending.key:
            cached = self._store.entry(namespace, pending.key, self._unix_time())
            if cached is not None:
                old, fresh = answer_in(cached), answer_in(entry)
                unclear = Unclear(group, key, question, old, fresh, pending, false_hit_rate_max)
                right = self._compare(cached.question, old, question, fresh)
                found = unclear if right is None else right
                if right is not None:
                    self.judged(unclear, right=right)
                elif (
                    pending.features[0] >= ALIKE_LOG_ODDS_MIN
                    and self.error_bound_of(group).hit_confidence(pending.features) >= ALIKE_MIN
                ):
                    _join(self._alike, tenant, key, pending.key)
        self._store.put(namespace, key, question, fast, fine, entry)
        self._groups.keep(tenant, namespace, group)
        return found

    def judged(self, unclear: Unclear, *, right: bool) -> None:
        """Learn whether a cached answer would have been right."""
        pending = unclear.pending
        self.error_bound_of(unclear.group).learn(
            pending.features, right, pending.weight, unclear.false_hit_rate_max
        )
        if right:
            _join(self._equivalent, tenant_of(unclear.group), unclear.key, pending.key)

    def teach(self, group: str, pair: LabelledPair, false_hit_rate_max: float) -> bool:
        """Learn from two questions as if the first were cached and the second asked.

        Returns:
            Whether it tells anything: pairs that would never be compared do not.
        """
        fast = self._models.fast([pair.question, pair.other])
        fast_cosine = float(fast[0] @ fast[1])
        if fast_cosine < FAST_MIN:
            return False
        fine = self._models.fine([pair.question, pair.other])
        asked = self._verifier.facts_of(pair.other)
        cosines = self._likeness(asked, fine[1], fine[:1])
        probability, vetoes = self._verifier.weigh(
            self._verifier.facts_of(pair.question), asked, float(cosines[0]), fast_cosine
        )
        if vetoes or not probability >= NEAR_MIN:
            return False
        near = [CachedQuestion(b"", pair.question, fast_cosine, fine[0])]
        features = self._features(tenant_of(group), near, cosines, b"", probability)
        self.error_bound_of(group).learn(features, pair.same, 1.0, false_hit_rate_max)
        return True

    def drop(self, group: str, namespace: bytes, key: bytes, false_hit_rate_max: float) -> None:
        """An answer was flushed. If it was served lately it counts as a false hit: who flushes a
        single answer calls it wrong."""
        features = self._served.take(tenant_of(group), (namespace, key))
        if features is not None:
            self.error_bound_of(group).learn(features, False, 1.0, false_hit_rate_max)
        self._store.drop(namespace, key)

    def error_bound_of(self, group: str) -> ErrorBound:
        """The error bound of one group."""
        tenant = tenant_of(group)
        found = self._error_bounds.get(tenant, group) or ErrorBound(self._random)
        self._error_bounds.keep(tenant, group, found)
        return found

    def reports(self) -> list[Report]:
        """What was measured, by group."""
        found = []
        for group, bound in self._error_bounds.items():
            rate = bound.false_hit_rate()
            found.append(
                Report(group, bound.false_hit_rate_max, rate.estimate, rate.low, rate.high,
                       rate.checked, bound.served, bound.threshold, list(bound.previews),
                       bound.pairs, LABELS_MIN)
            )  # fmt: skip
        return found

    def clusters(self, tenant: str, keys: list[bytes], count_max: int) -> list[Cluster]:
        """A tenant's query clusters, as far as this process has its questions.

        Args:
            keys: of answers that were served most often; theirs come first, then those with the
                most variants.
        """
        members: dict[bytes, list[tuple[bytes, str]]] = {}
        namespaces: dict[bytes, bytes] = {}
        groups = self._groups.of(tenant)
        for namespace in groups:
            for key, question in self._store.questions(namespace):
                name = self._class_of(tenant, self._alike.get(tenant, key) or key)
                members.setdefault(name, []).append((key, question))
                namespaces[name] = namespace
        ranks = {key: rank for rank, key in enumerate(keys)}
        order = sorted(
            (one for one in members if len(members[one]) > 1 or members[one][0][0] in ranks),
            key=lambda one: (min(ranks.get(key, len(keys)) for key, _ in members[one]),
                             -len(members[one])),
        )  # fmt: skip
        found = []
        for name in order[:count_max]:
            rows = sorted(members[name], key=lambda row: ranks.get(row[0], len(keys)))
            namespace = namespaces[name]
            answers = (self._store.entry(namespace, key, self._unix_time()) for key, _ in rows)
            answer = next((answer_in(entry) for entry in answers if entry is not None), "")
            found.append(
                Cluster(
                    groups[namespace],
                    [key for key, _ in rows],
                    [question[:SHOWN_CHARS_MAX] for _, question in rows[:VARIANTS_MAX]],
                    answer[:SHOWN_CHARS_MAX],
                )
            )
        return found

    def state(self) -> bytes:
        """What the error bounds have learned; no text is in it."""
        return _encode_bounds({name: bound.state for name, bound in self._error_bounds.items()})

    def restore(self, state: bytes) -> None:
        """Go on from what was learned before.

        Raises:
            msgspec.DecodeError: this is none.
        """
        for name, learned in _decode_bounds(state).items():
            bound = ErrorBound.restored(learned, self._random)
            self._error_bounds.keep(tenant_of(name), name, bound)

    def _same_answer(self, asked: str, cached: str, question: str, fresh: str) -> bool | None:
        """Whether two answers say the same, by their numbers and their embeddings."""
        cached, fresh = cached[:ANSWER_CHARS], fresh[:ANSWER_CHARS]
        if cached == fresh:
            return True
        one, other = self._verifier.facts_of(cached), self._verifier.facts_of(fresh)
        if one.numbers != other.numbers or one.codes != other.codes:
            return False
        vectors = self._models.fine([cached, fresh])
        cosine = float(self._models.to_scale(vectors[:1] @ vectors[1])[0])
        if math.isnan(cosine) or OTHER_ANSWER < cosine < SAME_ANSWER:
            return None
        return cosine >= SAME_ANSWER


_encode_bounds = msgspec.msgpack.Encoder().encode
_decode_bounds = msgspec.msgpack.Decoder(dict[str, ErrorBoundState]).decode


def _join(classes: TenantRows[bytes, bytes], tenant: str, key: bytes, other: bytes) -> None:
    """Put a key into the class of another; classes have no levels, so a lookup is one step."""
    classes.keep(tenant, key, classes.get(tenant, other) or other)


def tenant_of(group: str) -> str:
    """Whose group it is; see `core.cache.semantic_protocol.Find.group`."""
    return group.partition("/")[0]


def answer_in(entry: CacheEntry) -> str:
    """The text of the first choice."""
    reply: Any = msgspec.json.decode(entry.body)
    choices = reply.get("choices") or [{}]
    return str((choices[0].get("message") or {}).get("content") or "")
