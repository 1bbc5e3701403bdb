"""Long texts are normalized and scanned as short ones are, character by character."""

from __future__ import annotations

import random

from tests.moderation_rules import TABLES
from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.character_scan import CharacterMap, Scanner
from tokenschain.core.moderation.normalization import LONG_CHARACTERS, Normalizer
from tokenschain.core.moderation.personal_data import DataKind

_DRAWN = "普通的话，ABC 12é½㎡ﬀ違規\u200b\ufe0f\U000e0041🙂𠮷𝟏\ud800"


def test_a_long_text_is_normalized_as_its_parts_are() -> None:
    pick = random.Random(1)
    normalizer = Normalizer(TABLES.simplified)
    for size in (LONG_CHARACTERS, 900):
        for drawn in (_DRAWN, "甲乙，丙丁", "甲"):
            text = "".join(pick.choice(drawn) for _ in range(size))
            parts = (text[at : at + 50] for at in range(0, size, 50))
            assert normalizer.normal(text) == "".join(map(normalizer.normal, parts))
            assert len(normalizer.offsets(text)) == len(normalizer.normal(text))


def test_a_map_drops_replaces_and_spreads() -> None:
    mapped = CharacterMap({ord("a"): "", ord("b"): "x"})
    assert mapped.translate("abcab") == "xcx" and mapped.translate("") == ""
    assert CharacterMap({ord("a"): "yes"}).translate("bab") == "byesb"


def test_a_scan_keeps_places_and_says_where_digits_stand_apart() -> None:
    scan = Scanner("零一", spread_min=4, gap_max=2).scan("电话：１2 一-3，或①零🙂1𝟐 至 12")
    assert scan.text == "电话:12 一-3,或1零🙂12 至 12"
    assert scan.spread == [(3, 16)]
    assert len(scan.latin) == len(scan.text)
    assert Scanner("", spread_min=1, gap_max=0).scan("").spread == []


def test_numbers_in_digits_of_any_script_are_found() -> None:
    for zero in "0０𝟎٠०":
        digits = "".join(chr(ord(zero) + int(one)) for one in "13800138000")
        (found,) = personal_data.find(f"手机 {digits}，谢谢🙂")
        assert (found.start, found.end, found.kind) == (3, 14, DataKind.MOBILE), digits
    (found,) = personal_data.find("⑬①③⑧⓪⓪①③⑧⓪⓪⓪")
    assert found.kind is DataKind.MOBILE and found.start == 1
