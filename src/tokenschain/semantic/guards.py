"""What two questions may not differ in, however alike they look.

Numbers, money, dates, codes, names, negation, opposites, direction, aspect, role and language,
read out of Chinese and English with 三天 = 3天 = 3 days. Some differences settle it (`vetoes`),
the rest are evidence for `verifier`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from tokenschain.semantic.lexicon import (
    ALIASES,
    ASPECTS,
    FILLERS_ZH,
    NAMES_ZH,
    NEGATIONS_EN,
    NEGATIONS_ZH,
    NO_NEGATION_ZH,
    NUMBERS_EN,
    OPPOSITES,
    PLACES_EN,
    PREFIXES_EN,
    ROLES,
    SAME_UNITS,
    STOP_EN,
    SYNONYMS,
    TIMES,
    UNITS,
)

ALIKE_MIN = 0.6
"""Letters in common from which a single negation or opposite is the difference itself."""
SAME_FORM_MIN = 0.7
"""Two sentences of the same form, one with another word in it, are two questions; where the
form differs, other words may say the same."""
TEXTS_KEPT = 50_000
_DIGITS_ZH = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0, "俩": 2}
_SCALES_ZH = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000}
_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
_NUMBER = re.compile(
    rf"([$€£¥￥])?\s?(\d[\d,]*(?:\.\d+)?)\s*(k\b|w\b|万|千|百|亿|million|thousand)?\s*"
    rf"(?:({_UNIT})(?![a-z])|(?:st|nd|rd|th)\b)?",
)
_NUMBER_ZH = re.compile(
    r"(半|[零〇一二三四五六七八九十百千万亿两俩]+(?:点[零一二三四五六七八九]+)?)"
    rf"({_UNIT})(半)?"
)
_LONG_ZH = re.compile(r"[零〇一二三四五六七八九十百千万亿两]{2,}")
_NO_NUMBER_ZH = re.compile(
    r"一下|一些|一般|一样|一直|一起|唯一|万一|统一|一定|一旦|一切|一共|万能|十分|千万(?=别|不)|"
    r"一个(?!月|小时)|一点|一边|一次性|哪一|第一时间|百度|百姓|三方|四处|五险一金|三险"
)
_DATE = re.compile(r"(\d{4})[-/.年](\d{1,2})(?:[-/.月](\d{1,2}))?|(\d{1,2})月(\d{1,2})[日号]?")
_CODE = re.compile(r"(?<![a-z0-9])(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]+(?:[-_.][a-z0-9]+)*(?![a-z0-9])")
_MEASURE = re.compile(rf"\d+(?:{_UNIT}|st|nd|rd|th|k|w|g|p)")
_WORD = re.compile(r"[a-z]+(?:[-'’][a-z]+)*|\d+(?:\.\d+)?|[\u4e00-\u9fff]")
_CAPITALS = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][A-Za-z]*[A-Za-z0-9]*\b|\b[A-Z]{2,}\b")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_FROM_TO = (
    re.compile(r"\bfrom (?:an? |the |my )?([\w-]+(?: [\w-]+)?) (?:in)?to "
               r"(?:an? |the |my )?([\w-]+)"),
    re.compile(r"\b(?:convert|change|transfer|exchange|translate|turn) (?:an? |the |my )?"
               r"([\w-]+) (?:in)?to (?:an? |the |my )?([\w-]+)"),
    re.compile(r"([\u4e00-\u9fffa-z]{1,6}?)(?:到|转换成|转换为|转成|转|兑换成|兑|换成|翻译成|译成|飞|去|至)"
               r"([\u4e00-\u9fffa-z]{1,6})"),
)  # fmt: skip
_MORE_THAN = re.compile(r"\b(?:better|worse|more|less|rather|[a-z]{2,}er)\b.*\bthan\b|比")
_TOWARDS = re.compile(r"[到去至飞转兑往换寄]|翻译|\bto\b|\binto\b")
_SUFFIXES = ("ing", "ies", "ed", "es", "s", "ly")


class Facts(NamedTuple):
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


def plain(text: str) -> str:
    """Small letters, narrow forms, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().replace("’", "'").split())


