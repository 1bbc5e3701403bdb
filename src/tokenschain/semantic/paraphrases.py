"""Paraphrases and traps by rule: the ways in which people ask the same, and change one word.

For training the verifier and for measuring: `said_otherwise` keeps what is asked, `trap_of` changes
it in one place. Chinese and English; the rules are our own.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import msgspec


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lists by what they are for; see the comments in the file."""

    before_zh: list[str]
    after_zh: list[str]
    before_en: list[str]
    after_en: list[str]
    alike_zh: list[list[str]]
    alike_en: list[list[str]]
    dropped_zh: list[str]
    simplified: str
    traditional: str
    slips_zh: list[tuple[str, str]]
    turned: list[tuple[str, str]]
    narrowed: list[list[str]]
    owners_zh: list[str]
    owners_en: list[str]
    aspects_zh: list[str]


@functools.cache
def _words() -> _Words:
    path = resources.files("tokenschain") / "data" / "paraphrases.yaml"
    return msgspec.yaml.decode(path.read_text(encoding="utf-8"), type=_Words)


_HAN = re.compile(r"[\u4e00-\u9fff]")
_Rule = Callable[[str, random.Random], str]

# --- Chinese --------------------------------------------------------------------------------

_FRONT_ZH = re.compile(
    r"^(怎么|如何|怎样)(申请|办理|修改|取消|查询|更改|购买|开通|关闭|注销|绑定|联系|投诉|提取|下载|打印|更新|添加|清洗|填写|安装|使用|打开|删除|"
    r"补办|更换|领取|处理|预约|导出|恢复|提高|设置|选|买|交|查|改|退|换|取)([\u4e00-\u9fff]{2,8})$"
)
_BACK_ZH = re.compile(
    r"^([\u4e00-\u9fff]{2,8}?)(怎么|如何|怎样)(申请|办理|修改|取消|查询|更改|购买|开通|关闭|注销|绑定|联系|投诉|提取|下载|打印|更新|添加|"
    r"清洗|填写|安装|使用|补办|更换|领取|处理|预约|导出|恢复|提高|设置|选|买|交|查|改|退|换|取)$"
)
_DIGITS_ZH = dict(zip("123456789", "一两三四五六七八九", strict=True))
_COUNTED = re.compile(r"(?<![\d.])([1-9])(?=个|天|次|年|张|本|件|周|位|份)")


def _polite_zh(text: str, rng: random.Random) -> str:
    bare = text.rstrip("？?。，")
    way = rng.random()
    before = rng.choice(_words().before_zh) if way < 0.65 else ""
    after = rng.choice(_words().after_zh) if way > 0.35 else ""
    return before + bare + after


def _synonym_zh(text: str, rng: random.Random) -> str:
    groups = [g for g in _words().alike_zh if any(word in text for word in g)]
    rng.shuffle(groups)
    for group in groups[: rng.choice((1, 1, 2))]:
        word = max((w for w in group if w in text), key=len, default="")
        # A part of a longer word is left alone: 需要 has a 要 and is a group itself.
        if word and not any(
            word in w and w in text and w != word for g in _words().alike_zh for w in g
        ):
            text = text.replace(word, rng.choice([w for w in group if w != word]), 1)
    return text


def _order_zh(text: str, rng: random.Random) -> str:
    """What is asked about may come first or last."""
    bare = text.rstrip("？?。")
    found = _FRONT_ZH.match(bare)
    if found:
        how, verb, thing = found.groups()
        return rng.choice((f"{thing}{how}{verb}", f"{thing}要{how}{verb}", f"{verb}{thing}{how}弄",
                           f"想{verb}{thing}，{how}操作"))  # fmt: skip
    found = _BACK_ZH.match(bare)
    if found:
        thing, how, verb = found.groups()
        return rng.choice((f"{how}{verb}{thing}", f"{verb}{thing}的方法", f"我要{verb}{thing}"))
    clauses = re.split(r"[，,]", bare)
    if len(clauses) == 2 and min(map(len, clauses)) >= 4:
        return f"{clauses[1]}，{clauses[0]}"
    return text


def _ellipsis_zh(text: str, rng: random.Random) -> str:
    words = [word for word in _words().dropped_zh if word in text]
    if words and len(text) > 6:
        return text.replace(rng.choice(words), "", 1)
    return text


