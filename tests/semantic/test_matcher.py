"""The semantic cache without embedding models: small stand-ins take their place."""

from __future__ import annotations

import json
import random
import signal
import time
import zlib

import numpy as np
import pytest
from redis import Redis

from tests.servers import RedisStack
from tests.waiting import until
from tokenschain.core.cache.semantic_protocol import LabelledPair
from tokenschain.core.cache.store import CacheEntry
from tokenschain.infra.redis import vector_index as redis_module
from tokenschain.infra.redis.connection import REDIS_FAILURES
from tokenschain.infra.redis.vector_index import RedisVectorIndex
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer
from tokenschain.semantic import index as index_module
from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS, Flags, Vectors
from tokenschain.semantic.error_bound import LABELS_MIN, ServingDecision
from tokenschain.semantic.index import (
    Index,
    LayeredVectorStore,
    LocalVectorStore,
    SharedVectorStore,
    VectorStore,
)
from tokenschain.semantic.matcher import Matcher
from tokenschain.semantic.verifier import Verifier


class Letters:
    """Embeds a text as the sum of its letters' vectors: alike is what has the same letters."""

    calls = 0

    def fast(self, texts: list[str]) -> Vectors:
        return self._embed(texts, FAST_DIMENSIONS)

    def fine(self, texts: list[str]) -> Vectors:
        self.calls += 1
        return self._embed(texts, FINE_DIMENSIONS)

    def to_scale(self, cosines: Vectors) -> Vectors:
        return cosines

    def likeness(self, ones: Vectors, others: Vectors, english: Flags) -> Vectors:
        return np.asarray((ones * others).sum(axis=1))

    def _embed(self, texts: list[str], size: int) -> Vectors:
        rows = []
        for text in texts:
            row = np.zeros(size, dtype=np.float32)
            for letter in text.lower():
                row[zlib.crc32(letter.encode()) % size] += 1
            rows.append(row / max(1e-9, float(np.linalg.norm(row))))
        return np.array(rows, dtype=np.float32)


def sealer_of(secret: str) -> Sealer:
    secrets = (secret,)
    return Sealer(INTERNATIONAL, lambda: secrets, lambda _, one: one.encode() * 32)


def entry(answer: str, question: str = "", expires_s: float = 1e12) -> CacheEntry:
    body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
    return CacheEntry(body, "t", "m", 0.0, expires_s, question=question)


def matcher(**more: object) -> Matcher:
    return Matcher(
        Letters(),
        Verifier.shipped(),
        random.Random(1).random,
        LocalVectorStore(2**24),
        unix_time=lambda: 0.0,
        **more,  # type: ignore[arg-type]
    )


def learn(made: Matcher, question: str, answer: str, namespace: bytes = b"s") -> bool | None:
    made.find(namespace, "g", question)
    return made.learn(namespace, "g", question.encode(), question, entry(answer, question), 0.01)


def taught() -> Matcher:
    """A matcher that has seen often enough that what is alike is right."""
    made = matcher()
    for number in range(LABELS_MIN + 60):
        name = "abcdefghijklmnopqrstuvwxyz"[number % 26]
        way = ("where is my {0}{0}{0} parcel", "my {0}{0}{0} parcel, where is it")[number % 2]
        for _ in range(3):
            made.error_bound_of("g").record_exact_hit()
        learn(made, way.format(name) + " " * (number % 7), f"at {name}")
    return made


def test_what_guards_rule_out_is_no_candidate_however_probable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = taught()
    near = "my aaa parcel where is it now"
    assert made.find(b"s", "g", near).hit_confidence > 0.5
    monkeypatch.setattr(Verifier, "weigh", lambda *_: (0.99, ("numbers",)))
    found = made.find(b"s", "g", near)
    assert (found.decision, found.hit_confidence, found.doubt) == (ServingDecision.MISS, 0.0, None)
    assert learn(made, near, "at a") is None
    assert not made.teach("g", LabelledPair(near, "where is my aaa parcel", True), 0.01)


def test_it_serves_once_it_knows_enough_and_drops_what_was_wrong() -> None:
    made = taught()
    assert made.error_bound_of("g").threshold is not None
    found = [made.find(b"s", "g", f"my {n * 3} parcel where is it now") for n in "abcdefgh"]
    served = [one for one in found if one.decision is ServingDecision.SERVE]
    assert served and all(one.entry is not None for one in served)
    key = served[0].key
    made.drop("g", b"s", key, 0.01)
    assert key not in {made.find(b"s", "g", f"my {n * 3} parcel where is it now").key
                       for n in "abcdefgh"}  # fmt: skip


