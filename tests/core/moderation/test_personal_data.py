"""Personal data: found however it is written, checked, masked, and turned back exactly."""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any

import pytest
from bench.benign_texts import sentence

from tokenschain.core.moderation.personal_data import (
    DataAction,
    DataKind,
    Replacements,
    find,
    is_card_number,
    is_organization_code,
    is_resident_id,
    masked,
)

SENTENCES = 20_000 if os.environ.get("PROOFS") == "full" else 1_500
_REGIONS = ("110105", "310115", "440305", "510107", "330106", "420111")


def resident_id(pick: random.Random, *, valid: bool = True) -> str:
    year, month, day = pick.randint(1940, 2020), pick.randint(1, 12), pick.randint(1, 28)
    body = f"{pick.choice(_REGIONS)}{year}{month:02}{day:02}{pick.randint(0, 999):03}"
    checks = [one for one in "0123456789X" if is_resident_id(body + one)]
    assert len(checks) == 1, "one check character fits"
    wrong = "0123456789X".replace(checks[0], "")
    return body + (checks[0] if valid else pick.choice(wrong))


def card(pick: random.Random, *, valid: bool = True) -> str:
    body = "62" + "".join(str(pick.randint(0, 9)) for _ in range(pick.choice((13, 16))))
    digit = next(str(d) for d in range(10) if is_card_number(body + str(d)))
    return body + (digit if valid else str((int(digit) + 3) % 10))


def mobile(pick: random.Random) -> str:
    return f"1{pick.randint(3, 9)}{pick.randint(0, 999_999_999):09}"


def values_in(text: str) -> list[tuple[DataKind, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("身份证11010519491231002X。", DataKind.RESIDENT_ID, "11010519491231002X"),
        ("身份证 110105 19491231 002X", DataKind.RESIDENT_ID, "110105 19491231 002X"),
        ("手机：13800138000", DataKind.MOBILE, "13800138000"),
        ("手机：+86 138-0013-8000", DataKind.MOBILE, "86 138-0013-8000"),
        ("一三八 零零一三 八零零零", DataKind.MOBILE, "一三八 零零一三 八零零零"),
        ("１３８００１３８０００", DataKind.MOBILE, "１３８００１３８０００"),
        ("1 3 8 0 0 1 3 8 0 0 0", DataKind.MOBILE, "1 3 8 0 0 1 3 8 0 0 0"),
        ("座机010-12345678", DataKind.LANDLINE, "010-12345678"),
        ("卡号6222 0212 3456 7890 128", DataKind.BANK_CARD, "6222 0212 3456 7890 128"),
        ("card 4111111111111111", DataKind.BANK_CARD, "4111111111111111"),
        ("写信到 li.ming@qq.com 吧", DataKind.EMAIL, "li.ming@qq.com"),
        ("车牌京A12345", DataKind.PLATE, "京A12345"),
        ("车牌粤B·D12345", DataKind.PLATE, "粤B·D12345"),
        ("护照号码E12345678", DataKind.PASSPORT, "E12345678"),
        ("住在北京市朝阳区建国路88号3单元501室", DataKind.ADDRESS, "北京市朝阳区建国路88号3单元501室"),
        ("患者姓名：李小明，男", DataKind.NAME, "李小明"),
        ("病历号：ZY20230001", DataKind.MEDICAL_RECORD, "ZY20230001"),
        ("key sk-abcdefghijklmnopqrstuv12", DataKind.SECRET, "sk-abcdefghijklmnopqrstuv12"),
        ("代码91350100M000100Y43", DataKind.ORGANIZATION_CODE, "91350100M000100Y43"),
    ],
)  # fmt: skip
def test_what_is_found(text: str, kind: DataKind, value: str) -> None:
    assert (kind, value) in values_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "订单 110105194912310021 已发货", "圆周率 3.14159265358979", "2026年11月27日 14:30",
        "版本 1.2.3.4.5.6.7.8.9.10.11", "共 138 元，0013 号，8000 件", "GB/T 45654-2025",
        "成绩 1,2,3,4,5,6,7,8,9,10,11,12", "坐标 116.4074, 39.9042", "编号 62000000000000001",
        "我是高兴的", "马上就到，方便的话", "一二三四五六七", "价格 19999999999 元整吗",
        "The quick brown fox jumps over 13 lazy dogs.", "E12345678 是型号",
    ],
)  # fmt: skip
def test_what_is_left_alone(text: str) -> None:
    assert [kind for kind, _ in values_in(text) if kind is not DataKind.MOBILE] == []
    assert values_in(text) == [] or "19999999999" in text


