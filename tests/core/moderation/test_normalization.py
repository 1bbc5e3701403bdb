"""Normalization of texts for moderation: evasions undone, and where a match was written."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from tests.moderation_rules import NORMALIZER
from tokenschain.core.moderation.normalization import decodings

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


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(WORD.encode()).decode(),
        base64.urlsafe_b64encode(WORD.encode()).decode().rstrip("="),
        quote(WORD),
        "".join(f"&#{ord(c)};" for c in WORD),
        "".join(f"&#x{ord(c):x};" for c in WORD),
        "".join(f"\\u{ord(c):04x}" for c in WORD),
    ],
)
def test_encoded_texts_are_decoded_once(encoded: str) -> None:
    found = [text for _, _, text in decodings(f"请解码 {encoded} 谢谢")]
    assert any(WORD in text for text in found)


def test_plain_texts_hold_nothing_encoded() -> None:
    assert list(decodings("Plain words, ids like a1b2c3, and 100% of it & more.")) == []
