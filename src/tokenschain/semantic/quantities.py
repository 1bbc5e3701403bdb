"""Quantities: numbers with units, money, dates, times of day, grades, codes; Chinese and English.

Every spelling of a quantity reads the same (三天 = 3天 = three days, 20万元 = ¥200,000), and two
quantities never read alike. First numerals become digits, then patterns read the digits; each
pattern takes what it reads out of the text, so that no figure is read twice. All patterns are
linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tokenschain.semantic.lexicon import Lexicon

Quantity = tuple[float, str]
"""Value and dimension: `day`, `yuan`, `nth`..., empty where no unit is said."""

_DIGITS_ZH = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0, "俩": 2}
_SCALES = {
    "十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000, "hundred": 100, "k": 1_000,
    "thousand": 1_000, "w": 10_000, "million": 1_000_000, "billion": 1_000_000_000,
}  # fmt: skip
NUMERAL_MAX = 30
"""Signs of a Chinese numeral; more of them are a code, as more digits than a number holds are."""
_LETTER_BY_LETTER = re.compile(r"\d{16,}|[零〇一二三四五六七八九十百千万亿两俩]{31,}")
"""Compared sign by sign: as numbers, two of them would be the same."""
NEAR_CHARS = 16
"""How far before a numeral its neighbourhood is looked at."""
_HAN = re.compile(r"[\u4e00-\u9fff]")
_NO_NUMBER_ZH = re.compile(
    r"一(?:下|些|般|样|直|起|定|旦|切|共|点(?![零〇一二三四五六七八九])|边|次性|站式|键|卡通|半|致|会儿|"
    r"如|味|律|向|体|带|线|手)|[唯统单专]一|(?<![零一二三四五六七八九十百千两])(?:万一|十分(?!钟|之|米))|万能|千万(?=别|不|要)|千里|哪一|第一时间|"
    r"百度|百姓|百科|百货|百分百|[百千万](?=分之)|百(?=分点)|[三二第]方|[四三]处|[五三]险|[一两]金|[二两]维码|"
    r"二手|二次元|三国|三亚|三星|四川|九寨沟|七夕|八卦|零(?:钱|食|售|件|基础)|两(?:者|边|侧|岸)|"
    r"半(?:天|夜|径|价|路|导体)|[五六十]一(?=节|假|长假|黄金|放|劳|儿|国)|双十[一二]|"
    r"(?:周|星期|礼拜)[一二三四五六日天]|[四六]级(?=考|英|成|准|证|报|真|词|听|作|$)"
)
_RUN_ZH = re.compile(
    r"[零〇一二三四五六七八九十百千万亿两俩]{1,30}"
    r"(?:点[零〇一二三四五六七八九]{1,30}(?![十分零〇一二三四五六七八九]))?"
)
_BEFORE_NUMERAL = re.compile(
    r"(?:第|初|高|大|研|分之|零下|年|月|星期|[-~到至\d.]|[零一二三四五六七八九十两\d][块毛元米])$"
)
_AFTER_NUMERAL = re.compile(
    r"分之|年级|折|成(?![功为人年立绩长员本分果效熟交语都])|月份?|"
    r"[-~到至][\d零一二三四五六七八九十百两]|[多来余几]?(?:万|亿|千|百)|\d"
)
_APPROXIMATE = re.compile(r"([一二三四五六七八九])([两二三四五六七八九])$")
_EN_WORDS = [
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
_EN_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_EN_ORDINALS = [
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
    "thirtieth",
]
_EN_ORDINAL_VALUES = (*range(3, 21), 30)
_EN_VALUES = (
    {word: number for number, word in enumerate(_EN_WORDS)}
    | {word: 20 + 10 * number for number, word in enumerate(_EN_TENS)}
    | {"dozen": 12}
)
_EN_FIGURE = rf"(?:{'|'.join((*_EN_VALUES, 'hundred', 'thousand', 'million', 'billion'))})\b"
_EN_NUMERAL = re.compile(
    r"\b(?:(?:an?|half a)[\s-]+(?=hundred|thousand|million|billion|dozen))?"
    rf"{_EN_FIGURE}(?:[\s-]+(?:and\s+)?{_EN_FIGURE}){{0,12}}(?:\s+and a half\b)?"
)
_NO_ONE = re.compile(r"\b(?:no|any|every|some|which|this|that|the|another|each|new|right)\s+$")
_EN_ORDINAL = re.compile(
    rf"\b(?:({'|'.join(_EN_TENS)})[\s-]+)?({'|'.join(_EN_ORDINALS)})\b"
    r"(?!,| party| parties| name| aid)"
)
_PARTS_EN = {"third": "1/3", "quarter": "1/4", "fifth": "1/5"}
_PART_EN = re.compile(r"\b(?:a|one) (third|quarter|fifth)\b(?= of (?!an hour)| off\b|\W{0,9}$)")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SCALED = re.compile(
    r"(?<![\d.])((?:\d+(?:\.\d+)?\s?(?:亿|万|千(?![克米瓦卡伏])|百(?![分度货姓])){1,2}){1,4})"
    r"([1-9](?![\d.%]))?|"
    r"(?<![\d.])(\d+(?:\.\d+)?)\s?(million|billion|thousand|hundred|k|w)(?![a-z])"
)
_SCALED_EN = re.compile(r"(?<![\d.])()()(\d+(?:\.\d+)?)\s?(million|billion|thousand|hundred|k)\b")
_SCALED_PART = re.compile(r"(\d+(?:\.\d+)?)\s?([亿万千百]{1,2})")
_MODEL = re.compile(r"(?<![a-z0-9.])([a-z]{2,})[-_]?(\d{1,4})(?!\d|[a-z]+\d)")
_MODEL_SUFFIX = re.compile(
    r"(?<![a-z0-9.])(\d{1,4})[ -]?(pro max|pro|max|plus|mini|ultra|lite|air|se|ti)\b(?!\s?\d)"
)
_LISTED = re.compile(r"^\W?\d{1,2}\s?[:、.)](?=\s?[^\d\s])")
"""The number of a question in a list."""
_CODE = re.compile(
    r"(?<![a-z0-9])(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]+(?:[-_.][a-z0-9]+)*(?![a-z0-9])"
)
_DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,6}(?![\d.])|(?<![\d.:])0\d{2,14}(?![\d.:%])")
_VERSION = re.compile(
    r"(?:(?<=[a-z])|(?<=版本))\s?v?(\d{1,4}\.\d{1,4})(?![\d.]|\s?[%a-z\u4e00-\u9fff])"
)
_MONTHS = ("jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
           "sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?")  # fmt: skip
_MONTH_NUMBER = {m: n + 1 for n, m in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)}  # fmt: skip
_DAY_EN = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)"), "yxmd"),
    (re.compile(r"(?<!\d)(\d{4})年(\d{1,2})月(?:份)?(?:(\d{1,2})[日号]?)?"), "ymd"),
    (re.compile(r"(?<!\d)(\d{1,2})月(?:份)?(\d{1,2})[日号]?"), "md"),
    (re.compile(r"(?<!\d)(\d{1,2})月(?:份)?"), "m"),
    (re.compile(r"(?<!\d)((?:19|20)\d{2})年(?!级)"), "y"),
    (re.compile(rf"\b{_DAY_EN}\s+(?:of\s+)?({_MONTHS})\b\.?(?:,?\s+(\d{{4}})\b)?"), "dmy"),
    (re.compile(rf"\b({_MONTHS})\.?\s+(?:the\s+)?{_DAY_EN}(?![\d:])(?:,?\s+(\d{{4}})\b)?"), "mdy"),
    (re.compile(rf"\b({_MONTHS})\b\.?(?:,?\s+(\d{{4}})\b)?"), "my"),
)  # fmt: skip
_NO_MONTH = re.compile(
    r"\b(?:in|of|by|since|until|till|from|last|next|this|every|for|during|before|after|mid)[\s-]+$"
)
_PERCENT = re.compile(
    r"(百|千|万)分之\s?(\d+(?:\.\d+)?)|"
    r"(\d+(?:\.\d+)?)\s?(?:%|‰|percent\b|per cent\b|个?百分点|个点)|"
    r"%(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)成(?![功为人年立绩长员本分果效熟交语都])"
)
_FRACTION = re.compile(r"(\d{1,4})分之(\d{1,4})|(?<![\d/])(\d{1,3})/(\d{1,3})(?![\d/])")
_PART_ZH = r"(凌晨|清晨|早上|早晨|上午|中午|下午|午后|傍晚|晚上|今晚|明晚|夜里|夜间|晚|早)?的?"
_CLOCK_ZH = re.compile(
    rf"{_PART_ZH}(?<![\d.])(\d{{1,2}})(?:[:：](\d{{2}})(?::\d{{2}})?|"
    r"点钟?(?:(半)|([13])刻|(?:过)?(\d{1,2})分?)?(?!\d|多|击|评)整?)"
    r"(?!\s?(?:am|pm|a\.m|p\.m)\b)"
)
_CLOCK_EN = re.compile(
    r"(?<![\d.:])(?:(half past|quarter past|quarter to) )?(\d{1,2})"
    r"(?:[:.](\d{2}))?(?:\s?(a\.?m\b\.?|p\.?m\b\.?|o'clock\b))?"
    r"(?:,? (?:in the |at |this |tomorrow )?(morning|afternoon|evening|night)\b)?"
)
_LATE = frozenset(("下午", "午后", "傍晚", "晚上", "今晚", "明晚", "夜里", "夜间", "晚",
                   "pm", "afternoon", "evening", "night"))  # fmt: skip
_EARLY = frozenset(("凌晨", "清晨", "早上", "早晨", "上午", "早", "am", "morning"))
_GRADE = re.compile(
    r"(小学|初中|高中|大学)?(\d{1,2})年级|"
    r"(初|高|大|研)([1-4])(?![\d.个点些\u4e00])(?=[\u4e00-\u9fff]|\W|$)|"
    r"\b(?:grade|class) (\d{1,2})\b|\b(\d{1,2})(?:st|nd|rd|th)[\s-]grader?s?\b|\b(year) (\d{1,2})\b"
)
_GRADES_BEFORE = {"小学": 0, "初中": 6, "高中": 9, "初": 6, "高": 9}
_DAYS_ZH = re.compile(r"(?<![\d.])(\d{1,4})日(?=之?[内后前游]|以[内后前])")
_CONNECTS = re.compile(r"\s?(?:-|~|～|—|–|到|至|to|and|or|或)\s?")
_HALF_BEFORE = re.compile(
    r"(?<!个)半(?=小时|个小时|钟头|个钟|年|个月|月|斤|公斤|里|升|米|岁|日|周)"
)


class Quantities(NamedTuple):
    """What was read, and the text without it."""

    text: str
    """Each quantity as one `＿`."""
    numbers: frozenset[Quantity]
    dates: frozenset[str]
    """Year, month and day as `2024-5-1`, empty where one is not said."""
    codes: frozenset[str]


class QuantityReader:
    """Reads quantities by the units of a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._unit_of = {word: unit for unit, words in lexicon.units.items() for word in words}
        self._same_units = lexicon.same_units
        units = "|".join(sorted(map(re.escape, self._unit_of), key=len, reverse=True))
        self._units_zh = re.compile(
            "|".join(sorted((re.escape(w) for w in self._unit_of if not w.isascii()), key=len,
                            reverse=True)))  # fmt: skip
        self._number = re.compile(
            r"(第|\bno\.? ?|\bnumber |#)?(零下|(?<![\w)-])-(?=[\d$€£¥]))?(us\$|hk\$|[$€£¥])?\s?"
            rf"(?<![\d.])(\d{{1,15}}(?:\.\d{{1,15}})?)(st|nd|rd|th)?"
            r"[+多余来几]?(?:\s?-(?=[a-z]))?(个半)?\s*"
            rf"(?:({units})(?![a-z]))?(半)?"
        )
        self._measure = re.compile(rf"\d+(?:\.\d+)?(?:{units}|st|nd|rd|th|k|w|p)")

    def digits(self, text: str) -> str:
        """The text with its numerals in digits; `text` is plain, see `text_facts.plain`."""
        text = self._digits_zh(text)
        if any(c.isascii() and c.isalpha() for c in text):
            text = _digits_en(text)
        text = _GROUPED.sub("", text.replace("第1次", "首次").replace("1st time", "first time"))
        text = _SCALED.sub(_scaled, text) if _HAN.search(text) else _SCALED_EN.sub(_scaled, text)
        text = _MODEL.sub(r"\1 \2", text)
        return _MODEL_SUFFIX.sub(lambda found: found[1] + found[2].replace(" ", ""), text)

    def read(self, text: str) -> Quantities:
        """Read a text whose numerals are digits."""
        codes = set(_LETTER_BY_LETTER.findall(text))
        bare = _LETTER_BY_LETTER.sub("＿", text)
        bare = _LISTED.sub("", bare)
        numbers: set[Quantity] = set()
        dates: set[str] = set()
        codes.update(_DOTTED.findall(bare))
        bare = _take_dates(bare, dates)
        bare = _DOTTED.sub("＿", bare)
        codes.update(_VERSION.findall(bare))
        bare = _PERCENT.sub(_into(numbers, _percent), bare)
        bare = _FRACTION.sub(_into(numbers, _fraction), bare)
        bare = _GRADE.sub(_into(numbers, _grade), bare)
        bare = _CLOCK_ZH.sub(_into(numbers, _clock_zh), bare)
        bare = _CLOCK_EN.sub(_into(numbers, _clock_en), bare)
        for code in _CODE.findall(bare):
            if not self._measure.fullmatch(code):
                codes.add(code)
        bare = _CODE.sub(
            lambda found: found[0] if self._measure.fullmatch(found[0]) else "＿", bare
        )
        bare = _DAYS_ZH.sub(r"\1天", bare)
        bare = self._take_numbers(bare, numbers)
        return Quantities(bare, frozenset(numbers), frozenset(dates), frozenset(codes))

    def _digits_zh(self, text: str) -> str:
        if not _RUN_ZH.search(text) and "半" not in text:
            return text
        masked = _LETTER_BY_LETTER.sub(lambda found: "＿" * len(found[0]), text)
        masked = _NO_NUMBER_ZH.sub(lambda found: "＿" * len(found[0]), masked)
        parts, at = [], 0
        for found in _RUN_ZH.finditer(masked):
            numeral, start, end = found[0], found.start(), found.end()
            before, after = masked[max(0, start - 2) : start], masked[end : end + 6]
            if before[-1:].isdigit() and numeral[0] in "百千万亿":
                continue  # 20万, read with its digits
            unit = self._units_zh.match(after)
            if not unit and not (len(numeral) > 1 and numeral not in ("千万", "万千", "百万")):
                if not _BEFORE_NUMERAL.search(before) and not _AFTER_NUMERAL.match(after):
                    continue
                if before[-1:] in "高大初年月" and numeral not in "一二三四五六":
                    continue
            parts.append(text[at:start])
            parts.append(_numeral_zh(numeral, has_unit=bool(unit)))
            at = end
        text = "".join((*parts, text[at:]))
        return _HALF_BEFORE.sub("0.5", text) if "半" in text else text

    def _take_numbers(self, text: str, numbers: set[Quantity]) -> str:
        """Plain numbers with their units: ranges share one, neighbours of one kind add up."""
        found = list(self._number.finditer(text))
        read: list[tuple[float, str]] = []
        parts, at = [], 0
        for place, match in enumerate(found):
            value, unit = self._one(match)
            if not unit and place + 1 < len(found):
                between = text[match.end() : found[place + 1].start()]
                if _CONNECTS.fullmatch(between):
                    unit = self._one(found[place + 1])[1]
            before = text[found[place - 1].end() : match.start()].strip(" 零又") if place else "-"
            if place and not before and read and (whole := self._sum(read[-1], value, unit)):
                read[-1] = whole
            else:
                read.append((value, unit))
            parts += [text[at : match.start()], "＿"]
            at = match.end()
        for value, unit in read:
            factor, kind = self._same_units.get(unit, (1.0, unit))
            numbers.add((round(value * factor, 9), kind))
        return "".join((*parts, text[at:]))

    def _one(self, match: re.Match[str]) -> tuple[float, str]:
        nth, below, currency, figure, suffix, and_half, word, half = match.groups()
        value = float(figure) * (-1.0 if below else 1.0) + (0.5 if and_half or half else 0.0)
        unit = self._unit_of.get(word or currency or "", "")
        if nth or suffix:
            kind = self._same_units.get(unit, (1.0, unit))[1] and unit
            return value, f"nth {kind}" if kind and kind != "nth" else "nth"
        return value, unit

    def _sum(self, before: Quantity, value: float, unit: str) -> Quantity | None:
        """1小时30分, 3元5角, 1米75, 5 feet 6 inches: one quantity."""
        factor, kind = self._same_units.get(before[1], (1.0, before[1]))
        if before[1] in ("yuan", "mao") and not unit and value < 10:
            return before[0] + value / 10, before[1]
        if before[1] == "m" and not unit and 10 <= value < 100:
            return before[0] + value / 100, "m"
        if unit == "point":
            unit = "minute" if kind == "day" else "fen" if kind == "yuan" else unit
        more, same = self._same_units.get(unit, (1.0, unit))
        if kind and kind == same and more < factor:
            return before[0] + value * more / factor, before[1]
        return None