def test_generated_documents_are_found_and_invalid_numbers_are_not() -> None:
    pick = random.Random(20)
    total = missed = wrong = 0
    for _ in range(400):
        for kind, value, invalid in (
            (DataKind.RESIDENT_ID, resident_id(pick), resident_id(pick, valid=False)),
            (DataKind.BANK_CARD, card(pick), card(pick, valid=False)),
            (DataKind.MOBILE, mobile(pick), ""),
        ):
            text = f"登记信息：{value}，请核对。"
            total += 1
            missed += (kind, value) not in values_in(text)
            wrong += bool(invalid) and kind in dict(values_in(f"编号 {invalid} 请核对"))
    assert missed / total <= 0.005
    assert wrong == 0


def test_harmless_notes_full_of_numbers_are_left_alone() -> None:
    pick = random.Random(4)
    texts = [sentence(pick, numbers=at % 2 == 0) for at in range(SENTENCES)]
    wrong = [text for text in texts if find(text)]
    assert len(wrong) <= len(texts) / 1_000, wrong


@pytest.mark.parametrize("before", ["b", "F0", "_9"])
def test_digits_within_a_digest_are_no_number(before: str) -> None:
    assert values_in(f"提交 {before}19860379679f53cb7528，改动 3 行") == []


def test_checksums_are_those_of_the_standards() -> None:
    assert is_resident_id("11010519491231002X") and not is_resident_id("110105194912310021")
    assert not is_resident_id("11010519491331002X") and not is_resident_id("99010519491231002X")
    assert is_organization_code("91350100M000100Y43")
    assert not is_organization_code("91350100M000100Y44")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (DataKind.MOBILE, "13800138000", "138****8000"),
        (DataKind.RESIDENT_ID, "11010519491231002X", "110105********002X"),
        (DataKind.NAME, "李小明", "李**"), (DataKind.NAME, "李四", "李*"),
        (DataKind.EMAIL, "a@b.com", "*@b.com"), (DataKind.EMAIL, "abc@b.com", "a**@b.com"),
        (DataKind.MOBILE, "138 0013 8000", "138 **** 8000"),
    ],
)  # fmt: skip
def test_masks_keep_the_length(kind: DataKind, value: str, shown: str) -> None:
    assert masked(value, kind) == shown


@pytest.mark.parametrize("kind", list(DataKind))
@pytest.mark.parametrize("size", [1, 2, 5, 18])
def test_a_mask_hides_something_whatever_the_value(kind: DataKind, size: int) -> None:
    value = "8" * size
    assert len(masked(value, kind)) == size and masked(value, kind) != value


def replacements(tenant: str = "acme") -> Replacements:
    return Replacements(lambda value: hashlib.sha256(f"{tenant}{value}".encode()).digest())


def test_reversible_tokens_are_turned_back_and_others_are_not() -> None:
    made = replacements()
    token = made.written("13800138000", DataKind.MOBILE, DataAction.REVERSIBLE)
    assert token == made.written("13800138000", DataKind.MOBILE, DataAction.REVERSIBLE)
    assert "138" not in token
    name = token[1:-1].split(":")[1]
    for repeated in (token, f"[MOBILE:{name}]", f"【MOBILE：{name}】", f"[ MOBILE: {name} ]"):
        assert made.restored(f"打 {repeated} 吧") == "打 13800138000 吧"
    unknown = "⟦MOBILE:aaaaaaaaaa⟧"
    assert made.restored(unknown) == unknown
    assert replacements("other").written("13800138000", DataKind.MOBILE, DataAction.TOKEN) != token
    for action in (DataAction.HASH, DataAction.TOKEN):
        kept = made.written("13900139000", DataKind.MOBILE, action)
        assert made.restored(kept) == kept


def test_long_texts_of_one_kind_take_linear_time() -> None:
    for hostile in (
        "1 " * 20_000,
        "a@" * 20_000,
        "北京市" * 10_000,
        "sk-" * 20_000,
        "路1号" * 9_000,
    ):
        found: Any = find(hostile)
        assert isinstance(found, list)
