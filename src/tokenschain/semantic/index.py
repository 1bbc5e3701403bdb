"""Questions and answers by space: in this process, and where machines share them in Redis too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from tokenschain.core.caching import Entry, Shelf, decode_entry, encode_entry
from tokenschain.infra.redis import RedisMeaning
from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS, Vectors

QUESTIONS_MAX = 20_000
"""Of one space; the oldest leave. A search of so many takes about a millisecond."""
SPACES_MAX = 10_000
AWAY_REST_S = 1.0
"""After the shared store was silent, it is left alone for so long."""
_GROWTH = 1.5


class Candidate(NamedTuple):
    """A question that was answered before."""

    key: bytes
    question: str
    fast_cosine: float
    fine: Vectors


class Kept(Protocol):
    """Where questions and answers are kept."""

    def near(self, space: bytes, fast: Vectors, count: int) -> list[Candidate]:
        """Those nearest by the fast embedder, the nearest first."""

    def entry(self, space: bytes, key: bytes, now_s: float) -> Entry | None:
        """The answer under a key, unless it is too old or gone."""

    def put(
        self, space: bytes, key: bytes, question: str, fast: Vectors, fine: Vectors, entry: Entry
    ) -> None:
        """Keep an answer."""

    def drop(self, space: bytes, key: bytes) -> None:
        """Forget an answer; nothing happens when there is none."""


class LocalKept:
    """In this process; see `Kept`."""

    def __init__(self, bytes_max: int) -> None:
        self._shelf = Shelf(bytes_max, 0.5)
        self._spaces: OrderedDict[bytes, Index] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shelf)

    def near(self, space: bytes, fast: Vectors, count: int) -> list[Candidate]:
        """See `Kept.near`."""
        index = self._spaces.get(space)
        if index is None:
            return []
        self._spaces.move_to_end(space)
        found = []
        for place, cosine in index.nearest(fast, count):
            key, question = index.at(place)
            found.append(Candidate(key, question, cosine, index.fine_of(place)))
        return found

    def entry(self, space: bytes, key: bytes, now_s: float) -> Entry | None:
        """See `Kept.entry`."""
        entry = self._shelf.get(key, now_s)
        if entry is None:
            self.drop(space, key)  # the shelf had no room for it any more
        return entry

    def put(
        self, space: bytes, key: bytes, question: str, fast: Vectors, fine: Vectors, entry: Entry
    ) -> None:
        """See `Kept.put`."""
        if not self._shelf.put(key, entry):
            return
        index = self._spaces.get(space)
        if index is None:
            index = self._spaces[space] = Index()
            while len(self._spaces) > SPACES_MAX:
                self._spaces.popitem(last=False)
        index.add(key, question, fast, fine)

    def drop(self, space: bytes, key: bytes) -> None:
        """See `Kept.drop`."""
        self._shelf.drop(key)
        index = self._spaces.get(space)
        if index is not None:
            index.remove(key)
            if not len(index):
                del self._spaces[space]


class SharedKept:
    """In a store that machines share; see `Kept` and `infra.redis.RedisMeaning`."""

    def __init__(self, store: RedisMeaning, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall

    def near(self, space: bytes, fast: Vectors, count: int) -> list[Candidate]:
        """See `Kept.near`."""
        return [
            Candidate(key, question, cosine, np.frombuffer(fine, dtype=np.float32))
            for key, question, cosine, fine in self._store.near(space, fast, count)
        ]

    def entry(self, space: bytes, key: bytes, now_s: float) -> Entry | None:
        """See `Kept.entry`."""
        found = self._store.get(key)
        entry = None if found is None else decode_entry(found)
        return None if entry is None or entry.expires_s <= now_s else entry

    def put(
        self, space: bytes, key: bytes, question: str, fast: Vectors, fine: Vectors, entry: Entry
    ) -> None:
        """See `Kept.put`."""
        ttl_s = entry.expires_s - self._wall()
        if ttl_s > 0:
            self._store.put(space, key, question, fast, fine, encode_entry(entry), ttl_s)

    def drop(self, space: bytes, key: bytes) -> None:
        """See `Kept.drop`."""
        self._store.drop(key)


class LayeredKept:
    """Here and where machines share; without the others this one goes on alone."""

    def __init__(
        self,
        local: Kept,
        shared: Kept,
        away: tuple[type[Exception], ...],
        clock: Callable[[], float],
        report: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            away: what the shared one raises when it cannot be reached.
            report: told `(event, why)` when it is gone.
        """
        self._local, self._shared = local, shared
        self._away = away
        self._clock = clock
        self._report = report
        self._rests_until = 0.0

    def near(self, space: bytes, fast: Vectors, count: int) -> list[Candidate]:
        """See `Kept.near`."""
        found = {one.key: one for one in self._local.near(space, fast, count)}
        if self._reachable:
            try:
                for one in self._shared.near(space, fast, count):
                    found.setdefault(one.key, one)
            except self._away as error:
                self._lost(error)
        return sorted(found.values(), key=lambda one: -one.fast_cosine)[:count]

    def entry(self, space: bytes, key: bytes, now_s: float) -> Entry | None:
        """See `Kept.entry`."""
        entry = self._local.entry(space, key, now_s)
        if entry is None and self._reachable:
            try:
                entry = self._shared.entry(space, key, now_s)
            except self._away as error:
                self._lost(error)
        return entry

    def put(
        self, space: bytes, key: bytes, question: str, fast: Vectors, fine: Vectors, entry: Entry
    ) -> None:
        """See `Kept.put`."""
        self._local.put(space, key, question, fast, fine, entry)
        if self._reachable:
            try:
                self._shared.put(space, key, question, fast, fine, entry)
            except self._away as error:
                self._lost(error)

    def drop(self, space: bytes, key: bytes) -> None:
        """See `Kept.drop`."""
        self._local.drop(space, key)
        if self._reachable:
            try:
                self._shared.drop(space, key)
            except self._away as error:
                self._lost(error)

    @property
    def _reachable(self) -> bool:
        return self._clock() >= self._rests_until

    def _lost(self, error: Exception) -> None:
        self._rests_until = self._clock() + AWAY_REST_S
        self._report("shared_meaning_lost", str(error) or type(error).__name__)


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

    def fine_of(self, place: int) -> Vectors:
        """The better vector of a place."""
        return np.asarray(self._fine[place])

    def at(self, place: int) -> tuple[bytes, str]:
        """Key and question of a place."""
        return self._keys[place], self._questions[place]
