"""Text facts: numbers, money, dates, codes, names, negation and direction read out of a text.

For Chinese and English with 三天 = 3天 = 3 days. `guards` compares them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from tokenschain.semantic.lexicon import Lexicon

_DIGITS_ZH = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0, "俩": 2}
_SCALES_ZH = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000}
NUMERAL_MAX = 30
"""Signs of a Chinese numeral; more of them are a code, as more digits than a number holds are."""
_LONG_ZH = re.compile(r"[零〇一二三四五六七八九十百千万亿两]{2,30}")
_LETTER_BY_LETTER = re.compile(r"\d{16,}|[零〇一二三四五六七八九十百千万亿两俩]{31,}")
"""Compared sign by sign: as numbers, two of them would be the same."""
_NO_NUMBER_ZH = re.compile(
    r"一下|一些|一般|一样|一直|一起|唯一|万一|统一|一定|一旦|一切|一共|万能|十分|千万(?=别|不)|"
    r"一个(?!月|小时)|一点|一边|一次性|哪一|第一时间|百度|百姓|三方|四处|五险一金|三险"
)
_DATE = re.compile(r"(\d{4})[-/.年](\d{1,2})(?:[-/.月](\d{1,2}))?|(\d{1,2})月(\d{1,2})[日号]?")
_CODE = re.compile(
    r"(?<![a-z0-9])(?=[a-z]*[0-9])(?=[0-9]*[a-z])[a-z0-9]+(?:[-_.][a-z0-9]+)*(?![a-z0-9])"
)
_WORD = re.compile(r"[a-z]+(?:[-'’][a-z]+)*|\d+(?:\.\d+)?|[\u4e00-\u9fff]")
_CAPITALS = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][A-Za-z0-9]*\b|\b[A-Z]{2,}\b")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_FROM_TO = (
    re.compile(r"\bfrom (?:an? |the |my )?([\w-]+(?: [\w-]+)?) (?:in)?to "
               r"(?:an? |the |my )?([\w-]+)"),
    re.compile(r"\b(?:convert|change|transfer|exchange|translate|turn) (?:an? |the |my )?"
               r"([\w-]+) (?:in)?to (?:an? |the |my )?([\w-]+)"),
    re.compile(r"([\u4e00-\u9fffa-z]{1,6}?)(?:到|转换成|转换为|转成|转|兑换成|兑|换成|翻译成|译成|飞|去|至)"
               r"([\u4e00-\u9fffa-z]{1,6})"),
)  # fmt: skip
_NOTED = re.compile(r"⟦[^⟧]+⟧|[a-z]+(?:[-'][a-z]+)*|[\u4e00-\u9fff]")
_SUFFIXES = ("ing", "ies", "ed", "es", "s", "ly")
_OWN = ("i", "my", "you", "your", "he", "she", "we", "they", "我", "你", "他", "她", "我们", "他们")


class TextFacts(NamedTuple):
    """What was read out of one text."""

    text: str
    bare: str
    """Without what looks like a negation and is none."""
    gist: tuple[str, ...]
    """Its words without fillers, each as one of all that say the same."""
    words: tuple[str, ...]
    content: frozenset[str]
    numbers: frozenset[tuple[float, str]]
    dates: frozenset[str]
    codes: frozenset[str]
    names: frozenset[str]
    capitals: frozenset[str]
    negations: int
    times: frozenset[int]
    aspects: frozenset[int]
    roles: frozenset[int]
    routes: frozenset[tuple[str, str]]
    asks: str
    chinese: float
    mine: frozenset[str]


class FactReader:
    """Reads texts; holds the lexicon's lists as regular expressions.

    It keeps none of what it read: to read again takes less than 0.1 ms for a question of usual
    length, and texts of callers are held by the vector store alone, within its bytes.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._unit_of = {word: unit for unit, words in lexicon.units.items() for word in words}
        units = "|".join(sorted(map(re.escape, self._unit_of), key=len, reverse=True))
        self._number = re.compile(
            rf"([$€£¥￥])?\s?(\d[\d,]*(?:\.\d+)?)\s*(k\b|w\b|万|千|百|亿|million|thousand)?\s*"
            rf"(?:({units})(?![a-z])|(?:st|nd|rd|th)\b)?",
        )
        self._number_zh = re.compile(
            rf"(半|[零〇一二三四五六七八九十百千万亿两俩]{{1,30}}(?:点[零一二三四五六七八九]{{1,30}})?)"
            rf"({units})(半)?"
        )
        self._measure = re.compile(rf"\d+(?:{units}|st|nd|rd|th|k|w|g|p)")
        self._number_words = {
            word: (float(value), re.compile(rf"\b{word}\b[\s-]+({units})(?![a-z])"))
            for word, value in lexicon.numbers_en.items()
            if word not in ("one", "second", "single", "once", "couple")
        }
        # Earlier groups win where a word is in several.
        groups = lexicon.synonyms[::-1]
        self._canon_en = {word: group[0] for group in groups if group[0].isascii()
                          for word in group}  # fmt: skip
        self._canon_zh = {word: group[0] for group in groups if not group[0].isascii()
                          for word in group}  # fmt: skip
        phrases = sorted((w for w in self._canon_en if " " in w), key=len, reverse=True)
        self._phrases_en = [(phrase, re.compile(rf"\b{phrase}\b")) for phrase in phrases]
        fillers_zh = (*self._canon_zh, *lexicon.fillers_zh)
        self._words_zh = re.compile(
            "|".join(sorted(map(re.escape, fillers_zh), key=len, reverse=True))
        )

    def facts_of(self, raw: str) -> TextFacts:
        """Read a text."""
        lexicon = self._lexicon
        text = plain(raw)
        words = tuple(_WORD.findall(text))
        han = len(_HAN.findall(text))
        bare = self._bare(text)
        codes = {code for code in _CODE.findall(text) if not self._measure.fullmatch(code)}
        codes.update(_LETTER_BY_LETTER.findall(text))
        return TextFacts(
            text,
            bare,
            self._gist(text),
            words,
            frozenset(stem(word) for word in words if word not in lexicon.stop_en),
            self._numbers(text),
            frozenset(_dates(text)),
            frozenset(codes),
            self._names(raw, text, words, chinese=bool(han)),
            self._capitals(raw, words, chinese=bool(han)),
            self._negations(bare, words),
            _which(lexicon.times, text, words),
            _which(lexicon.aspects, text, words),
            _which(lexicon.roles, text, words),
            frozenset(_routes(text)),
            _asks(text),
            han / max(1, len(words)),
            frozenset(w for w in _OWN if w in words or (len(w) > 1 and w in text)),
        )

    def _names(
        self, raw: str, text: str, words: tuple[str, ...], *, chinese: bool
    ) -> frozenset[str]:
        lexicon, aliases = self._lexicon, self._lexicon.aliases
        names = {aliases.get(name, name) for name in lexicon.names_zh if chinese and name in text}
        names |= {aliases.get(word, word) for word in words if word in lexicon.places_en}
        if re.search(r"\bU\.?S\.?A?\b", raw):
            names.add("america")
        return frozenset(names)

    def _capitals(self, raw: str, words: tuple[str, ...], *, chinese: bool) -> frozenset[str]:
        normal = unicodedata.normalize("NFKC", raw)
        capitals = {c.lower() for c in _CAPITALS.findall(normal)} - self._lexicon.stop_en
        if chinese:
            # Latin words in a Chinese text are mostly names, in whatever case.
            capitals |= {word for word in words
                         if word.isascii() and word.isalpha() and len(word) > 1}  # fmt: skip
        return frozenset(capitals)

    def _gist(self, text: str) -> tuple[str, ...]:
        """The words without fillers, each as the first of its synonyms."""
        for phrase, pattern in self._phrases_en:
            if phrase in text:
                text = pattern.sub(self._canon_en[phrase].replace(" ", "-"), text)
        # Numbers are compared as numbers.
        text = self._number_zh.sub(" ", self._number.sub(" ", _NO_NUMBER_ZH.sub(" ", text)))
        canon_zh = self._canon_zh
        text = self._words_zh.sub(
            lambda found: f"⟦{canon_zh[found[0]]}⟧" if found[0] in canon_zh else " ", text
        )
        gist = []
        for found in _NOTED.findall(text):
            word = found.removesuffix("'s")
            if word in self._lexicon.stop_en or word in self._lexicon.numbers_en:
                continue
            canon = self._canon_en.get(word) or self._canon_en.get(stem(word)) or stem(word)
            gist.append(stem(canon))
        return tuple(gist)

    def _numbers(self, text: str) -> frozenset[tuple[float, str]]:
        """Numbers and of what, in one unit where several say the same."""
        units = self._unit_of
        found: set[tuple[float, str]] = set()
        bare = _NO_NUMBER_ZH.sub("＿", _LETTER_BY_LETTER.sub("＿", text))
        for match in self._number.finditer(bare):
            before = bare[match.start(2) - 1 : match.start(2)]
            if before.isascii() and before.isalpha():
                continue
            value = float(match.group(2).replace(",", ""))
            scale = match.group(3)
            value *= {"k": 1e3, "w": 1e4, "万": 1e4, "千": 1e3, "百": 1e2, "亿": 1e8,
                      "million": 1e6, "thousand": 1e3}.get(scale or "", 1.0)  # fmt: skip
            unit = units.get(match.group(4) or match.group(1) or "", "")
            found.add((value, unit))
        bare = self._number.sub("＿", bare)
        for match in self._number_zh.finditer(bare):
            value = 0.5 if match.group(1) == "半" else _chinese(match.group(1))
            found.add((value + (0.5 if match.group(3) else 0.0), units[match.group(2)]))
        left = self._number_zh.sub("", bare)
        for match in _LONG_ZH.finditer(left):
            found.add((_chinese(match.group()), ""))
        for word in set(re.findall(r"[a-z]+", bare)):
            if word in self._number_words:
                number, with_unit = self._number_words[word]
                after = with_unit.search(bare)
                found.add((number, units[after.group(1)] if after else ""))
        alike = set()
        for value, unit in found:
            factor, kind = self._lexicon.same_units.get(unit, (1.0, unit))
            if (value, unit) != (1.0, "item"):  # which is an article
                alike.add((value * factor, kind))
        return frozenset(alike)

    def _bare(self, text: str) -> str:
        for harmless in self._lexicon.no_negation_zh:
            text = text.replace(harmless, "＿")
        return re.sub(r"([\u4e00-\u9fff])[不没]\1", "＿", text)  # A-not-A asks, it does not deny

    def _negations(self, bare: str, words: tuple[str, ...]) -> int:
        count = sum(word in self._lexicon.negations_en for word in words)
        return count + sum(bare.count(word) for word in self._lexicon.negations_zh)


