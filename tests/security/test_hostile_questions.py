"""Whatever is asked, its facts are read in a time that grows as its length does, without a fault."""

from __future__ import annotations

import random
import time

import pytest

from tests.semantic.test_matcher import learn, matcher
from tokenschain.semantic.verifier import Verifier

READ = Verifier.shipped().facts_of
SIGNS = (
    *"万亿一零十点半两能会吗不没到1,.$- aA½Ⅻ京٣年月_'\n", "亿万", "三百", "可以", "twenty ", "from ", "to ",
    "1,", "1.", "a-", "A1", "Aa", "9.", "2026-", "not ", "不没", "零点", "⟦", "k", "吗能",
)  # fmt: skip
SHORT, LONG = 250, 2_000
GROWS_MAX = 3 * LONG / SHORT
"""Of time; a square would be eight times as much as in proportion."""
NEVER_SLOW_S = 0.02


def _took(text: str) -> float:
    took = []
    for _ in range(3):
        began = time.process_time()
        READ(text)
        took.append(time.process_time() - began)
    return min(took)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("end", ["", "_"])
def test_the_time_grows_as_the_length_does(sign: str, end: str) -> None:
    short, long = ((sign * LONG)[: size - len(end)] + end for size in (SHORT, LONG))
    took = _took(long)
    assert took < NEVER_SLOW_S or took < GROWS_MAX * _took(short)


def test_no_text_makes_it_fail() -> None:
    draw = random.Random(5)
    for _ in range(300):
        READ("".join(draw.choice(SIGNS) * draw.randrange(1, 60) for _ in range(8)))


@pytest.mark.parametrize("sign", ["1", "万", "九"])
def test_long_numerals_are_the_same_only_letter_by_letter(sign: str) -> None:
    one, other = (f"Where is parcel {sign * size}?" for size in (400, 401))
    assert READ(one) == READ(one) and READ(one).codes != READ(other).codes
    made = matcher()
    learn(made, one, "at home")
    found = made.find(b"s", "g", other)
    assert found.entry is None and found.hit_confidence < 0.5


def test_order_numbers_that_a_float_cannot_tell_apart_are_told_apart() -> None:
    one, other = (f"Where is parcel 1234567890123456789{end}?" for end in "01")
    assert READ(one).numbers == READ(other).numbers == frozenset()
    assert READ(one).codes != READ(other).codes