def alike(one: Quantity, other: Quantity) -> bool:
    """Whether two readings may be one quantity: a unit that is not said is any."""
    if one == other:
        return True
    (a, unit), (b, kind) = one, other
    if {unit, kind} == {"clock", "clock12"}:
        return a % 720 == b % 720
    return a == b and (not unit or not kind)


def dates_alike(one: str, other: str) -> bool:
    """Whether two dates may be one: what is not said is any."""
    pairs = zip(one.split("-"), other.split("-"), strict=True)
    return all(not a or not b or a == b for a, b in pairs)


# --- numerals ---------------------------------------------------------------------------------


def _numeral_zh(text: str, *, has_unit: bool = False) -> str:
    """三百二十, 两万五, 二零二四, 三点五, 三五 (天) in digits."""
    near = _APPROXIMATE.fullmatch(text)
    if near and has_unit:
        low, high = (_DIGITS_ZH[c] for c in near.groups())
        if high == low + 1 or (low, high) == (3, 5):
            return f"{low}-{high}"
    whole, _, part = text.partition("点")
    if not any(c in _SCALES for c in whole):
        figure = "".join(str(_DIGITS_ZH[c]) for c in whole)
    else:
        figure = str(_scaled_zh(whole))
    return f"{figure}.{''.join(str(_DIGITS_ZH[c]) for c in part)}" if part else figure


