"""Local classifier: what it was fitted for is found and placed, what is harmless is left alone."""

from __future__ import annotations

import random

import pytest
from bench.benign_texts import sentence

from tests.moderation_rules import NORMALIZER, rules_of
from tokenschain.core.moderation.classifier import WINDOW_CHARACTERS
from tokenschain.core.moderation.stream import OutputRules, TextScreener, screen_whole
from tokenschain.core.moderation.verdict import Action, ClassifierThresholds, Level, RiskFinding
from tokenschain.infra.moderation_classifier import load_classifier

CLASSIFIER = load_classifier(NORMALIZER)
OFFENSIVE = {
    "河南人都是骗子，没一个好东西": "discrimination/region",
    "黑人又懒又脏，滚出中国": "discrimination/ethnicity",
    "女人就是没脑子，只会花男人的钱": "discrimination/gender",
}
THRESHOLDS = ClassifierThresholds()


@pytest.mark.parametrize(("text", "category"), OFFENSIVE.items())
def test_an_offensive_text_is_found_with_its_topic_however_it_is_written(
    text: str, category: str
) -> None:
    for written in (text, "\u200b".join(text), text.replace("，", " * ")):
        (one,) = CLASSIFIER.find(written, THRESHOLDS)
        assert one.level >= Level.MEDIUM and one.category == category
        assert one.span is not None and 0 <= one.span[0] < one.span[1] <= len(written)


def test_what_is_offensive_is_found_within_a_long_text_and_its_place_is_said() -> None:
    pick = random.Random(3)
    before = "".join(sentence(pick, numbers=False) for _ in range(40))
    after = "".join(sentence(pick, numbers=False) for _ in range(40))
    offence = next(iter(OFFENSIVE))
    assert not CLASSIFIER.find(before + after, THRESHOLDS)
    (one,) = CLASSIFIER.find(f"{before}{offence * 3}。{after}", THRESHOLDS)
    assert one.span is not None
    start, end = one.span
    assert start < len(before) + 3 * len(offence) and end > len(before)
    assert end - start < 2 * WINDOW_CHARACTERS


def test_harmless_texts_of_new_words_are_left_alone() -> None:
    pick = random.Random(99)
    texts = [sentence(pick, numbers=at % 4 == 0) for at in range(1_000)]
    blocked = [t for t in texts if CLASSIFIER.probability(t) >= THRESHOLDS.high]
    assert not blocked
    for nothing in ("", " ", "，。\u200b", "🙂", "\ud800"):
        assert not CLASSIFIER.find(nothing, THRESHOLDS)


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match="above"):
        ClassifierThresholds(medium=0.9, high=0.5)
    assert THRESHOLDS.level(0.49) is Level.NONE and THRESHOLDS.level(0.5) is Level.MEDIUM


def _classify(text: str) -> list[RiskFinding]:
    return CLASSIFIER.find(text, THRESHOLDS)


def _judge(one: RiskFinding) -> Action:
    return Action.BLOCK if one.level is Level.HIGH else Action.REVIEW


def test_a_stream_ends_before_the_sentence_that_is_offensive() -> None:
    rules = OutputRules(rules_of(), _judge, classify=_classify)
    offence = next(iter(OFFENSIVE))
    for size in (1, 3, 7):
        text = f"这是第一句话。今天天气不错！{offence}。还有下文"
        screener, left = TextScreener(rules), 0
        for at in range(0, len(text), size):
            screener.feed(text[at : at + size])
            if screener.blocked is not None:
                break
            left = screener.cleared
        assert screener.blocked is not None and screener.blocked.span is not None
        assert text[:left] in ("", "这是第一句话。", "这是第一句话。今天天气不错！")
        assert left <= text.index(offence)
    assert screen_whole(offence, rules)[2] is not None
    assert screen_whole("今天天气不错！", rules)[1:] == ([], None)