def _asked_zh(text: str, rng: random.Random) -> str:
    """Yes-or-no questions have many forms."""
    bare = text.rstrip("？?。")
    if bare.endswith("吗"):
        stem = bare[:-1]
        for word in ("可以", "能"):
            if word in stem:
                return rng.choice((
                    stem.replace(word, "能不能", 1), stem.replace(word, "可不可以", 1),
                    stem.replace(word, "能否", 1), f"{stem}不", f"{stem.replace(word, '', 1)}行吗",
                    f"{stem.replace(word, '', 1)}可以吗",
                ))  # fmt: skip
        return rng.choice((f"{stem}不", f"{stem}么", f"是不是{stem}", f"{stem}嘛"))
    for word in ("能不能", "可不可以", "能否"):
        if word in bare:
            return bare.replace(word, "可以", 1) + "吗"
    return text


def _numeral_zh(text: str, _: random.Random) -> str:
    return _COUNTED.sub(lambda found: _DIGITS_ZH[found.group(1)], text)


def _traditional(text: str, _: random.Random) -> str:
    return text.translate(str.maketrans(_words().simplified, _words().traditional))


def _slip_zh(text: str, rng: random.Random) -> str:
    slips = [pair for pair in _words().slips_zh if pair[0] in text]
    if slips and rng.random() < 0.7:
        return text.replace(*rng.choice(slips), 1)
    places = [at for at in range(2, len(text) - 1) if not set(text[at : at + 2]) & _MEANT]
    if not places:
        return text
    at = rng.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


_MEANT = frozenset("0123456789零一二三四五六七八九十百千万不没无未")
"""A slip in these would be another question."""
_RULES_ZH: tuple[tuple[_Rule, float], ...] = (
    (_synonym_zh, 0.6), (_order_zh, 0.5), (_asked_zh, 0.4), (_ellipsis_zh, 0.3), (_numeral_zh, 0.3),
    (_polite_zh, 0.6), (_slip_zh, 0.08), (_traditional, 0.04),
)  # fmt: skip

# --- English --------------------------------------------------------------------------------

_DROPPED_EN = re.compile(
    r"\b(?:the|a|an|my|please|just|do|really|so|that|any|some)\b ", re.IGNORECASE
)
_NUMBERS_EN = {"2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven",
               "10": "ten"}  # fmt: skip


def _polite_en(text: str, rng: random.Random) -> str:
    bare = text.rstrip("?.! ")
    way = rng.random()
    before = rng.choice(_words().before_en) if way < 0.65 else ""
    return before + bare + (rng.choice(_words().after_en) if way > 0.35 else "?")


def _synonym_en(text: str, rng: random.Random) -> str:
    small = text.lower()
    groups = [
        (w, g) for g in _words().alike_en for w in g if re.search(rf"\b{re.escape(w)}\b", small)
    ]
    rng.shuffle(groups)
    for word, group in groups[: rng.choice((1, 1, 2))]:
        other = rng.choice([w for w in group if w != word])
        text = re.sub(rf"\b{re.escape(word)}\b", other, text, count=1, flags=re.IGNORECASE)
    return text


def _ellipsis_en(text: str, rng: random.Random) -> str:
    parts = list(_DROPPED_EN.finditer(text))
    if len(parts) == 0 or len(text.split()) < 5:
        return text
    for part in sorted(rng.sample(parts, min(len(parts), rng.choice((1, 2)))),
                       key=lambda found: -found.start()):  # fmt: skip
        text = text[: part.start()] + text[part.end() :]
    return text


def _order_en(text: str, rng: random.Random) -> str:
    """A condition may come first or last; what is wanted may stand alone."""
    found = re.match(
        r"(?i)^(.{8,}?),? (if|when|after|before|because|while) (.{6,}?)([?.!]*)$", text
    )
    if found:
        main, word, rest, end = found.groups()
        return f"{word} {rest}, {main}{end}"
    found = re.match(
        r"(?i)^how (?:do|can|to|would) ?i? (\w+) (?:my |the |a |an )?([\w ]{3,30})\?*$", text
    )
    if found:
        verb, thing = found.groups()
        ways = ("{verb} {thing}, how?", "{thing}: how do i {verb} it?",
                "what do i have to do to {verb} {thing}?", "i want to {verb} {thing}")  # fmt: skip
        return rng.choice(ways).format(verb=verb, thing=thing)
    return text


