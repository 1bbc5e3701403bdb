"""Every spelling of a quantity reads the same, and no two quantities read alike."""

from __future__ import annotations

import itertools
import random

import pytest

from tokenschain.semantic.lexicon import Lexicon
from tokenschain.semantic.quantities import (
    Quantities,
    Quantity,
    QuantityReader,
    alike,
    dates_alike,
)
from tokenschain.semantic.text_facts import FactReader

READER = FactReader(Lexicon.shipped())
QUANTITIES = QuantityReader(Lexicon.shipped())
DIGITS = "零一二三四五六七八九"
ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
FRAMES_ZH = ("{}可以吗", "请问{}行不行", "要{}，对吗", "{}")
FRAMES_EN = ("is it {}?", "Would {} be fine", "{}")


def read(text: str) -> Quantities:
    return QUANTITIES.read(READER.plain(text))


def numbers(text: str) -> frozenset[Quantity]:
    return read(text).numbers


def chinese(number: int) -> str:
    """A number from 1 to 99,999 as it is said."""
    said, gap = "", False
    for scale, sign in ((10_000, "万"), (1_000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // scale % 10
        if not digit:
            gap = bool(said)
            continue
        said += ("零" if gap else "") + DIGITS[digit] + sign
        gap = False
    return said.removeprefix("一") if 10 <= number < 20 else said


def english(number: int) -> str:
    """A number from 0 to 999,999 in words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        rest = number % 10
        return TENS[number // 10] + (f"-{ONES[rest]}" if rest else "")
    scale, word = (100, "hundred") if number < 1_000 else (1_000, "thousand")
    rest = number % scale
    return f"{english(number // scale)} {word}" + (f" and {english(rest)}" if rest else "")


AMOUNTS = (2, 3, 5, 10, 12, 15, 20, 30, 45, 90, 99, 100, 105, 150, 365, 500, 1_050, 2_000, 25_000)


@pytest.mark.parametrize(
    ("zh", "en"),
    [("天", "days"), ("个月", "months"), ("元", "yuan"), ("公里", "km"), ("公斤", "kg"),
     ("小时", "hours"), ("次", "times"), ("岁", "years old"), ("美元", "dollars")],
)  # fmt: skip
def test_every_spelling_of_a_number_reads_the_same(zh: str, en: str) -> None:
    for number in AMOUNTS:
        surfaces = [f"{number}{zh}", f"{number} {zh}", f"{number:,}{zh}", f"{chinese(number)}{zh}"]
        surfaces += [f"{number} {en}", f"{english(number)} {en}"]
        readings = {numbers(frame.format(surface)) for surface in surfaces[:4]
                    for frame in FRAMES_ZH}  # fmt: skip
        readings |= {numbers(frame.format(surface)) for surface in surfaces[4:]
                     for frame in FRAMES_EN}  # fmt: skip
        assert len(readings) == 1 and len(next(iter(readings))) == 1, (number, zh, readings)


def test_two_numbers_never_read_alike() -> None:
    draw = random.Random(19)
    drawn = sorted({*range(1, 130), *(draw.randrange(1, 99_999) for _ in range(400))})
    found: dict[Quantity, int] = {}
    for number in drawn:
        (quantity,) = numbers(f"{chinese(number)}元")
        assert quantity == (float(number), "yuan"), chinese(number)
        assert found.setdefault(quantity, number) == number
        assert numbers(f"{english(number)} yuan") == {quantity}, english(number)


SAME: tuple[tuple[str, ...], ...] = (
    ("百分之五", "5%", "5 %", "5 percent", "five percent", "５％", "百分之5", "5个百分点"),
    ("百分之零点五", "0.5%", "千分之五", "万分之五十", "5‰"),
    ("九年级", "9年级", "初三", "grade 9", "9th grader", "初中三年级"),
    ("高一", "高中一年级", "10年级", "grade 10"),
    ("20万元", "20万块", "200000元", "¥200,000", "二十万元", "200,000 yuan", "20w元"),
    ("两万五千元", "25000元", "2.5万元", "2万5元", "两万五元", "25k元"),
    ("三块五", "3.5元", "3元5角", "三元五角", "¥3.50"),
    ("一百五十元", "一百五块", "150元"),
    ("一百零五元", "105元", "¥105"),
    ("两周", "2周", "14天", "十四天", "two weeks", "a fortnight", "两个星期", "14 days"),
    ("一年半", "18个月", "十八个月", "18 months"),
    ("两个半小时", "2.5小时", "150分钟", "2小时30分钟", "two and a half hours"),
    ("半小时", "30分钟", "half an hour", "0.5小时", "三十分钟"),
    ("48小时", "2天", "two days", "四十八小时"),
    ("3-5天", "3到5天", "三至五天", "三到五天", "3~5天", "三五天", "3 to 5 days"),
    ("零下五度", "-5度", "-5°", "-5 degrees"),
    ("1米75", "1.75米", "175厘米", "175cm"),
    ("20斤", "10公斤", "十公斤", "10 kg"),
    ("三分之一", "1/3", "3分之1", "a third"),
    ("下午三点半", "15:30", "3:30pm", "15点30分", "3.30 pm", "下午3点30分"),
    ("早上七点", "7am", "seven in the morning", "7:00 a.m.", "上午7点"),
    ("第三天", "第3天", "3rd day", "third day"),
    ("一亿元", "10000万元", "1亿元"),
    ("三天", "3天", "３天", "three days", "3 Days"),
    ("512G", "512GB", "512 gb"),
)


@pytest.mark.parametrize("surfaces", SAME, ids=lambda surfaces: str(surfaces[0]))
def test_surfaces_of_one_quantity_read_the_same(surfaces: tuple[str, ...]) -> None:
    readings = {surface: numbers(surface) for surface in surfaces}
    assert len(set(readings.values())) == 1 and all(readings.values()), readings


def test_different_quantities_read_apart() -> None:
    """Of any two rows above, no spelling of the one is taken for the other."""
    for one, other in itertools.combinations(SAME, 2):
        a, b = numbers(one[0]), numbers(other[0])
        assert a != b and not (len(a) == len(b) == 1 and alike(*a, *b)), (one[0], other[0])


@pytest.mark.parametrize(
    ("a", "b"),
    [("百分之五", "5分钟"), ("九年级", "九年"), ("三点五", "三点五十"), ("5折", "5元"),
     ("3天", "第3天"), ("3个月", "3月"), ("7am", "7pm"), ("早上7点", "晚上7点"), ("5度", "零下5度"),
     ("1.10", "1.1元"), ("一百零五元", "一百五元"), ("三年级", "高三"), ("20万元", "20元"),
     ("3 days", "3 weeks"), ("15%", "15"), ("5岁", "5年"), ("20 kg", "20 g"), ("1/2", "1/3"),
     ("2024年", "2025年"), ("3.5万", "35万"), ("2 million", "2 thousand"), ("0.05%", "0.5%")],
)  # fmt: skip
def test_what_looks_alike_reads_apart(a: str, b: str) -> None:
    one, other = read(a), read(b)
    same = one.numbers == other.numbers and one.dates == other.dates and one.codes == other.codes
    assert not same, (one, other)


@pytest.mark.parametrize(
    ("surfaces", "date"),
    [
        (("5月1日", "5月1号", "五月一日", "五月一号", "May 1", "May 1st", "1 May", "the 1st of May"),
         "-5-1"),
        (("2024年5月1日", "2024-05-01", "2024/5/1", "二零二四年五月一日", "May 1, 2024", "1 May 2024"),
         "2024-5-1"),
        (("12月", "十二月份", "in December", "十二月"), "-12-"),
        (("2024年", "二零二四年"), "2024--"),
    ],
)  # fmt: skip
def test_dates_read_the_same(surfaces: tuple[str, ...], date: str) -> None:
    for surface in surfaces:
        assert read(surface).dates == {date}, (surface, read(surface))


def test_a_date_without_a_year_may_be_one_with_a_year() -> None:
    assert dates_alike("2024-5-1", "-5-1") and not dates_alike("2024-5-1", "2024-5-2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("iPhone15", "iPhone 15", True), ("iPhone15 Pro", "iphone 15pro", True),
     ("iPhone 15", "iPhone 15 Pro", False), ("RTX4090", "RTX 4090", True), ("A320", "A321", False),
     ("Python 3.1", "Python 3.10", False), ("version 1.2.3", "version 1.2.30", False),
     ("order 0698", "order 698", False), ("小米14", "小米 14", True), ("B12", "B6", False)],
)  # fmt: skip
def test_model_numbers(one: str, other: str, *, same: bool) -> None:
    a, b = read(one), read(other)
    assert ((a.numbers, a.codes) == (b.numbers, b.codes)) is same, (a, b)


@pytest.mark.parametrize(
    "text",
    ["请等一下", "一般怎么办", "万一丢了", "百度网盘", "千万别点", "十分感谢", "星期三开门吗", "周五见",
     "三星手机", "唯一的办法", "no one helps", "every one", "半导体", "一次性餐具", "五一放假"],
)  # fmt: skip
def test_words_that_look_like_numbers_are_none(text: str) -> None:
    found = read(text)
    assert not {one for one in found.numbers if one[0] != 1.0} and not found.dates, found