def _scaled_zh(whole: str) -> int:
    total = section = digit = 0
    scale, last_zero = 1, False
    for c in whole:
        if c in _DIGITS_ZH:
            digit, last_zero = _DIGITS_ZH[c], c in "零〇" or last_zero
            continue
        scale = _SCALES[c]
        if scale >= 10_000:
            total = (total + section + digit or 1) * scale
            section = digit = 0
        else:
            section += (digit or 1) * scale
            digit = 0
        last_zero = False
    # 两万五 is 25,000 and 一百五 150, but 一百零五 is 105.
    if digit and scale >= 100 and not last_zero:
        digit *= scale // 10
    return total + section + digit


def _scaled(found: re.Match[str]) -> str:
    """20万, 3万5千, 1.5亿, 20k in digits."""
    if found[3]:
        return _figure(float(found[3]) * _SCALES[found[4]])
    total, scale = 0.0, 1
    for figure, signs in _SCALED_PART.findall(found[1]):
        scale = 1
        for sign in signs:
            scale *= _SCALES[sign]
        total += float(figure) * scale
    if found[2]:
        total += int(found[2]) * scale / 10
    return _figure(total)


def _figure(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 9))


def _digits_en(text: str) -> str:
    text = re.sub(r"\bhalf an? (hour|day|year|month|mile|dozen)\b", r"0.5 \1", text)
    text = re.sub(r"\ban? (hour|day|year|month|mile) and a half\b", r"1.5 \1", text)
    text = re.sub(r"\b(?:a )?quarter of an hour\b", "15 minutes", text)
    text = re.sub(r"\b(one|two|three|four|five) and a half\b",
                  lambda found: f"{_EN_VALUES[found[1]]}.5", text)  # fmt: skip
    text = _PART_EN.sub(lambda found: _PARTS_EN[found[1]], text)
    text = re.sub(r"\btwice\b", "2 times", re.sub(r"\bfortnight\b", "14 days", text))
    text = _EN_ORDINAL.sub(_ordinal_en, text)
    return _EN_NUMERAL.sub(_numeral_en, text)