@lru_cache(TEXTS_KEPT)
def facts_of(raw: str) -> Facts:
    """Read a text; kept, since each candidate is compared many times."""
    text = plain(raw)
    words = tuple(_WORD.findall(text))
    han = len(_HAN.findall(text))
    numbers, bare = _numbers(text), _bare(text)
    codes = frozenset(code for code in _CODE.findall(text) if not _MEASURE.fullmatch(code))
    names = {ALIASES.get(name, name) for name in NAMES_ZH if name in text} if han else set()
    names |= {ALIASES.get(word, word) for word in words if word in PLACES_EN}
    if re.search(r"\bU\.?S\.?A?\b", raw):
        names.add("america")
    normal = unicodedata.normalize("NFKC", raw)
    capitals = {c.lower() for c in _CAPITALS.findall(normal)} - STOP_EN
    if han:
        capitals |= {word for word in words if word.isascii() and word.isalpha() and len(word) > 1}
    return Facts(
        text,
        bare,
        _gist(text),
        words,
        frozenset(_stem(word) for word in words if word not in STOP_EN),
        numbers,
        frozenset(_dates(text)),
        codes,
        frozenset(names),
        frozenset(capitals),
        _negations(bare, words),
        _which(TIMES, text, words),
        _which(ASPECTS, text, words),
        _which(ROLES, text, words),
        frozenset(_routes(text)),
        _asks(text),
        han / max(1, len(words)),
        frozenset(w for w in ("i", "my", "you", "your", "he", "she", "we", "they", "我", "你", "他",
                              "她", "我们", "他们") if w in words or (len(w) > 1 and w in text)),
    )  # fmt: skip


_CANON_EN = {word: group[0] for group in reversed(SYNONYMS) if group[0].isascii() for word in group}
_PHRASES_EN = sorted((w for w in _CANON_EN if " " in w), key=len, reverse=True)
_CANON_ZH = {word: group[0] for group in reversed(SYNONYMS) if not group[0].isascii()
             for word in group}  # fmt: skip
_ZH = re.compile("|".join(sorted(map(re.escape, (*_CANON_ZH, *FILLERS_ZH)), key=len, reverse=True)))
_KEPT = re.compile(r"⟦[^⟧]+⟧|[a-z]+(?:[-'][a-z]+)*|[\u4e00-\u9fff]")


def _gist(text: str) -> tuple[str, ...]:
    for phrase in _PHRASES_EN:
        if phrase in text:
            text = re.sub(rf"\b{phrase}\b", _CANON_EN[phrase].replace(" ", "-"), text)
    # Numbers are compared as numbers.
    text = _NUMBER_ZH.sub(" ", _NUMBER.sub(" ", _NO_NUMBER_ZH.sub(" ", text)))
    text = _ZH.sub(lambda found: f"⟦{_CANON_ZH[found[0]]}⟧" if found[0] in _CANON_ZH else " ", text)
    gist = []
    for found in _KEPT.findall(text):
        word = found.removesuffix("'s")
        if word in STOP_EN or word in NUMBERS_EN:
            continue
        canon = _CANON_EN.get(word) or _CANON_EN.get(_stem(word)) or _stem(word)
        gist.append(_stem(canon))
    return tuple(gist)


def _numbers(text: str) -> frozenset[tuple[float, str]]:
    """Numbers and of what, in one unit where several say the same."""
    found: set[tuple[float, str]] = set()
    bare = _NO_NUMBER_ZH.sub("＿", text)
    for match in _NUMBER.finditer(bare):
        before = bare[match.start(2) - 1 : match.start(2)]
        if before.isascii() and before.isalpha():
            continue
        value = float(match.group(2).replace(",", ""))
        scale = match.group(3)
        value *= {"k": 1e3, "w": 1e4, "万": 1e4, "千": 1e3, "百": 1e2, "亿": 1e8,
                  "million": 1e6, "thousand": 1e3}.get(scale or "", 1.0)  # fmt: skip
        unit = UNITS.get(match.group(4) or match.group(1) or "", "")
        found.add((value, unit))
    bare = _NUMBER.sub("＿", bare)
    for match in _NUMBER_ZH.finditer(bare):
        value = 0.5 if match.group(1) == "半" else _chinese(match.group(1))
        found.add((value + (0.5 if match.group(3) else 0.0), UNITS[match.group(2)]))
    left = _NUMBER_ZH.sub("", bare)
    for match in _LONG_ZH.finditer(left):
        found.add((_chinese(match.group()), ""))
    for word in re.findall(r"[a-z]+", bare):
        if word in NUMBERS_EN and word not in ("one", "second", "single", "once", "couple"):
            after = re.search(rf"\b{word}\b[\s-]+({_UNIT})(?![a-z])", bare)
            found.add((float(NUMBERS_EN[word]), UNITS[after.group(1)] if after else ""))
    alike = set()
    for value, unit in found:
        factor, kind = SAME_UNITS.get(unit, (1.0, unit))
        if (value, unit) != (1.0, "item"):  # which is an article
            alike.add((value * factor, kind))
    return frozenset(alike)


