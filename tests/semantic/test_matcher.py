"""From a question to a kept answer, with small stand-ins for the embedders."""

from __future__ import annotations

import json
import random
import zlib

import numpy as np
import pytest

from tokenschain.core.bound import LABELS_MIN, Choice
from tokenschain.core.caching import Entry
from tokenschain.semantic.embedders import FAST_DIMENSIONS, FINE_DIMENSIONS, Vectors
from tokenschain.semantic.index import Index
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

    def _embed(self, texts: list[str], size: int) -> Vectors:
        rows = []
        for text in texts:
            row = np.zeros(size, dtype=np.float32)
            for letter in text.lower():
                row[zlib.crc32(letter.encode()) % size] += 1
            rows.append(row / max(1e-9, float(np.linalg.norm(row))))
        return np.array(rows, dtype=np.float32)


def entry(answer: str, question: str = "", expires_s: float = 1e12) -> Entry:
    body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
    return Entry(body, "t", "m", 0.0, expires_s, question=question)


def matcher(**more: object) -> Matcher:
    return Matcher(
        Letters(),
        Verifier.shipped(),
        random.Random(1).random,
        2**24,
        wall=lambda: 0.0,
        **more,  # type: ignore[arg-type]
    )


def learn(made: Matcher, question: str, answer: str, space: bytes = b"s") -> bool | None:
    made.find(space, "g", question)
    return made.learn(space, "g", question.encode(), question, entry(answer, question), 0.01)


def taught() -> Matcher:
    """A matcher that has seen often enough that what is alike is right."""
    made = matcher()
    for number in range(LABELS_MIN + 60):
        name = "abcdefghijklmnopqrstuvwxyz"[number % 26]
        way = ("where is my {0}{0}{0} parcel", "my {0}{0}{0} parcel, where is it")[number % 2]
        for _ in range(3):
            made.bound_of("g").exact()
        learn(made, way.format(name) + " " * (number % 7), f"at {name}")
    return made


def test_it_serves_once_it_knows_enough_and_drops_what_was_wrong() -> None:
    made = taught()
    assert made.bound_of("g").threshold is not None
    found = [made.find(b"s", "g", f"my {n * 3} parcel where is it now") for n in "abcdefgh"]
    served = [one for one in found if one.choice is Choice.SERVE]
    assert served and all(one.entry is not None for one in served)
    key = served[0].key
    made.drop("g", b"s", key, 0.01)
    assert key not in {made.find(b"s", "g", f"my {n * 3} parcel where is it now").key
                       for n in "abcdefgh"}  # fmt: skip


def test_spaces_and_groups_never_meet() -> None:
    made = taught()
    assert made.find(b"other", "g", "where is my aaa parcel").entry is None
    assert made.find(b"s", "another group", "where is my aaa parcel ?").choice is Choice.MISS


def test_traps_are_never_served_whatever_the_embedders_say() -> None:
    made = taught()
    learn(made, "return within 30 days ok", "yes")
    for trap in ("return within 3 days ok", "return not within 30 days ok"):
        assert made.find(b"s", "g", trap).choice is Choice.MISS


def test_answers_are_compared_by_their_numbers_and_their_words() -> None:
    made = matcher()
    same, other = "It takes five days by post.", "It takes nine days by post."
    assert made._alike("q", same, "q", same) is True
    assert made._alike("q", same, "q", other) is False
    assert made._alike("q", same, "q", "The office opens on Monday at noon.") is not True


def test_what_is_gone_from_memory_is_not_found() -> None:
    made = taught()
    for number in range(40):
        made._shelf.drop(f"where is my {number}".encode())
    small = Matcher(Letters(), Verifier.shipped(), random.Random(1).random, 2_000)
    for number in range(20):
        learn(small, f"question number {'x' * number}", "a" * 300)
    assert len(small._shelf) < 6
    assert small.find(b"s", "g", "question number x").choice is Choice.MISS


def test_far_questions_cost_one_embedding_only() -> None:
    models = Letters()
    made = Matcher(models, Verifier.shipped(), random.Random(1).random, 2**20)
    learn(made, "zzzz", "a")
    before = models.calls
    made.find(b"s", "g", "怎么退货")
    assert models.calls == before


@pytest.mark.parametrize("seed", range(3))
def test_an_index_finds_what_brute_force_finds(seed: int) -> None:
    dice = np.random.default_rng(seed)
    index, kept = Index(), {}
    for number in range(300):
        fast = dice.normal(size=FAST_DIMENSIONS).astype(np.float32)
        fast /= np.linalg.norm(fast)
        key = bytes([number % 256, number // 256])
        index.add(key, str(number), fast, np.zeros(FINE_DIMENSIONS, np.float32))
        kept[key] = fast
        if dice.random() < 0.3:
            gone = list(kept)[int(dice.integers(len(kept)))]
            index.remove(gone)
            del kept[gone]
    assert len(index) == len(kept)
    query = dice.normal(size=FAST_DIMENSIONS).astype(np.float32)
    best = sorted(kept, key=lambda key: -float(kept[key] @ query))[:5]
    assert [index.at(place)[0] for place, _ in index.nearest(query, 5)] == best
    index.remove(b"never there")
