"""Keyword packs: read and checked, matched with context, and compared with the standard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.moderation_rules import NORMALIZER, TABLES, TODAY, pack_of, rules_of, word
from tokenschain.core.moderation.packs import BadPack, Keywords, coverage_gaps, read_pack
from tokenschain.core.moderation.verdict import Direction, Level
from tokenschain.infra.moderation_packs import seed_pack

GIVEN: dict[str, Any] = {
    "name": "made", "version": "1", "author": "one", "reviewer": "another", "expires": "2030-01-01",
    "words": [{"text": "违规测试词甲", "risk": "A.1.h"}],
}  # fmt: skip


def labels(text: str, *words: Any) -> list[str]:
    return [one.label for one in rules_of(*words).screen(text, Direction.OUTPUT)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reviewer": "one"}, "may not be the reviewer"),
        ({"expires": "soon"}, "must be a day"),
        ({"words": [{"text": "词", "risk": "B.9.z"}]}, "there is no risk"),
        ({"words": [{"text": "", "risk": "A.1.h"}]}, "words"),
        ({"words": [{"text": "词", "risk": "A.1.h", "level": 9}]}, "level"),
        (
            {"words": [{"text": "词", "risk": "A.1.h", "reviewer": "one"}]},
            "may not be the reviewer",
        ),
    ],
)
def test_a_pack_that_nobody_can_answer_for_is_refused(change: dict[str, Any], said: str) -> None:
    assert read_pack(json.dumps(GIVEN).encode()).name == "made"
    with pytest.raises(BadPack, match=said):
        read_pack(json.dumps(GIVEN | change).encode())


def test_what_is_no_pack_is_refused() -> None:
    for data in (b"", b"[]", b"\xff", b"{"):
        with pytest.raises(BadPack):
            read_pack(data)


def test_hits_that_overlap_are_all_found() -> None:
    assert len(labels("甲乙丙丁", word("甲乙丙"), word("乙丙丁"), word("乙丙"))) == 3


def test_light_words_need_to_be_written_together_and_aggressive_ones_do_not() -> None:
    light, aggressive = word("甲乙丙"), word("丁戊己", match=2)
    assert labels("甲乙丙", light) and labels("甲\u200b乙丙", light)
    assert not labels("甲，乙丙", light) and not labels("甲 乙 丙", light)
    assert labels("丁，戊 己", aggressive)


def test_what_sounds_alike_is_for_review_only() -> None:
    rules = rules_of(word("违规测试词甲", match=3))
    (found,) = rules.screen("维规测试词甲", Direction.OUTPUT)
    assert found.level is Level.LOW and found.label.startswith("pinyin:")
    (plain,) = rules.screen("违规测试词甲", Direction.OUTPUT)
    assert plain.level is Level.HIGH


def test_latin_words_count_as_whole_ones() -> None:
    assert labels("a bad thing", word("bad")) and not labels("a badge", word("bad"))
    assert not labels("forbad", word("bad")) and labels("很bad的", word("bad"))


def test_context_and_hard_negatives_decide() -> None:
    near = word("制作炸药", near=("教程", "步骤"))
    assert labels("制作炸药的教程", near) and not labels("禁止制作炸药", near)
    unless = word("洗钱通道", unless=("反洗钱通道",))
    assert labels("洗钱通道", unless) and not labels("反洗钱通道培训", unless)
    assert labels("反洗钱通道与洗钱通道", unless) == ["made#0"]


def test_words_expire() -> None:
    def count(*words: Any, expires: str = "2030-01-01") -> int:
        pack = pack_of(*words, expires=expires)
        return len(Keywords([pack], NORMALIZER, TABLES.syllables, TODAY))

    assert count(word("甲乙"), word("丙丁", expires="2026-11-27")) == 1
    assert count(word("甲乙"), expires="2026-11-27") == 0


def test_the_gate_says_what_a_pack_lacks() -> None:
    gaps = coverage_gaps([seed_pack()], TODAY)
    assert gaps["total"] > 9_000 and gaps["A.1.a"] == 200 and gaps["A.2.a"] == 100
    full = [word(f"词{number}", risk) for risk in _RISKS for number in range(600)]
    assert coverage_gaps([pack_of(*full)], TODAY) == {}


_RISKS = [f"A.1.{letter}" for letter in "abcdefgh"] + [f"A.2.{letter}" for letter in "abcdefghi"]
