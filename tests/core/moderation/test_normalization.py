"""Normalization of texts for moderation: evasions undone, and where a match was written."""

from __future__ import annotations

import pytest

from tests.moderation_rules import NORMALIZER

WORD = "违规测试词甲"


@pytest.mark.parametrize(
    "written",
    [
        "違規測試詞甲", "违 规 测 试 词 甲", "违*规*测*试*词*甲", "违\n规\n测\n试\n词\n甲",
        "违\u200b规\u200d测\u2060试\ufeff词甲", "违\ufe0f规\ufe0f测试词甲", "违\u0301规测试\u0336词甲",
        "违\U000e0041规\U000e0042测试词甲", "违🙂规🙂测试词甲", "违。规，测、试！词？甲",
    ],
)  # fmt: skip
def test_evasions_are_undone(written: str) -> None:
    normal = NORMALIZER.normal(f"前{written}后")
    assert normal == f"前{WORD}后"
    offsets = NORMALIZER.offsets(f"前{written}后")
    assert len(offsets) == len(normal)
    assert f"前{written}后"[offsets[1] : offsets[6] + 1].replace("\u0336", "") != ""
    assert offsets == sorted(offsets)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("ＡＢＣ１２３", "abc123"), ("Fоrbiddеn", "forbidden"), ("ｆｏｒＢｉｄ", "forbid"),
        ("ﬁnance", "finance"), ("é", "e"), ("①②", "12"), ("한국", "한국"),
    ],
)  # fmt: skip
def test_widths_look_alikes_and_accents_are_folded(written: str, normal: str) -> None:
    assert NORMALIZER.normal(written) == normal