def test_pairs_that_are_known_teach_it_before_there_are_calls() -> None:
    """Group by group; pairs that would never be compared tell nothing."""
    made = matcher()
    names = "abcdefghijklmnopqrstuvwxyz"
    for number in range(LABELS_MIN):
        assert made.error_bound_of("g").learning
        name, end = names[number % 26] * 3, "?" * (number // 26)
        asked = f"where is my {name} parcel {end}", f"my {name} parcel, where is it {end}"
        assert made.teach("g", LabelledPair(*asked, True), 0.05)
    bound = made.error_bound_of("g")
    bound.refit()
    assert bound.threshold is not None and not bound.learning and bound.pairs == LABELS_MIN
    assert not made.teach("g", LabelledPair("aaaa", "zzzz", True), 0.05)
    assert not made.teach("g", LabelledPair("in 3 days?", "in 30 days?", True), 0.05)
    assert bound.pairs == LABELS_MIN
    found = []
    for name in names:
        asked = f"where is my {name * 3} parcel ??", f"my {name * 3} parcel, where is it ??"
        made.learn(name.encode(), "g", b"k", asked[0], entry("there", asked[0]), 0.05)
        found.append(made.find(name.encode(), "g", asked[1]).decision)
    assert ServingDecision.SERVE in found
    assert made.error_bound_of("another").learning


def test_namespaces_and_groups_never_meet() -> None:
    made = taught()
    assert made.find(b"other", "g", "where is my aaa parcel").entry is None
    assert (
        made.find(b"s", "another group", "where is my aaa parcel ?").decision
        is ServingDecision.MISS
    )


def test_traps_are_never_served_whatever_the_embedders_say() -> None:
    made = taught()
    learn(made, "return within 30 days ok", "yes")
    for trap in ("return within 3 days ok", "return not within 30 days ok"):
        assert made.find(b"s", "g", trap).decision is ServingDecision.MISS


def test_answers_are_compared_by_their_numbers_and_their_words() -> None:
    made = matcher()
    same, other = "It takes five days by post.", "It takes nine days by post."
    assert made._same_answer("q", same, "q", same) is True
    assert made._same_answer("q", same, "q", other) is False
    assert made._same_answer("q", same, "q", "The office opens on Monday at noon.") is not True


def test_what_is_gone_from_memory_is_not_found() -> None:
    small = Matcher(
        Letters(), Verifier.shipped(), random.Random(1).random, LocalVectorStore(60_000)
    )
    for number in range(20):
        learn(small, f"question number {'x' * number}", "a" * 300)
    assert len(small._store) < 6  # type: ignore[arg-type]
    assert small.find(b"s", "g", "question number x").decision is ServingDecision.MISS


def test_far_questions_cost_one_embedding_only() -> None:
    models = Letters()
    made = Matcher(models, Verifier.shipped(), random.Random(1).random, LocalVectorStore(2**20))
    learn(made, "zzzz", "a")
    before = models.calls
    made.find(b"s", "g", "怎么退货")
    assert models.calls == before


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("graph_from", [50, 10_000])
def test_an_index_finds_what_brute_force_finds(
    seed: int, graph_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "GRAPH_FROM", graph_from)
    random = np.random.default_rng(seed)
    index, kept = Index(), {}
    for number in range(300):
        fast = random.normal(size=FAST_DIMENSIONS).astype(np.float32)
        fast /= np.linalg.norm(fast)
        key = bytes([number % 256, number // 256])
        index.add(key, str(number), fast, np.zeros(FINE_DIMENSIONS, np.float32))
        kept[key] = fast
        if random.random() < 0.3:
            gone = list(kept)[int(random.integers(len(kept)))]
            index.remove(gone)
            del kept[gone]
    assert len(index) == len(kept)
    query = random.normal(size=FAST_DIMENSIONS).astype(np.float32)
    best = sorted(kept, key=lambda key: -float(kept[key] @ query))[:5]
    found = [index.at(place)[0] for place, _ in index.nearest(query, 20)]
    # A graph of half-precision vectors may miss one that is nearly as far as the next.
    assert len(set(best) & set(found)) >= (5 if graph_from > 300 else 4)
    assert found[0] == best[0]
    index.remove(b"never there")
    for key in list(kept)[len(kept) // 10 :]:  # most leave: what is left is found as before
        index.remove(key)
        del kept[key]
    best = sorted(kept, key=lambda key: -float(kept[key] @ query))[:5]
    assert [index.at(place)[0] for place, _ in index.nearest(query, 5)] == best


def unit(seed: int, size: int) -> Vectors:
    row = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return np.asarray(row / np.linalg.norm(row), dtype=np.float32)


@pytest.fixture(params=["local", "redis"])
def kept(request: pytest.FixtureRequest) -> VectorStore:
    if request.param == "local":
        return LocalVectorStore(2**24)
    redis: RedisStack = request.getfixturevalue("redis")
    redis.flush()
    store = RedisVectorIndex(redis.url, sealer_of("k"), "test", FAST_DIMENSIONS)
    store.near(b"s", unit(0, FAST_DIMENSIONS), 1)  # makes the index
    return SharedVectorStore(store, lambda: 0.0)


@pytest.mark.parametrize("large", [5, 5_000])
def test_both_stores_keep_find_and_forget(
    kept: VectorStore, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "LARGE_SPACE", large)
    monkeypatch.setattr(redis_module, "COUNT_EVERY_S", 0.0)
    for number in range(60):
        namespace = b"one" if number % 2 else b"two"
        key = number.to_bytes(16, "big")
        kept.put(
            namespace, key, f"question {number}", unit(number, FAST_DIMENSIONS),
            unit(number, FINE_DIMENSIONS), entry(f"answer {number}", expires_s=1_000.0),
        )  # fmt: skip
    fast = unit(7, FAST_DIMENSIONS)
    near = until(lambda: kept.near(b"one", fast, 20))
    key = (7).to_bytes(16, "big")
    assert (near[0].key, near[0].question) == (key, "question 7")
    assert near[0].fast_cosine == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(near[0].fine, unit(7, FINE_DIMENSIONS), atol=1e-3)
    assert len(near) == 20
    assert all(int.from_bytes(one.key, "big") % 2 for one in near), "another space was searched"
    assert kept.near(b"none", fast, 5) == []
    found = kept.entry(b"one", key, 1.0)
    assert found is not None and b"answer 7" in found.body
    assert kept.entry(b"one", key, 1_000.0) is None, "too old"
    kept.drop(b"one", key)
    assert kept.entry(b"one", key, 1.0) is None
    assert key not in {one.key for one in kept.near(b"one", fast, 20)}


def test_texts_in_redis_are_sealed_and_an_emptied_redis_is_begun_anew(redis: RedisStack) -> None:
    redis.flush()
    store = RedisVectorIndex(redis.url, sealer_of("k"), "test", FAST_DIMENSIONS)
    shared = SharedVectorStore(store, lambda: 0.0)
    fast, fine = unit(1, FAST_DIMENSIONS), unit(1, FINE_DIMENSIONS)

    def put() -> None:
        shared.near(b"s", fast, 1)
        shared.put(b"s", b"k" * 16, "secret question", fast, fine, entry("secret", expires_s=99.0))

    put()
    with Redis.from_url(redis.url) as client:
        said = b"".join(v for name in client.scan_iter() for v in client.hvals(name))
    assert b"secret" not in said
    other = SharedVectorStore(
        RedisVectorIndex(redis.url, sealer_of("x"), "test", FAST_DIMENSIONS),
        lambda: 0.0,
    )
    assert other.near(b"s", fast, 1) == [] and other.entry(b"s", b"k" * 16, 1.0) is None
    redis.flush()
    assert shared.near(b"s", fast, 1) == []
    put()
    until(lambda: shared.near(b"s", fast, 1))


def test_without_the_shared_store_this_machine_goes_on_alone(redis: RedisStack) -> None:
    redis.flush()
    told: list[str] = []
    store = RedisVectorIndex(redis.url, sealer_of("k"), "test", FAST_DIMENSIONS)
    layered = LayeredVectorStore(
        LocalVectorStore(2**20), SharedVectorStore(store, lambda: 0.0), REDIS_FAILURES, time.monotonic,
        lambda event, why="", **fields: told.append(event),
    )  # fmt: skip
    fast, fine = unit(1, FAST_DIMENSIONS), unit(1, FINE_DIMENSIONS)
    layered.put(b"s", b"a" * 16, "a", fast, fine, entry("a", expires_s=99.0))
    redis.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(5):
            assert {one.question for one in layered.near(b"s", fast, 5)} == {"a"}
            layered.put(b"s", b"b" * 16, "a", fast, fine, entry("b", expires_s=99.0))
        assert time.monotonic() - began < 10 and told == ["shared_semantic_lost"]
    finally:
        redis.process.send_signal(signal.SIGCONT)
