"""What a semantic look-up costs: `python -m bench.semantic`.

Times of the semantic process alone, on one core, with 1,000 and 100,000 questions in memory, and
in Redis when `--redis URL` names one; the vectors of all but a few questions are noise around
them, so that the search is as hard as it gets.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from tokenschain.core.cache.store import CacheEntry
from tokenschain.infra.redis.vector_index import RedisVectorIndex
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer
from tokenschain.semantic import synthetic_questions
from tokenschain.semantic.embedders import FAST_DIMENSIONS, Embedders, Vectors
from tokenschain.semantic.index import LocalVectorStore, SharedVectorStore, VectorStore
from tokenschain.semantic.matcher import Matcher
from tokenschain.semantic.verifier import Verifier

SIZES = (1_000, 100_000)
ASKED = 100


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="URL of a Redis Stack, which is emptied.")
    given = parser.parse_args()
    models, verifier = Embedders(), Verifier.shipped()
    groups = synthetic_questions.groups()
    rng = random.Random(1)
    base = [group.ways[0] for group in groups]
    fast, fine = models.fast(base), models.fine(base)
    near = [
        synthetic_questions.dressed(rng.choice(rng.choice(groups).ways), rng) for _ in range(ASKED)
    ]
    far = [f"{rng.getrandbits(80):x} {rng.getrandbits(60):x}" for _ in range(ASKED)]
    print("| kept in | questions | memory MB | added, ms each | far: p50 ms | near: p50 ms | p99 |")
    print("|---|---|---|---|---|---|---|")
    stores: list[tuple[str, Callable[[], VectorStore]]] = [
        ("memory", lambda: LocalVectorStore(2**34))
    ]
    if given.redis:
        stores.append(("Redis", lambda: _in_redis(given.redis)))
    for name, make in stores:
        for size in SIZES:
            before = _resident_mb()
            store = make()
            began = time.perf_counter()
            fill(store, size, base, fast, fine)
            each_ms = (time.perf_counter() - began) / size * 1e3
            used = _resident_mb() - before
            matcher = Matcher(models, verifier, rng.random, store)
            away = times(matcher, far)
            close = times(matcher, near)
            print(
                f"| {name} | {size:,} | {used:,.0f} | {each_ms:.2f} | {quantile(away, 0.5):.1f} | "
                f"{quantile(close, 0.5):.1f} | {quantile(close, 0.99):.1f} |",
                flush=True,
            )
    alone = [_ms(partial(models.fast, [text])) for text in near]
    both = [_ms(partial(models.fine, [text])) for text in near]
    print(f"\nembedders alone: {statistics.median(alone):.1f} and {statistics.median(both):.1f} ms")


def fill(store: VectorStore, size: int, base: list[str], fast: Vectors, fine: Vectors) -> None:
    """So many questions in one namespace: those given, and noise around them."""
    rng = np.random.default_rng(2)
    body = json.dumps({"choices": [{"message": {"content": "x" * 400}}]}).encode()
    for number in range(size):
        at = number % len(base)
        one, other = fast[at], fine[at]
        if number >= len(base):
            one = one + rng.normal(scale=0.03, size=one.shape).astype(np.float32)
            one = one / np.linalg.norm(one)
        entry = CacheEntry(body, "t", "m", time.time(), time.time() + 86_400)
        store.put(b"s", number.to_bytes(16, "big"), f"{base[at]} ({number})", one, other, entry)


def times(matcher: Matcher, texts: list[str]) -> list[float]:
    """Milliseconds of each, sorted."""
    return sorted(_ms(partial(matcher.find, b"s", "g", text)) for text in texts)


def _ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e3


def quantile(ordered: list[float], share: float) -> float:
    """Of sorted values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def _in_redis(url: str) -> VectorStore:
    store = RedisVectorIndex(
        url,
        Sealer(INTERNATIONAL, lambda: ("k",), lambda *_: b"k" * 32),
        "bench",
        FAST_DIMENSIONS,
    )
    store.near(b"s", np.zeros(FAST_DIMENSIONS, np.float32), 1)
    return SharedVectorStore(store, time.time)


if __name__ == "__main__":
    main()
