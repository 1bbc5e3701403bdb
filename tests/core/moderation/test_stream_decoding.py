"""Decoding of streams: what is encoded is held back until it is decoded, or is clearly no code."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import pytest

from tests.core.moderation.evasions import EVASIONS, IN_WHOLE_TEXTS, LATIN
from tests.core.moderation.test_stream import RULES, judge, pieces_of, sent
from tests.moderation_rules import NORMALIZER, TABLES, TODAY, pack_of, rules_of, word
from tokenschain.core.moderation.engine_record import EngineRecord
from tokenschain.core.moderation.packs import Keywords
from tokenschain.core.moderation.rules import TimedRules
from tokenschain.core.moderation.stream import OutputRules, TextScreener
from tokenschain.core.moderation.stream_decoding import is_code
from tokenschain.core.moderation.verdict import Action, RiskFinding

WORD = "违规测试词甲"
LATIN_WORD = "forbiddenmatters"
LATIN_RULES = rules_of(word(LATIN_WORD, match=2))
AROUND = (
    ("", ""), ("请看这里：", "，谢谢。"), ("See 12 ", " and more"), ("说" * 90, "完" * 90),
    ("用代码 x = 3% <b>a</b> ", "&amp; 完"),
)  # fmt: skip
HARMLESS = (
    "订单 A1B2 于 2026年11月28日 发出，共 3 件，9折；见 https://a.example/b/c-d_e?x=1&y=2%20z。\n",
    "for (int i = 0; i < n; i++) { a[i] = b[i] & 0xff; }  // 100% of it, see <b>here</b>\n",
    "The cabbage faces a decade: bad beef, added fees! GPT4 and 5G; id 550e8400-e29b-41d4-a716.\n",
    "\\frac{a}{b} \\underline{x} \\xi R&D C++ U+4E00 =E4 &nbsp; 用A表示B，用x乘y等于z。\n",
)
SHORT_WORD = "坏人"
SHORT_RULES = rules_of(word(SHORT_WORD, match=2))
BEFORE = ("看", "看0", "看&b", "看%41", "看 \\xe6", "若 a <b ", "说，U+4E ", f"<a{'，' * 199}")
AFTER = ("，完了。", "! and", "<!-- 完 -->", "$\n", "&amp;")
TWICE: dict[str, Callable[[str], str]] = {
    "escapes in URL": lambda word: quote(ascii(word)[1:-1]),
    "entities in entities": lambda word: EVASIONS["entities"](EVASIONS["entities"](word)),
    "code points in URL": lambda word: quote(EVASIONS["code points"]("好" + word + "好")),
    "base64 behind an ideograph": lambda word: "坏" + EVASIONS["base64"]("人，" + ascii(word)),
}
HELD_MAX = 450
"""Characters: what is looked through at once, pieces, and what stands before a stretch."""
HELD: tuple[Literal["holdback", "sentence", "full"], ...] = ("holdback", "sentence", "full")


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("written", EVASIONS.values(), ids=EVASIONS)
def test_no_character_of_an_evasion_leaves_in_any_mode(
    written: Callable[[str], str], held: Literal["holdback", "sentence", "full"]
) -> None:
    rules = OutputRules(RULES, judge, held=held)
    for at, (before, after) in enumerate(AROUND):
        for size in (1, 3, 7, 40, 1_000)[at % 2 :: 2]:
            left, screener = sent(rules, pieces_of(before + written(WORD) + after, size))
            assert screener.blocked is not None, (before, size)
            assert before.startswith(left), (before, size, left)


@pytest.mark.parametrize("written", LATIN.values(), ids=LATIN)
def test_no_character_of_an_evasion_of_a_latin_word_leaves(written: Callable[[str], str]) -> None:
    rules = OutputRules(LATIN_RULES, judge)
    for size in (1, 4, 50):
        left, screener = sent(rules, pieces_of(f"say {written(LATIN_WORD)} now", size))
        assert screener.blocked is not None and "say ".startswith(left), (size, left)


def test_a_word_that_is_encoded_in_part_is_held_back() -> None:
    rules = OutputRules(RULES, judge)
    for name in ("URL", "entities", "escapes", "base64", "hexadecimal", "comments"):
        for cut in range(1, len(WORD)):
            text = "平常的话" + WORD[:cut] + EVASIONS[name](WORD[cut:]) + "完"
            if name in ("base64", "hexadecimal") and cut > len(WORD) - 2:
                continue  # shorter than what is taken for a code
            for size in (1, 5):
                left, screener = sent(rules, pieces_of(text, size))
                assert screener.blocked is not None, (name, cut, size)
                assert "平常的话".startswith(left), (name, cut, size, left)


@pytest.mark.parametrize("before", BEFORE)
def test_what_stands_around_code_does_not_show_its_beginning(before: str) -> None:
    rules, looked = OutputRules(SHORT_RULES, judge), 0
    for name, encode in (IN_WHOLE_TEXTS | TWICE).items():
        for after in AFTER:
            text = f"{before}{encode(SHORT_WORD)}{after}"
            found = SHORT_RULES.decoded_words(text)
            if not found:
                continue  # what stands around is some of the code
            looked += 1
            first = min(one.span[0] for one in found if one.span is not None)
            for size in (1, 3):
                left, screener = sent(rules, pieces_of(text, size))
                assert screener.blocked is not None, (name, after, size)
                assert text[:first].startswith(left), (name, after, size, left)
    assert looked > len(AFTER) * 10


def test_what_is_decoded_far_behind_signs_that_are_no_letters() -> None:
    rules = OutputRules(RULES, judge)
    text = f"| 名 | 链接 |\n|{'-' * 80}|\n%2520x | 完"
    for size in (1, 4, 1_000):
        assert sent(rules, pieces_of(text, size))[0] == text


def test_what_follows_a_code_that_something_else_ended_flows() -> None:
    screener = TextScreener(OutputRules(RULES, judge))
    screener.feed("a%41bc")
    screener.flush()
    for _ in range(40):
        screener.feed("平常的话")
    assert screener.cleared > 100


def test_a_text_that_ends_twice_is_screened_once() -> None:
    record = EngineRecord()
    keywords = Keywords([pack_of(word(WORD))], NORMALIZER, TABLES.syllables, TODAY)
    rules = TimedRules(NORMALIZER, keywords, TABLES.syllables, lambda: 60.0, record)
    screener = TextScreener(OutputRules(rules, judge, held="full"))
    screener.feed("平常的话")
    screener.end()
    screener.end()
    assert record.sums(60.0).answered == 1


def test_an_empty_piece_does_not_part_what_stands_around_it() -> None:
    text = "坏x人x坏"
    rules = OutputRules(rules_of(word("人坏人", match=2), word("坏人坏", match=2)), judge)
    for at in range(1, len(text)):
        left, screener = sent(rules, [text[:at], "", *text[at:], "完"])
        assert screener.blocked is not None and not left


def test_harmless_texts_are_whole_and_little_of_them_is_held_back() -> None:
    rules, pick = OutputRules(RULES, judge), random.Random(7)
    for size in (1, 3, 8, 40):
        text = "".join(pick.choice(HARMLESS) for _ in range(20))
        left, screener = sent(rules, pieces_of(text, size))
        assert left == text and not screener.findings
        waiting, screener = 0, TextScreener(rules)
        fed = 0
        for piece in pieces_of(text, size):
            screener.feed(piece)
            fed += len(piece)
            waiting = max(waiting, fed - screener.cleared)
        assert waiting < 200, size


def test_a_picture_in_base64_flows_and_a_text_in_it_waits() -> None:
    rules = OutputRules(RULES, judge)
    picture = base64.b64encode(random.Random(3).randbytes(60_000)).decode()
    screener, fed = TextScreener(rules), 0
    for piece in pieces_of(f"![](data:image/png;base64,{picture})", 40):
        screener.feed(piece)
        fed += len(piece)
        assert fed - screener.cleared < HELD_MAX
    text = base64.b64encode(("平常的话，" * 2_000 + WORD).encode()).decode()
    for size in (40, 1_000):
        left, screener = sent(rules, pieces_of(f"看 {text} 完", size))
        assert screener.blocked is not None and not left.removeprefix("看 ")


def test_what_is_masked_in_code_is_masked_where_it_was_written() -> None:
    def masks(one: RiskFinding) -> Action:
        return Action.MASK

    code = EVASIONS["URL"](WORD)
    for held in HELD:
        for size in (1, 7, 500):
            pieces = pieces_of(f"前文 {code} 后文", size)
            left, _ = sent(OutputRules(RULES, masks, held=held), pieces)
            assert left == f"前文 {'*' * len(code)} 后文"


def test_what_cannot_be_code_is_known_by_its_beginning() -> None:
    assert is_code("5Yaz6L+d") and is_code("Zm9y") and is_code("e8bf9de8") and is_code("e")
    for run in ("house", "the", "//", "iVBORw0KGgo", "deadbeef", "", "understanding"):
        assert not is_code(run), run
    assert not is_code("1234567812345678", ended=True) and not is_code("abcdabcd", ended=True)