def _ordinal_en(found: re.Match[str]) -> str:
    value = _EN_ORDINAL_VALUES[_EN_ORDINALS.index(found[2])]
    value += 20 + 10 * _EN_TENS.index(found[1]) if found[1] else 0
    ending = {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th") if value // 10 != 1 else "th"
    return f"{value}{ending}"


def _numeral_en(found: re.Match[str]) -> str:
    words = re.findall(r"[a-z]+", found[0])
    start = found.start()
    if words == ["one"] and _NO_ONE.search(found.string[max(0, start - NEAR_CHARS) : start]):
        return found[0]
    if words[0] in ("hundred", "thousand", "million", "billion", "dozen"):
        before = found.string[max(0, start - NEAR_CHARS) : start].rstrip()
        if before[-1:].isdigit():
            return found[0]
    total, section, half = 0.0, 0.0, found[0].endswith(" and a half")
    for word in words[:-3] if half else words:
        if word in ("a", "an", "and"):
            continue
        if word == "half":
            section = 0.5
        elif word == "dozen":
            section = (section or 1) * 12
        elif word in _EN_VALUES:
            section += _EN_VALUES[word]
        elif word == "hundred":
            section = (section or 1) * 100
        else:
            total += (section or 1) * _SCALES[word]
            section = 0.0
    return _figure(total + section + (0.5 if half else 0.0))


# --- patterns ---------------------------------------------------------------------------------


def _into(
    numbers: set[Quantity], read: Callable[[re.Match[str]], Quantity | None]
) -> Callable[[re.Match[str]], str]:
    def take(found: re.Match[str]) -> str:
        quantity = read(found)
        if quantity is None:
            return found[0]
        numbers.add(quantity)
        return "＿"

    return take


def _take_dates(text: str, dates: set[str]) -> str:
    for pattern, order in _DATES:

        def take(found: re.Match[str], order: str = order) -> str:
            parts = dict(zip(order, found.groups(), strict=True))
            month = parts.get("m") or ""
            if order == "my" and found[1] in ("may", "mar", "march"):
                before = found.string[max(0, found.start() - NEAR_CHARS) : found.start()]
                if not found[2] and not _NO_MONTH.search(before):
                    return found[0]
            if month[:3] in _MONTH_NUMBER:
                month = str(_MONTH_NUMBER[month[:3]])
            if month and not 1 <= int(month) <= 12:
                return found[0]
            year, day = parts.get("y") or "", parts.get("d") or ""
            dates.add(f"{year}-{int(month) if month else ''}-{int(day) if day else ''}")
            return "＿"

        text = pattern.sub(take, text)
    return text


def _percent(found: re.Match[str]) -> Quantity:
    of, part, figure, before, tenths = found.groups()
    if of:
        return round(float(part) * 100 / _SCALES[of], 9), "percent"
    if tenths:
        return round(float(tenths) * 10, 9), "percent"
    value = float(figure or before)
    return round(value / 10, 9) if "‰" in found[0] else value, "percent"


def _fraction(found: re.Match[str]) -> Quantity | None:
    below, above, over, under = found.groups()
    top, bottom = int(above or over), int(below or under)
    return (round(top / bottom, 9), "ratio") if bottom else None


def _grade(found: re.Match[str]) -> Quantity | None:
    school, grade, short, year, grade_en, grade_nth, _, year_en = found.groups()
    if grade:
        if school == "大学":
            return float(grade), "college year"
        return float(int(grade) + _GRADES_BEFORE.get(school or "", 0)), "grade"
    if short:
        if short in ("大", "研"):
            return float(year), "college year" if short == "大" else "graduate year"
        return (float(int(year) + _GRADES_BEFORE[short]), "grade") if int(year) <= 3 else None
    if year_en:
        return float(year_en), "school year"
    return float(grade_en or grade_nth), "grade"


def _clock_zh(found: re.Match[str]) -> Quantity | None:
    part, hour, minute, half, quarter, past = found.groups()
    minutes = int(minute or past or 0) + (30 if half else 0) + 15 * int(quarter or 0)
    return _clock(int(hour), minutes, part or "")


def _clock_en(found: re.Match[str]) -> Quantity | None:
    relative, hour, minute, marker, part = found.groups()
    if not (relative or marker or part):
        return None
    minutes = int(minute or 0)
    if relative:
        minutes += {"half past": 30, "quarter past": 15, "quarter to": -15}[relative]
    mark = (marker or "").replace(".", "").strip()
    return _clock(int(hour), minutes, mark if mark in ("am", "pm") else part or "")


def _clock(hour: int, minutes: int, part: str) -> Quantity | None:
    if hour > 24 or minutes >= 60:
        return None
    if part in _LATE and hour < 12 and not (part in ("夜里", "夜间", "night") and hour < 5):
        hour += 12
    if part in _EARLY and hour == 12:
        hour = 0
    known = hour > 12 or hour == 0 or part in _LATE | _EARLY or part == "中午"
    if part == "中午" and hour < 3:
        hour += 12
    return float((60 * hour + minutes) % 1440), "clock" if known else "clock12"