def plain(text: str) -> str:
    """Small letters, narrow forms, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().replace("’", "'").split())


def _chinese(text: str) -> float:
    """A Chinese numeral as a number: 三百二十, 两万, 二零二四, 三点五."""
    whole, _, part = text.partition("点")
    if not any(c in _SCALES_ZH for c in whole):
        value = float("".join(str(_DIGITS_ZH[c]) for c in whole) or 0)
    else:
        total, section, digit = 0.0, 0.0, 0
        for c in whole:
            if c in _DIGITS_ZH:
                digit = _DIGITS_ZH[c]
                continue
            scale = _SCALES_ZH[c]
            if scale >= 10_000:
                total = (total + section + digit or 1) * scale
                section = digit = 0
            else:
                section += (digit or 1) * scale
                digit = 0
        value = total + section + digit
    if part:
        value += float("0." + "".join(str(_DIGITS_ZH[c]) for c in part))
    return value


def _dates(text: str) -> list[str]:
    return [
        f"{y or ''}-{int(m or m2)}-{int(d or d2 or 0)}"
        for y, m, d, m2, d2 in (match.groups() for match in _DATE.finditer(text))
    ]


def _which(
    groups: tuple[tuple[str, ...], ...], text: str, words: tuple[str, ...]
) -> frozenset[int]:
    found = set()
    said = set(words)
    for number, group in enumerate(groups):
        for word in group:
            if word.isascii():
                hit = f" {word} " in f" {text.strip('?.! ')} " if " " in word else word in said
            else:
                hit = word in text
            if hit:
                found.add(number)
                break
    return frozenset(found)


def _routes(text: str) -> list[tuple[str, str]]:
    found = []
    for pattern in _FROM_TO:
        for match in pattern.finditer(text):
            one = re.sub(r"^(?:从|由|把|将|怎么|如何|请问|我想)+", "", match.group(1))
            other = re.sub(r"(?:怎么|多少|要|的|需要|呢|吗|多久|几).*$", "", match.group(2))
            if one and other:
                found.append((one, other))
    return found


def _asks(text: str) -> str:
    """What kind of answer is wanted."""
    for name, pattern in _ASKS:
        if pattern.search(text):
            return name
    return ""


_ASKS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("much", r"how much|how many|多少|几(?:个|天|次|年|岁|块)"),
        ("long", r"how long|多久|多长时间"),
        ("when", r"\bwhen\b|what time|什么时候|何时|几点"),
        ("where", r"\bwhere\b|哪里|哪儿|在哪"),
        ("why", r"\bwhy\b|为什么|为何|怎么回事|原因"),
        ("who", r"\bwho\b|谁"),
        ("which", r"\bwhich\b|哪个|哪些|哪种"),
        ("how", r"\bhow\b|怎么|怎样|如何|咋"),
        ("what", r"\bwhat\b|什么|啥"),
        ("whether", r"^(?:is|are|can|could|do|does|did|will|would|should|may|has|have)\b|"
                    r"能不能|可以.{0,100}吗|能.{0,100}吗|是否|会.{0,100}吗|吗[？?]?$|可不可以"),
    )
)  # fmt: skip


def stem(word: str) -> str:
    """An English word without its commonest endings; rough, but the same for both texts."""
    if len(word) > 4:
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                return word[: -len(suffix)]
    return word
