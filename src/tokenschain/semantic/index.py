"""Vector index: cached questions by nearest neighbours, in this process and shared in Redis."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tokenschain.core.backoff import Backoff
from tokenschain.core.cache.store import (
    CacheEntry,
    CacheStore,
    decode_entry,
    encode_entry,
)
from tokenschain.core.log_events import Reporter
from tokenschain.infra.redis.vector_index import RedisVectorIndex
from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS, Vectors

QUESTIONS_MAX = 200_000
"""Of one namespace; the first of them leaves for a new one."""
GRAPH_FROM = 1_000
"""Questions of one namespace from which a graph (HNSW) is searched instead of all of them."""
TENANT_SHARE = 0.5
"""Of the memory for answers and their questions."""
QUESTION_OVERHEAD_BYTES = 2_000
"""Of one question beside its vectors and its text, in a namespace of its own."""
RETRY_AFTER_S = 1.0
"""After an error of the shared store: until it is asked again."""
_GROWTH = 1.5
_SPARSE = 4
"""So many times the place that questions need is given back."""


class CachedQuestion(NamedTuple):
    """A question that was answered before."""

    key: bytes
    question: str
    fast_cosine: float
    fine: Vectors


class VectorStore(Protocol):
    """A store of questions with their vectors and answers."""

    def near(self, namespace: bytes, fast: Vectors, count: int) -> list[CachedQuestion]:
        """Nearest neighbours by the fast embedder, the nearest first."""

    def entry(self, namespace: bytes, key: bytes, now_s: float) -> CacheEntry | None:
        """The answer under a key, unless it is too old or gone."""

    def put(
        self,
        namespace: bytes,
        key: bytes,
        question: str,
        fast: Vectors,
        fine: Vectors,
        entry: CacheEntry,
    ) -> None:
        """Store an answer."""

    def drop(self, namespace: bytes, key: bytes) -> None:
        """Forget an answer; nothing happens when there is none."""

    def questions(self, namespace: bytes) -> list[tuple[bytes, str]]:
        """Keys and questions of a namespace, as far as this process has them."""


class LocalVectorStore:
    """In this process; see `VectorStore`.

    A question counts with its answer, and leaves with it: a tenant has its share of the memory for
    both, however many namespaces it asks in.
    """

    def __init__(self, bytes_max: int, fine_dimensions: int = FINE_DIMENSIONS) -> None:
        """
        Args:
            bytes_max: of answers, questions and vectors.
        """
        self._store = CacheStore(bytes_max, TENANT_SHARE, self._left)
        self._fine_dimensions = fine_dimensions
        vectors = FAST_DIMENSIONS * 4 + fine_dimensions * 2
        self._question_bytes = QUESTION_OVERHEAD_BYTES + int(vectors * _GROWTH)
        self._indexes: dict[bytes, Index] = {}
        self._namespaces: dict[bytes, bytes] = {}
        """By key."""

    def __len__(self) -> int:
        return len(self._store)

    def near(self, namespace: bytes, fast: Vectors, count: int) -> list[CachedQuestion]:
        """See `VectorStore.near`."""
        index = self._indexes.get(namespace)
        if index is None:
            return []
        found = []
        for place, cosine in index.nearest(fast, count):
            key, question = index.at(place)
            found.append(CachedQuestion(key, question, cosine, index.fine_of(place)))
        return found

    def entry(self, namespace: bytes, key: bytes, now_s: float) -> CacheEntry | None:
        """See `VectorStore.entry`."""
        return self._store.get(key, now_s)

    def put(
        self,
        namespace: bytes,
        key: bytes,
        question: str,
        fast: Vectors,
        fine: Vectors,
        entry: CacheEntry,
    ) -> None:
        """See `VectorStore.put`."""
        if not self._store.put(key, entry, self._question_bytes + sys.getsizeof(question)):
            return
        full = self._indexes.get(namespace)
        if full is not None and len(full) >= QUESTIONS_MAX:
            self._store.drop(full.at(0)[0])
        index = self._indexes.get(namespace)
        if index is None:
            index = self._indexes[namespace] = Index(self._fine_dimensions)
        index.add(key, question, fast, fine)
        self._namespaces[key] = namespace

    def drop(self, namespace: bytes, key: bytes) -> None:
        """See `VectorStore.drop`."""
        self._store.drop(key)

    def _left(self, key: bytes) -> None:
        """An answer is no longer held: nor is its question."""
        namespace = self._namespaces.pop(key, None)
        if namespace is None:
            return
        index = self._indexes[namespace]
        index.remove(key)
        if not len(index):
            del self._indexes[namespace]

    def questions(self, namespace: bytes) -> list[tuple[bytes, str]]:
        """See `VectorStore.questions`."""
        index = self._indexes.get(namespace)
        return [] if index is None else index.all()


class SharedVectorStore:
    """In Redis, shared by machines; see `infra.redis.vector_index`."""

    def __init__(self, store: RedisVectorIndex, unix_time: Callable[[], float]) -> None:
        self._store = store
        self._unix_time = unix_time

    def near(self, namespace: bytes, fast: Vectors, count: int) -> list[CachedQuestion]:
        """See `VectorStore.near`."""
        return [
            CachedQuestion(key, question, cosine, np.frombuffer(fine, dtype=np.float32))
            for key, question, cosine, fine in self._store.near(namespace, fast, count)
        ]

    def entry(self, namespace: bytes, key: bytes, now_s: float) -> CacheEntry | None:
        """See `VectorStore.entry`."""
        found = self._store.get(key)
        entry = None if found is None else decode_entry(found)
        return None if entry is None or entry.expires_s <= now_s else entry

    def put(
        self,
        namespace: bytes,
        key: bytes,
        question: str,
        fast: Vectors,
        fine: Vectors,
        entry: CacheEntry,
    ) -> None:
        """See `VectorStore.put`."""
        ttl_s = entry.expires_s - self._unix_time()
        if ttl_s > 0:
            self._store.put(namespace, key, question, fast, fine, encode_entry(entry), ttl_s)

    def drop(self, namespace: bytes, key: bytes) -> None:
        """See `VectorStore.drop`."""
        self._store.drop(key)

    def questions(self, namespace: bytes) -> list[tuple[bytes, str]]:
        """None: clusters are made of what each process has itself."""
        return []


class LayeredVectorStore:
    """In this process and in Redis; while Redis fails this process goes on alone."""

    def __init__(
        self,
        local: VectorStore,
        shared: VectorStore,
        store_errors: tuple[type[Exception], ...],
        clock: Callable[[], float],
        report: Reporter,
    ) -> None:
        """
        Args:
            store_errors: what the shared one raises when it cannot be reached.
            report: told once when it is lost, and once when it is back.
        """
        self._local, self._shared = local, shared
        self._store_errors = store_errors
        self._backoff = Backoff(clock, RETRY_AFTER_S, name="shared_semantic", report=report)

    def near(self, namespace: bytes, fast: Vectors, count: int) -> list[CachedQuestion]:
        """See `VectorStore.near`."""
        found = {one.key: one for one in self._local.near(namespace, fast, count)}
        if self._reachable:
            with self._asking():
                for one in self._shared.near(namespace, fast, count):
                    found.setdefault(one.key, one)
        return sorted(found.values(), key=lambda one: -one.fast_cosine)[:count]

    def entry(self, namespace: bytes, key: bytes, now_s: float) -> CacheEntry | None:
        """See `VectorStore.entry`."""
        entry = self._local.entry(namespace, key, now_s)
        if entry is None and self._reachable:
            with self._asking():
                entry = self._shared.entry(namespace, key, now_s)
        return entry

    def put(
        self,
        namespace: bytes,
        key: bytes,
        question: str,
        fast: Vectors,
        fine: Vectors,
        entry: CacheEntry,
    ) -> None:
        """See `VectorStore.put`."""
        self._local.put(namespace, key, question, fast, fine, entry)
        if self._reachable:
            with self._asking():
                self._shared.put(namespace, key, question, fast, fine, entry)

    def drop(self, namespace: bytes, key: bytes) -> None:
        """See `VectorStore.drop`."""
        self._local.drop(namespace, key)
        if self._reachable:
            with self._asking():
                self._shared.drop(namespace, key)

    def questions(self, namespace: bytes) -> list[tuple[bytes, str]]:
        """See `VectorStore.questions`."""
        return self._local.questions(namespace)

    @property
    def _reachable(self) -> bool:
        return not self._backoff.wait_s

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The shared store is asked; that it fails is noted and goes no further."""
        try:
            yield
            self._backoff.answered()
        except self._store_errors as error:
            self._backoff.failed(str(error) or type(error).__name__)


