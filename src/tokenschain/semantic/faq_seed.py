"""FAQ seed: pairs of questions out of a customer's FAQ teach the semantic cache at its start.

Ways to ask one entry ask the same; an entry with one way is said otherwise by the rules of
`semantic.paraphrases`. Entries that look most alike do not ask the same.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from tokenschain.semantic.paraphrases import said_otherwise

ENTRIES_MAX = 1_000
"""Each is compared with each."""
WAYS_MAX = 20
SAME_MAX, OTHER = 6, 3
"""Pairs of an entry that ask the same, at most, and how many of its neighbours are traps."""
TRIES_MAX = 20


class FaqPair(NamedTuple):
    """Two questions, and whether one answer is right for both."""

    a: str
    b: str
    same: bool


def pairs_of(entries: list[list[str]], seed: int = 1) -> list[FaqPair]:
    """
    Args:
        entries: the ways to ask each, at least one, none of them empty.

    Raises:
        ValueError: there are more than `ENTRIES_MAX`.
    """
    if len(entries) > ENTRIES_MAX:
        raise ValueError(f"an FAQ of more than {ENTRIES_MAX:,} entries")
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    letters = [_letters(ways[0]) for ways in entries]
    found = []
    for at, ways in enumerate(entries):
        same = list(itertools.combinations(dict.fromkeys((*ways[:WAYS_MAX], *_more(ways, rng))), 2))
        found += [FaqPair(a, b, True) for a, b in rng.sample(same, min(SAME_MAX, len(same)))]
        alike = sorted(
            (other for other in range(len(entries)) if other != at),
            key=lambda other: -_common(letters[at], letters[other]),
        )
        for other in alike[:OTHER]:
            found.append(FaqPair(rng.choice(ways), rng.choice(entries[other]), False))
    rng.shuffle(found)
    return found


def _more(ways: list[str], rng: random.Random) -> list[str]:
    """Of an entry with a single way: two others."""
    if len(ways) > 1:
        return []
    tried = (said_otherwise(ways[0], rng) for _ in range(TRIES_MAX))
    return list(dict.fromkeys(text for text in tried if text and text != ways[0]))[:2]


def _letters(text: str) -> frozenset[str]:
    """Pairs of letters that stand beside each other."""
    return frozenset(map("".join, itertools.pairwise(text.lower()))) or frozenset((text,))


def _common(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