def _numeral_en(text: str, _: random.Random) -> str:
    return re.sub(r"(?<![\d.,$£€#-])\b([2-7]|10)\b(?![\d.,:%-])",
                  lambda found: _NUMBERS_EN[found.group(1)], text)  # fmt: skip


def _slip_en(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    at = rng.choice(long)
    word, place = words[at], rng.randrange(1, len(words[at]) - 2)
    words[at] = rng.choice((
        word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        word[:place] + word[place + 1 :],
        word[:place] + word[place] + word[place:],
    ))  # fmt: skip
    return " ".join(words)


def _case_en(text: str, rng: random.Random) -> str:
    return text.lower().rstrip("?.") if rng.random() < 0.7 else text.capitalize()


_RULES_EN: tuple[tuple[_Rule, float], ...] = (
    (_synonym_en, 0.7), (_order_en, 0.4), (_ellipsis_en, 0.35), (_numeral_en, 0.3),
    (_polite_en, 0.5), (_slip_en, 0.15), (_case_en, 0.4),
)  # fmt: skip


def said_otherwise(text: str, rng: random.Random) -> str:
    """The same question as another person might type it; the text itself where no rule applies."""
    for rule, share in _RULES_ZH if _HAN.search(text) else _RULES_EN:
        if rng.random() < share:
            text = rule(text, rng)
    return text


# --- traps ----------------------------------------------------------------------------------


class Trap(NamedTuple):
    """A question that looks like another and asks something else."""

    text: str
    kind: str


_ASPECT_ZH = re.compile(
    r"怎么办|多少钱|多久|多长时间|在哪里|在哪|为什么|什么时候|怎么申请|如何申请|要什么材料|需要什么材料|怎么取消|怎么|如何"
)
_NUMBER = re.compile(r"\d+")


def trap_of(text: str, rng: random.Random) -> Trap | None:
    """The question with one change that makes it another; None where no rule applies."""
    rules = [_other_number, _turned, _narrowed, _owned, _other_aspect]
    rng.shuffle(rules)
    for rule in rules:
        found = rule(text, rng)
        if found is not None and found.text != text:
            return found
    return None


def _other_number(text: str, rng: random.Random) -> Trap | None:
    found = _NUMBER.search(text)
    if found is None or len(found.group()) > 9:
        return None
    value = int(found.group())
    other = rng.choice((value + 1, value * 10, value + 5, value * 2 + 1))
    return Trap(text[: found.start()] + str(other) + text[found.end() :], "number")


def _turned(text: str, rng: random.Random) -> Trap | None:
    pairs = [*_words().turned, *((other, one) for one, other in _words().turned)]
    rng.shuffle(pairs)
    for one, other in pairs:
        found = re.search(rf"\b{re.escape(one)}\b" if one.isascii() else one, text)
        # 可以不可以 denies nothing.
        if found and other not in text and not _HARMLESS.search(text):
            return Trap(text[: found.start()] + other + text[found.end() :], "opposite")
    return None


_HARMLESS = re.compile(r"能不能|可不可以|有没有|是不是|能否|要不要")


def _narrowed(text: str, rng: random.Random) -> Trap | None:
    for group in rng.sample(_words().narrowed, len(_words().narrowed)):
        whole, *kinds = group
        if any(kind in text for kind in kinds):
            continue
        found = re.search(rf"\b{whole}\b" if whole.isascii() else whole, text)
        if found:
            return Trap(text[: found.start()] + rng.choice(kinds) + text[found.end() :], "scope")
    return None


def _owned(text: str, rng: random.Random) -> Trap | None:
    if _HAN.search(text):
        found = re.search(r"我的|自己的|我(?=[\u4e00-\u9fff]{2})", text)
        owner = rng.choice(_words().owners_zh)
    else:
        found = re.search(r"\bmy ", text)
        owner = rng.choice(_words().owners_en)
    if found is None:
        return None
    return Trap(text[: found.start()] + owner + text[found.end() :], "scope")


def _other_aspect(text: str, rng: random.Random) -> Trap | None:
    found = _ASPECT_ZH.search(text)
    if found is None or not text.rstrip("？?").endswith(found.group()):
        return None
    other = rng.choice([one for one in _words().aspects_zh if one[:2] != found.group()[:2]])
    return Trap(text[: found.start()] + other, "aspect")
