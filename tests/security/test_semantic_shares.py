"""What the semantic process holds is shared by tenants, and all of it is counted."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest

from tests.semantic.test_matcher import Letters, matcher, unit
from tests.semantic.test_matcher import entry as entry_of
from tokenschain.core.cache.store import CacheEntry
from tokenschain.semantic import index as index_module
from tokenschain.semantic import matcher as matcher_module
from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS
from tokenschain.semantic.index import LocalVectorStore

BYTES_MAX = 4 * 2**20
FAST, FINE = unit(1, FAST_DIMENSIONS), unit(1, FINE_DIMENSIONS)


def _put(
    store: LocalVectorStore, tenant: str, namespace: int, number: int, text: str = ""
) -> bytes:
    key = f"{tenant} {namespace} {number}".encode()
    kept = CacheEntry(b"x" * 200, tenant, "m", 0.0, 1e12, question=text)
    store.put(b"%d" % namespace, key, text, FAST, FINE, kept)
    return key


@pytest.mark.parametrize("namespaces", [1, 3, 5_000])
def test_a_tenant_with_many_questions_takes_no_others_and_all_memory_is_counted(
    namespaces: int,
) -> None:
    store = LocalVectorStore(BYTES_MAX)
    mine = [_put(store, "mine", -1, number) for number in range(20)]
    tracemalloc.start()
    try:
        for number in range(5_000):
            _put(store, "another", number % namespaces, number, "q" * 1_200)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.3 * BYTES_MAX, "beyond what an operator allows"
    assert {one.key for one in store.near(b"-1", FAST, 20)} == set(mine)
    assert all(store.entry(b"-1", key, 1.0) for key in mine)
    known = sum(len(store.questions(b"%d" % name)) for name in range(-1, namespaces))
    assert known == len(store), "a question without its answer"


@pytest.mark.parametrize("graph_from", [30, 1_000])
def test_namespaces_that_were_large_give_their_memory_back(
    graph_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question that is asked for now and then stays of each."""
    monkeypatch.setattr(index_module, "GRAPH_FROM", graph_from)
    store = LocalVectorStore(BYTES_MAX)
    wanted: list[tuple[bytes, bytes]] = []
    for namespace in range(8):
        wanted.append((b"%d" % namespace, _put(store, "another", namespace, 0)))
        for number in range(1, 400):
            for place, key in wanted:
                store.entry(place, key, 1.0)
            _put(store, "another", namespace, number)
    indexes = [store._indexes[place] for place, _ in wanted]
    assert len(indexes) == 8
    for index in indexes:
        assert len(index._fine) <= 4 * len(index) + 4
        assert index._graph is None or len(index) * 4 >= graph_from


def test_the_first_question_of_a_full_namespace_leaves_with_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "QUESTIONS_MAX", 5)
    store = LocalVectorStore(BYTES_MAX)
    for number in range(12):
        _put(store, "t", 0, number)
        _put(store, "t", 0, number)
    assert len(store.questions(b"0")) == len(store) == 5


def test_what_others_ask_takes_nothing_that_a_tenant_taught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Questions that wait for an answer, answers served lately, what a group has learned, what
    clusters are made of."""
    for name in ("PENDING_MAX", "GROUPS_MAX", "NAMESPACES_MAX", "EQUIVALENCES_MAX"):
        monkeypatch.setattr(matcher_module, name, 50)
    made = matcher()
    find = partial(made.find, b"mine")
    asked = [f"where is my {letter * 4} parcel" for letter in "abcdef"]
    for question in asked:
        find("mine/p/m", question)
        kept = entry_of("there", question)
        kept.tenant = "mine"
        made.learn(b"mine", "mine/p/m", question.encode(), question, kept, 0.05)
    find("mine/p/m", "where is my aaaa parcel?")
    learned = made.error_bound_of("mine/p/m")
    made._served.keep("mine", (b"mine", asked[0].encode()), matcher_module._NO_FEATURES)
    before = learned.pairs
    for number in range(300):
        group, namespace = f"another/p{number}/m", b"another %d" % number
        made.find(namespace, group, f"what about {number}")
        made._served.keep("another", (namespace, b"k"), matcher_module._NO_FEATURES)
        made.find(namespace, group, f"and {number}")
        made.learn(namespace, group, b"%d" % number, f"and {number}", entry_of("x"), 0.05)
    assert made.error_bound_of("mine/p/m") is learned
    made.learn(b"mine", "mine/p/m", b"k", "where is my aaaa parcel?", entry_of("there"), 0.05)
    assert learned.pairs == before + 1, "its question was waiting still"
    made.drop("mine/p/m", b"mine", asked[0].encode(), 0.05)
    assert learned.pairs == before + 2, "a wrong answer that was served counts"
    assert made.clusters("mine", [asked[1].encode()], 5)
    assert isinstance(made._models, Letters) and np.isfinite(FAST).all()