def _chinese(text: str) -> float:
    """A Chinese numeral as a number: 三百二十, 两万, 二零二四, 三点五."""
    whole, _, part = text.partition("点")
    if not any(c in _SCALES_ZH for c in whole):
        value = float("".join(str(_DIGITS_ZH[c]) for c in whole) or 0)
    else:
        total, section, digit = 0, 0, 0
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
        value = float(total + section + digit)
    if part:
        value += float("0." + "".join(str(_DIGITS_ZH[c]) for c in part))
    return value


def _dates(text: str) -> list[str]:
    return [
        f"{y or ''}-{int(m or m2)}-{int(d or d2 or 0)}"
        for y, m, d, m2, d2 in (match.groups() for match in _DATE.finditer(text))
    ]


def _bare(text: str) -> str:
    for harmless in NO_NEGATION_ZH:
        text = text.replace(harmless, "＿")
    return re.sub(r"([\u4e00-\u9fff])[不没]\1", "＿", text)  # A-not-A asks, it does not deny


def _negations(bare: str, words: tuple[str, ...]) -> int:
    count = sum(word in NEGATIONS_EN for word in words)
    return count + sum(bare.count(word) for word in NEGATIONS_ZH)


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
                    r"能不能|可以.*吗|能.*吗|是否|会.*吗|吗[？?]?$|可不可以"),
    )
)  # fmt: skip


def _stem(word: str) -> str:
    if len(word) > 4:
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                return word[: -len(suffix)]
    return word


FEATURES = (
    "e5", "use", "letters", "words", "content", "order", "extra_a", "extra_b", "replaced",
    "length", "numbers", "units", "dates", "codes", "names", "capitals", "negation", "opposite",
    "times", "aspects", "roles", "direction", "asks", "language", "mine", "comparison", "same_bag",
    "short", "chinese", "numbers_both", "names_both", "gist", "swapped", "added",
)  # fmt: skip