class Index:
    """Nearest neighbours among the questions of one namespace: compared one by one while they are
    few, by an HNSW graph from `GRAPH_FROM` on."""

    def __init__(self, fine_dimensions: int = FINE_DIMENSIONS) -> None:
        self._fine_dimensions = fine_dimensions
        self._fast: Vectors | None = np.zeros((1, FAST_DIMENSIONS), dtype=np.float32)
        self._fine: npt.NDArray[np.float16] = np.zeros((1, fine_dimensions), dtype=np.float16)
        self._graph: Any = None
        self._keys: list[bytes] = []
        self._questions: list[str] = []
        self._numbers: list[int] = []
        self._places: dict[bytes, int] = {}
        self._by_number: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, question: str, fast: Vectors, fine: Vectors) -> None:
        """Add a question, or replace its vectors."""
        self.remove(key)
        place = len(self._keys)
        if place >= len(self._fine):
            self._resize(int(place * _GROWTH) + 1)
        number = self._count = self._count + 1
        self._keys.append(key)
        self._questions.append(question)
        self._numbers.append(number)
        self._places[key] = self._by_number[number] = place
        self._fine[place] = fine
        if self._fast is not None:
            self._fast[place] = fast
            if place + 1 >= GRAPH_FROM:
                self._build_graph()
        else:
            self._graph.add(number, fast)

    def remove(self, key: bytes) -> None:
        """Forget a question; the last takes its place. Nothing happens when there is none."""
        place = self._places.pop(key, None)
        if place is None:
            return
        number = self._numbers[place]
        del self._by_number[number]
        if self._graph is not None:
            self._graph.remove(number)
        last = len(self._keys) - 1
        if place != last:
            self._fine[place] = self._fine[last]
            if self._fast is not None:
                self._fast[place] = self._fast[last]
            self._keys[place], self._questions[place] = self._keys[last], self._questions[last]
            self._numbers[place] = self._numbers[last]
            self._places[self._keys[place]] = self._by_number[self._numbers[place]] = place
        self._keys.pop()
        self._questions.pop()
        self._numbers.pop()
        if last * _SPARSE < len(self._fine):
            self._give_back()

    def nearest(self, fast: Vectors, count: int) -> list[tuple[int, float]]:
        """Places and cosines of those nearest by the fast embedder."""
        size = len(self._keys)
        if not size:
            return []
        if self._graph is not None:
            found = self._graph.search(fast, min(count, size))
            rows = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
            return [(self._by_number[n], 1.0 - far) for n, far in rows if n in self._by_number]
        assert self._fast is not None, "without a graph there are vectors"
        cosines = self._fast[:size] @ fast
        count = min(count, size)
        top = np.argpartition(-cosines, count - 1)[:count]
        return sorted(((int(at), float(cosines[at])) for at in top), key=lambda row: -row[1])

    def fine_of(self, place: int) -> Vectors:
        """The better vector of a place."""
        return np.asarray(self._fine[place], dtype=np.float32)

    def at(self, place: int) -> tuple[bytes, str]:
        """Key and question of a place."""
        return self._keys[place], self._questions[place]

    def all(self) -> list[tuple[bytes, str]]:
        """Keys and questions."""
        return list(zip(self._keys, self._questions, strict=True))

    def _resize(self, rows: int) -> None:
        self._fine.resize((rows, self._fine_dimensions), refcheck=False)
        if self._fast is not None:
            self._fast.resize((rows, FAST_DIMENSIONS), refcheck=False)

    def _build_graph(self) -> None:
        """Move the vectors into a graph, which holds them from here on."""
        from usearch.index import Index as Graph  # noqa: PLC0415 - few namespaces grow so large

        assert self._fast is not None, "built once"
        self._graph = Graph(ndim=FAST_DIMENSIONS, metric="cos", dtype="f16")
        size = len(self._keys)
        self._graph.add(np.array(self._numbers), self._fast[:size], threads=1)
        self._fast = None

    def _give_back(self) -> None:
        """Most questions have left: so does the memory that they took. A graph, which keeps the
        places of those that left, is made anew."""
        size = len(self._keys)
        self._resize(size + 1)
        if self._graph is None:
            return
        graph, self._graph = self._graph, None
        self._fast = np.zeros((size + 1, FAST_DIMENSIONS), dtype=np.float32)
        for place, number in enumerate(self._numbers):
            self._fast[place] = graph.get(number)
        if size >= GRAPH_FROM:
            self._build_graph()
