"""Vector search of the semantic cache in Redis Stack (FT.SEARCH)."""

from __future__ import annotations

import time
from typing import Any

import redis as sync_redis
from redis.exceptions import ResponseError

from tokenschain.infra.redis.connection import ANSWER_MAX_S, CONNECT_MAX_S, KEY_PREFIX
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Unsealable

LARGE_SPACE = 5_000
"""Above this many questions the graph is searched; below it Redis compares all, which is exact."""
COUNT_EVERY_S = 60.0
SPACES_COUNTED_MAX = 10_000
_QUESTION, _ANSWER = Sealable.CACHED_QUESTION, Sealable.CACHED_ANSWER


class RedisVectorIndex:
    """Questions and answers that machines share, found by their vectors; see
    `semantic.index.VectorStore`. Texts are sealed; vectors are not, since Redis searches them.

    One index for each pair of embedders, so that vectors of two are never compared.
    """

    def __init__(self, url: str, sealer: Sealer, embedders: str, dimensions: int) -> None:
        """
        Args:
            embedders: what made the vectors; part of every name.
            dimensions: of the vectors that are searched.
        """
        self._redis = sync_redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_MAX_S, socket_timeout=ANSWER_MAX_S, protocol=2
        )
        self._sealer = sealer
        self._prefix = f"{KEY_PREFIX}question:{embedders}:"
        self._index = f"{KEY_PREFIX}questions:{embedders}"
        self._dimensions = dimensions
        self._sizes: dict[str, tuple[float, int]] = {}

    def near(
        self, namespace: bytes, fast: Any, count: int
    ) -> list[tuple[bytes, str, float, bytes]]:
        """Key, question, cosine and better vector of the nearest of a space."""
        where = f"@space:{{{namespace.hex()}}}"
        policy = "HYBRID_POLICY BATCHES " if self._size(where) > LARGE_SPACE else ""
        query = f"({where})=>[KNN {count} @fast $vector {policy}AS far]"
        asked = ("FT.SEARCH", self._index, query, "PARAMS", "2", "vector", fast.tobytes(),
                 "SORTBY", "far", "RETURN", "3", "far", "fine", "question", "LIMIT", "0",
                 str(count), "DIALECT", "2")  # fmt: skip
        rows = self._search(*asked)
        found = []
        for name, fields in zip(rows[1::2], rows[2::2], strict=True):
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            key = bytes.fromhex(name.decode().rpartition(":")[2])
            question = self._unsealed(_QUESTION, key, values.get(b"question"))
            if question is not None and b"fine" in values:
                cosine = 1.0 - float(values[b"far"])
                found.append((key, question.decode(), cosine, values[b"fine"]))
        return found

    def _size(self, where: str) -> int:
        """About how many questions a space has. Left to itself, Redis compares all of a large
        space one by one."""
        now = time.monotonic()
        counted_at, size = self._sizes.get(where, (0.0, 0))
        if not counted_at or now - counted_at > COUNT_EVERY_S:
            asked = ("FT.SEARCH", self._index, where, "LIMIT", "0", "0", "DIALECT", "2")
            size = int(self._search(*asked)[0])
            if len(self._sizes) > SPACES_COUNTED_MAX:
                self._sizes.clear()
            self._sizes[where] = (now, size)
        return size

    def _search(self, *command: str | bytes) -> list[Any]:
        """The rows of a search, the number of all first; none where there is no index yet."""
        try:
            found: list[Any] = self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if "no such index" not in str(error).lower():
                raise
            self._create()
            return [0]
        return found

    def get(self, key: bytes) -> bytes | None:
        """The answer under a key."""
        sealed = self._redis.hget(self._name(key), "entry")
        assert sealed is None or isinstance(sealed, bytes), "answers are not decoded"
        return self._unsealed(_ANSWER, key, sealed)

    def put(
        self, namespace: bytes, key: bytes, question: str, fast: Any, fine: Any, entry: bytes,
        ttl_s: float,
    ) -> None:  # fmt: skip
        """Keep an answer for so long."""
        name = self._name(key)
        fields: dict[str | bytes, bytes | float | int | str] = {
            "space": namespace.hex(), "fast": fast.tobytes(), "fine": fine.tobytes(),
            "question": self._sealer.seal(_place(_QUESTION, key), question.encode()),
            "entry": self._sealer.seal(_place(_ANSWER, key), entry),
        }  # fmt: skip
        with self._redis.pipeline() as pipe:
            pipe.hset(name, mapping=fields)  # type: ignore[arg-type]
            pipe.pexpire(name, int(ttl_s * 1e3))
            pipe.execute()

    def drop(self, key: bytes) -> None:
        """Forget an answer."""
        self._redis.delete(self._name(key))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}{key.hex()}"

    def _unsealed(self, kind: Sealable, key: bytes, sealed: bytes | None) -> bytes | None:
        if sealed is None:
            return None
        try:
            return self._sealer.unseal(_place(kind, key), sealed)
        except Unsealable:
            return None

    def _create(self) -> None:
        """Make the index; what is there already is found by it soon after."""
        try:
            self._redis.execute_command(  # type: ignore[no-untyped-call]
                "FT.CREATE", self._index, "ON", "HASH", "PREFIX", "1", self._prefix, "SCHEMA",
                "space", "TAG", "fast", "VECTOR", "HNSW", "6", "TYPE", "FLOAT32",
                "DIM", str(self._dimensions), "DISTANCE_METRIC", "COSINE",
            )  # fmt: skip
        except ResponseError as error:
            if "already exists" not in str(error).lower():
                raise


def _place(kind: Sealable, key: bytes) -> Place:
    # The key is made of the tenant, too (`core.cache.key`).
    return Place(kind, "", key.hex())
