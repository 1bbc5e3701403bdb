"""Screening of streams: no character of a blocked word leaves, and harmless streams are whole."""

from __future__ import annotations

import codecs
import hashlib
import os
import random

import pytest

from tests.core.moderation.evasions import FILLERS, IN_WHOLE_TEXTS, TRADITIONAL
from tests.moderation_rules import rules_of, word
from tests.proofs import numbered
from tokenschain.core.moderation.personal_data import DataAction, DataKind, Replacements
from tokenschain.core.moderation.stream import OutputRules, TextScreener, edited, screen_whole
from tokenschain.core.moderation.verdict import Action, Level, RiskFinding

BLOCKED = ("违规测试词甲", "禁句", "乙丙丁戊己庚辛壬癸子")
PREFIXES = ("违规测试", "禁", "乙丙丁戊己庚辛壬")
RULES = rules_of(*(word(one, match=2) for one in BLOCKED))
PIECE_BYTES_MAX = 40
STREAMS = 50_000 if os.environ.get("PROOFS") == "full" else 400
_FILLING = "这里是一些平常的话，没有什么特别。Words too, and 12 numbers;\n"
_BETWEEN = ("", "", "，", *FILLERS.values())
ENCODED_SHARE = 0.5
FILLED_MIN = 4
ONLY_LONG = ("letters", "letters by two", "digits", "base64 in base64")
"""What shorter words are not found in: `x` between two ideographs, eleven characters of base64."""
_LONGEST = 60
"""Characters before a word: each place in them is tried with each size of pieces."""


def judge(one: RiskFinding) -> Action:
    return Action.BLOCK if one.level is Level.HIGH else Action.PASS


def sent(rules: OutputRules, pieces: list[str]) -> tuple[str, TextScreener]:
    """What has left of a stream, piece by piece, as the caller would have it."""
    screener, whole, left = TextScreener(rules), "", 0
    for piece in pieces:
        whole += piece
        screener.feed(piece)
        if screener.blocked is not None:
            return edited(whole[:left], screener.edits), screener
        left = screener.cleared
    screener.end()
    if screener.blocked is None:
        left = screener.cleared
    return edited(whole[:left], screener.edits), screener


def pieces_of(text: str, size: int) -> list[str]:
    """A text in pieces of as many bytes; characters that are cut come with their last byte."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    data = text.encode()
    return [decode(data[at : at + size]) for at in range(0, len(data), size)]


def evaded(word: str, pick: random.Random) -> str:
    """A word as somebody writes it who does not want it found."""
    written = "".join(one + pick.choice(_BETWEEN) for one in word[:-1]) + word[-1]
    return written.translate(TRADITIONAL) if pick.random() < 0.3 else written


def placed(word: str, before: str, after: str, pick: random.Random) -> tuple[str, str]:
    """A word as somebody writes it, or encoded, in a text: what stands before it, and all of it."""
    if pick.random() >= ENCODED_SHARE:
        return before, before + evaded(word, pick) + after
    names = list(IN_WHOLE_TEXTS)
    if len(word) < FILLED_MIN:
        names = [name for name in names if name not in ONLY_LONG]
    before += "（"
    return before, before + IN_WHOLE_TEXTS[pick.choice(names)](word) + "）" + after


def filling(pick: random.Random) -> str:
    return "".join(pick.choice(_FILLING) for _ in range(pick.randint(0, _LONGEST)))


@pytest.mark.timeout(3_600)
def test_no_character_of_a_blocked_word_leaves_and_none_is_missed() -> None:
    modes = [OutputRules(RULES, judge, held=held) for held in ("holdback", "sentence", "full")]
    for number, pick in numbered("streams", STREAMS):
        rules = pick.choice(modes)
        text = "".join(pick.choice(_FILLING) for _ in range(_LONGEST))
        before, after = text[: number % _LONGEST], text[number % _LONGEST :]
        before, text = placed(pick.choice(BLOCKED), before, after, pick)
        pieces = pieces_of(text, 1 + number // _LONGEST % PIECE_BYTES_MAX)
        left, screener = sent(rules, pieces)
        assert screener.blocked is not None, (number, text)
        assert before.startswith(left), (number, before, left)


@pytest.mark.timeout(3_600)
def test_harmless_streams_are_whole_even_where_a_word_begins() -> None:
    rules = OutputRules(RULES, judge)
    for number, pick in numbered("harmless streams", STREAMS // 4):
        text = "".join(pick.choice(PREFIXES) + pick.choice(_FILLING) for _ in range(20))
        left, screener = sent(rules, pieces_of(text, 1 + number % PIECE_BYTES_MAX))
        assert left == text and screener.blocked is None and not screener.findings, number


def test_little_is_held_back() -> None:
    screener = TextScreener(OutputRules(RULES, judge))
    for _ in range(200):
        screener.feed("平常的话")
    assert 800 - screener.cleared <= max(map(len, BLOCKED)) + 4


def test_a_word_waits_for_what_decides_whether_it_counts() -> None:
    rules = OutputRules(rules_of(word("洗钱通道", unless=("洗钱通道的危害",))), judge)
    for size in (1, 2, 3, 9):
        for text, is_blocked in (("谈谈洗钱通道的危害有哪些", False), ("出租洗钱通道的人", True)):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            left, screener = sent(rules, pieces)
            assert (screener.blocked is not None) is is_blocked
            assert left == text or is_blocked


def test_what_is_masked_or_replaced_is_so_at_every_chunking() -> None:
    def masks(one: RiskFinding) -> Action:
        return Action.MASK

    text = f"前文{BLOCKED[0]}中{BLOCKED[1]}后文结束"
    for size in range(1, 12):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert sent(OutputRules(RULES, masks), pieces)[0] == "前文******中**后文结束"
    assert screen_whole(text, OutputRules(RULES, masks))[0] == "前文******中**后文结束"


def test_tokens_are_turned_back_at_every_chunking() -> None:
    pick = random.Random(22)
    made = Replacements(lambda value: hashlib.sha256(value.encode()).digest())
    numbers = [f"138{number:08}" for number in range(5)]
    tokens = [made.written(one, DataKind.MOBILE, DataAction.REVERSIBLE) for one in numbers]
    rules = OutputRules(RULES, judge, replacements=made)
    for _ in range(20_000 if STREAMS > 400 else 300):
        meant, written = "", ""
        for _ in range(4):
            at, between = pick.randrange(5), filling(pick) + pick.choice(("", "[", "⟦", "【注】"))
            meant, written = meant + between + numbers[at], written + between + tokens[at]
        left, _ = sent(rules, pieces_of(written, pick.randint(1, 12)))
        assert left == meant


def test_what_is_encoded_is_found_in_a_whole_text() -> None:
    rules = OutputRules(RULES, judge)
    encoded = "".join(f"\\u{ord(one):04x}" for one in BLOCKED[0])
    assert screen_whole(encoded, rules)[2] is not None


def test_a_word_from_behind_is_found_in_a_stream_and_for_review() -> None:
    rules = OutputRules(RULES, lambda one: Action.BLOCK)
    for size in (1, 3, 40):
        left, screener = sent(rules, pieces_of(f"平常的话{BLOCKED[0][::-1]}完", size))
        assert [one.level for one in screener.findings] == [Level.LOW]
        assert "平常的话".startswith(left)