def compare(a: Facts, b: Facts) -> dict[str, float]:
    """The differences of two texts; all between 0 and 1, the more the more different, but for
    `letters`, `words`, `content` and `order`, which count what is common."""
    letters = difflib.SequenceMatcher(None, a.text, b.text, autojunk=False).ratio()
    matcher = difflib.SequenceMatcher(None, a.words, b.words, autojunk=False)
    one, two = set(a.words), set(b.words)
    union = one | two
    jaccard = len(one & two) / len(union) if union else 1.0
    only_a, only_b = a.content - b.content, b.content - a.content
    shared = len(a.content & b.content)
    replaced = sum(
        min(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in matcher.get_opcodes() if kind == "replace"
    )
    size = max(1, min(len(a.words), len(b.words)))
    gist, swapped, added = _gists(a.gist, b.gist)
    numbers_a = {value for value, _ in a.numbers}
    numbers_b = {value for value, _ in b.numbers}
    return {
        "letters": letters,
        "words": jaccard,
        "content": shared / max(1, shared + len(only_a) + len(only_b)),
        "order": matcher.ratio(),
        "extra_a": len(only_a) / max(1, len(a.content)),
        "extra_b": len(only_b) / max(1, len(b.content)),
        "replaced": replaced / size,
        "length": abs(len(a.text) - len(b.text)) / max(1, len(a.text), len(b.text)),
        "numbers": float(numbers_a != numbers_b),
        "units": float(_units_differ(a.numbers, b.numbers)),
        "dates": float(a.dates != b.dates),
        "codes": float(a.codes != b.codes),
        "names": float(a.names != b.names),
        "capitals": _unlike(a.capitals, b.capitals),
        "negation": float(a.negations % 2 != b.negations % 2),
        "opposite": float(_opposite(a, b)),
        "times": float(a.times != b.times),
        "aspects": _unlike(a.aspects, b.aspects),
        "roles": _unlike(a.roles, b.roles),
        "direction": float(_turned(a, b)),
        "asks": float(bool(a.asks and b.asks and a.asks != b.asks)),
        "language": abs(a.chinese - b.chinese),
        "mine": _unlike(a.mine, b.mine),
        "comparison": float(_swapped_comparison(a, b)),
        "same_bag": float(sorted(a.words) == sorted(b.words) and a.words != b.words),
        "short": 1.0 / size,
        "chinese": max(a.chinese, b.chinese),
        "numbers_both": float(bool(numbers_a) and numbers_a == numbers_b),
        "names_both": float(bool(a.names) and a.names == b.names),
        "gist": gist,
        "swapped": swapped,
        "added": added,
    }


def vetoes(a: Facts, b: Facts, found: dict[str, float]) -> tuple[str, ...]:
    """What settles that two texts do not ask the same, whatever else speaks for it."""
    why = []
    for name in ("numbers", "units", "dates", "direction", "comparison"):
        if found[name]:
            why.append(name)
    if a.codes and b.codes and a.codes != b.codes:
        why.append("codes")
    if found["language"] > 0.5:
        why.append("language")
    if a.names != b.names and (a.names or b.names):
        why.append("names")
    if _other_names(a, b):
        why.append("capitals")
    if found["order"] >= SAME_FORM_MIN and found["swapped"]:
        why.append("swapped")
    if a.times != b.times and ((a.times and b.times) or found["letters"] > ALIKE_MIN):
        why.append("times")
    if found["opposite"] and (found["letters"] > 0.3 or found["gist"] > 0.15):
        why.append("opposite")
    if found["letters"] > 0.4 or found["gist"] > 0.4:
        if found["negation"]:
            why.append("negation")
        if a.roles and b.roles and a.roles != b.roles:
            why.append("roles")
    return tuple(why)


def _gists(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[float, float, float]:
    """What share of what is asked is common, whether something in it stands for something else,
    and what share only one has."""
    left_a, left_b = list(a), list(b)
    for word in a:
        if word in left_b:
            left_b.remove(word)
            left_a.remove(word)
    # A slip of the keyboard is no other word.
    for word in list(left_a):
        for other in left_b:
            if (
                min(len(word), len(other)) > 3
                and word.isascii()
                and (difflib.SequenceMatcher(None, word, other).ratio() > 0.8)
            ):
                left_a.remove(word)
                left_b.remove(other)
                break
    size = max(1, len(a), len(b))
    common = (len(a) - len(left_a)) / size
    return common, float(bool(left_a and left_b)), abs(len(left_a) - len(left_b)) / size


def _other_names(a: Facts, b: Facts) -> bool:
    """Both name something, and one names what the other does not speak of at all."""
    if not a.capitals or not b.capitals or a.capitals == b.capitals:
        return False
    only_a = {n for n in a.capitals if n not in b.text and _stem(n) not in b.gist}
    only_b = {n for n in b.capitals if n not in a.text and _stem(n) not in a.gist}
    return bool(only_a and only_b)


def _units_differ(a: frozenset[tuple[float, str]], b: frozenset[tuple[float, str]]) -> bool:
    """The same number of other things: 3 days and 3 weeks."""
    for value, unit in a:
        theirs = {u for v, u in b if v == value}
        if unit and theirs and unit not in theirs and "" not in theirs:
            return True
    return False


def _unlike(a: frozenset[object] | frozenset[str] | frozenset[int],
            b: frozenset[object] | frozenset[str] | frozenset[int]) -> float:  # fmt: skip
    both = len(a | b)
    return len(a ^ b) / both if both else 0.0


_PAIRS = [tuple(sorted(pair)) for pair in OPPOSITES]


def _opposite(a: Facts, b: Facts) -> bool:
    """One has a word where the other has its opposite."""
    if a.text == b.text:
        return False
    for one, other in _PAIRS:
        a1, a2 = _has(a, one), _has(a, other)
        b1, b2 = _has(b, one), _has(b, other)
        if (a1 and not a2 and b2 and not b1) or (a2 and not a1 and b1 and not b2):
            return True
    only_a, only_b = set(a.words) - set(b.words), set(b.words) - set(a.words)
    for mine, theirs in ((only_a, only_b), (only_b, only_a)):
        for word in mine:
            if len(word) > 3 and any(prefix + word in theirs for prefix in PREFIXES_EN):
                return True
    return False


def _has(facts: Facts, word: str) -> bool:
    if not word.isascii():
        return word in facts.bare
    return f" {word} " in f" {facts.text.strip('?.!, ')} " if " " in word or "-" in word else (
        word in facts.words
    )  # fmt: skip


def _turned(a: Facts, b: Facts) -> bool:
    """From here to there, and from there to here."""
    for one, other in a.routes:
        for back, forth in b.routes:
            if _about(one, forth) and _about(other, back) and not _about(one, back):
                return True
    places_a = [name for name in sorted(a.names, key=a.text.find) if name in a.text]
    places_b = [name for name in sorted(b.names, key=b.text.find) if name in b.text]
    return (
        len(places_a) == 2
        and places_a == places_b[::-1]
        and bool(_TOWARDS.search(a.text) and _TOWARDS.search(b.text))
    )


def _about(one: str, other: str) -> bool:
    return one in other or other in one


def _swapped_comparison(a: Facts, b: Facts) -> bool:
    """Is A better than B, and is B better than A."""
    if a.words == b.words or sorted(a.words) != sorted(b.words):
        return False
    return bool(_MORE_THAN.search(a.text))
