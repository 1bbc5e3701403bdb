"""Text facts: what a question speaks of, read out for comparison.

For Chinese and English. Words that say the same become one (`gist`), words that exclude each other
belong to classes (`members`), and what is denied is told apart from what is asked (`denied`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokenschain.semantic.lexicon import Lexicon, classes
from tokenschain.semantic.quantities import Quantity, QuantityReader

SECTIONS = ("opposites", "scopes", "aspects", "roles", "kinds", "names", "times", "moments")
"""Lists of classes in the lexicon; what a class is of decides what a difference in it means."""
PHRASE_WORDS_MAX = 5
DENIED_WORDS = 3
"""How many words after a negation it may be about."""
_RUN = re.compile(r"[\u4e00-\u9fff]+|[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?|[,.;!?:，。；！？：、＿\n]")
_WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*|\d+(?:\.\d+)?|[\u4e00-\u9fff]")
_CAPITALS = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][A-Za-z0-9]*\b|\b[A-Z]{2,}\b")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_ASKED_EITHER = re.compile(r"([\u4e00-\u9fff])[不没]\1")
"""A-not-A asks, it does not deny."""
_ASKED_LAST = re.compile(
    r"(?<=[\u4e00-\u9fff])(?<![还都也从并就])(?:(?<=[了过])没有|没|不|否|木有)(?=\s*(?:[,?!。，？！~]|$))"
)
_PARTS = re.compile(
    r"\b(turn|switch|shut|sign|log|check)(?:ed|ing|s)?((?: [a-z']+){1,4}?) (on|off|in|out)\b"
    r"(?! to\b)"
)
_SOLD_WHERE = re.compile(r"(?<=[有里哪儿没方])卖(?!家)")
_AMERICA = re.compile(r"\bU\.?S\.?A?\b")
_SHORT = {"can't": "can", "won't": "will", "shan't": "shall"}
_DENIED = {"不能": "可以", "不可以": "可以", "不能够": "可以", "不允许": "可以", "不让": "可以"}
_STOPPED = frozenset(("stop", "stopped", "stopping", "avoid", "avoiding", "quit"))
_COMPLEMENTS = frozenset("了到开上过出来起去动掉成完住见着通进下得全够")
ASKING_ZH = frozenset(
    (
        "怎么",
        "什么",
        "哪里",
        "哪个",
        "是否",
        "可以",
        "多久",
        "什么时候",
        "为什么",
        "想要",
        "好吗",
        "方法",
    )
)
"""Words of a gist that ask: another one of them alone is no other thing."""
_BREAKS = frozenset(",.;!?:，。；！？：、\n")
_FROM_TO = (
    re.compile(r"\bfrom (?:an? |the |my )?([\w-]+(?: [\w-]+)?) (?:in)?to "
               r"(?:an? |the |my )?([\w-]+)"),
    re.compile(r"\b(?:convert|change|transfer|exchange|translate|turn) (?:an? |the |my )?"
               r"([\w-]+) (?:in)?to (?:an? |the |my )?([\w-]+)"),
    re.compile(r"([\u4e00-\u9fffa-z]{1,6}?)(?:到|转换成|转换为|转成|转|兑换成|兑|换成|翻译成|译成|飞|去|至)"
               r"([\u4e00-\u9fffa-z]{1,6})"),
)  # fmt: skip
_PERSONS = {
    "i": "i", "me": "i", "my": "i", "mine": "i", "our": "i", "we": "i", "us": "i", "我": "i",
    "我们": "i", "you": "you", "your": "you", "你": "you", "您": "you", "你们": "you", "he": "he",
    "him": "he", "his": "he", "she": "he", "her": "he", "they": "he", "them": "he", "their": "he",
    "他": "he", "她": "he", "他们": "he", "她们": "he", "他的": "he",
}  # fmt: skip
_LINKS = frozenset(("和", "与", "跟", "或", "或者", "还是", "and", "or", "被", "by"))
_SUFFIXES = ("ing", "ied", "ed", "ly", "er")
_VOWEL = re.compile(r"[aeiouy]")


class TextFacts(NamedTuple):
    """What was read out of one text."""

    text: str
    """Plain, with its numerals in digits."""
    gist: tuple[str, ...]
    """Its words without fillers, each as one of all that say the same."""
    spoken: tuple[str, ...]
    """The same with persons, and with what joins words."""
    words: tuple[str, ...]
    content: frozenset[str]
    members: frozenset[tuple[int, int, str]]
    """Class, which member of it, and the word of `gist` that named it."""
    denied: frozenset[str]
    """Words of `gist` that a negation is about."""
    numbers: frozenset[Quantity]
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


class Meaning(NamedTuple):
    """What the lexicon says of a word."""

    canon: str
    members: tuple[tuple[int, int], ...] = ()
    filler: bool = False
    negation: bool = False


class _Token(NamedTuple):
    word: str
    meaning: Meaning | None


class FactReader:
    """Reads texts; holds the lexicon's lists as dictionaries.

    It keeps none of what it read: to read again takes about 0.2 ms for a question of usual
    length, and texts of callers are held by the vector store alone, within its bytes.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._quantities = QuantityReader(lexicon)
        self._simplified = str.maketrans(lexicon.traditional, lexicon.simplified)
        self._stop_en = lexicon.stop_en
        self.section_of: list[str] = []
        """Of each class, the list it is in."""
        members: dict[str, list[tuple[int, int]]] = {}
        canon: dict[str, str] = {}
        # Earlier groups win where a word is in several.
        for group in lexicon.synonyms:
            for word in group:
                canon.setdefault(word, group[0])
        for section in SECTIONS:
            for class_ in classes(getattr(lexicon, section)):
                for number, member in enumerate(class_):
                    for word in member:
                        members.setdefault(word, []).append((len(self.section_of), number))
                        canon.setdefault(word, canon.get(member[0], member[0]))
                self.section_of.append(section)
        # What says the same is of the same classes, and what is denied as well.
        for word, first in {**canon, **_DENIED}.items():
            if word not in members and first in members:
                members[word] = members[first]
        self._zh: dict[str, Meaning] = {}
        self._en: dict[tuple[str, ...], Meaning] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        for word in (*members, *canon, *lexicon.fillers_zh, *_LINKS, *lexicon.negations_zh,
                     *lexicon.neutral_zh, *lexicon.negations_en, *lexicon.heads):  # fmt: skip
            self._enter(word, lexicon, canon, tuple(members.get(word, ())))
        self._longest_zh = max(map(len, self._zh))

    def _enter(
        self,
        word: str,
        lexicon: Lexicon,
        canon: dict[str, str],
        members: tuple[tuple[int, int], ...],
    ) -> None:
        negation = word in lexicon.negations_zh or word in lexicon.negations_en
        if not _HAN.search(word):
            stems = tuple(map(stem, word.replace("-", " ").split()))
            known = self._en.get(stems)
            self._en[stems] = Meaning(
                known.canon if known else "-".join(map(stem, canon.get(word, word).split())),
                (known.members if known else ()) + members,
                negation=negation,
            )
            lengths = {*self._lengths.get(stems[0], ()), len(stems)}
            self._lengths[stems[0]] = tuple(sorted(lengths, reverse=True))
            return
        word = word.replace(" ", "")
        self._zh[word] = Meaning(
            canon.get(word, word), members, word in lexicon.fillers_zh or word in _LINKS, negation
        )

    def plain(self, raw: str) -> str:
        """Small letters, narrow forms, simplified characters, single blanks, numerals as digits."""
        text = unicodedata.normalize("NFKC", raw).lower().replace("’", "'").replace("‘", "'")
        text = " ".join(text.translate(self._simplified).split())
        text = _OTHER_DIGIT.sub(lambda found: str(unicodedata.digit(found[0])), text)
        return self._quantities.digits(text)

    def knows(self, word: str) -> bool:
        """Whether a word of a gist is in the lexicon: then it is no slip of the keyboard."""
        return word in self._zh or (word,) in self._en

    def members_of(self, word: str) -> tuple[tuple[int, int], ...]:
        """The classes of a word, and which member of each it names."""
        known = self._zh.get(word) or self._en.get((stem(word),))
        return known.members if known is not None else ()

    def facts_of(self, raw: str) -> TextFacts:
        """Read a text."""
        text = self.plain(raw)
        words = tuple(_WORD.findall(text))
        han = len(_HAN.findall(text))
        quantities = self._quantities.read(text)
        tokens = list(self._tokens(quantities.text))
        gist, spoken, members = self._gist(tokens)
        if _AMERICA.search(raw):
            members |= {(*place, "america") for place in self._en["america",].members}
        denied, negations = _denied(tokens)
        sections = self._by_section(members)
        return TextFacts(
            text,
            gist,
            spoken,
            words,
            frozenset(stem(word) for word in words if word not in self._stop_en),
            members,
            denied,
            quantities.numbers,
            quantities.dates,
            quantities.codes,
            frozenset(word for place, _, word in members if self.section_of[place] == "names"),
            self._capitals(raw, words, chinese=bool(han)),
            negations,
            sections["times"],
            sections["aspects"],
            sections["roles"],
            frozenset(_routes(text)),
            _asks(text),
            han / max(1, len(words)),
            frozenset(_PERSONS[word] for word in spoken if word in _PERSONS),
        )

    def _by_section(self, members: Iterable[tuple[int, int, str]]) -> dict[str, frozenset[int]]:
        found: dict[str, set[int]] = {section: set() for section in SECTIONS}
        for place, member, _ in members:
            found[self.section_of[place]].add(100 * place + member)
        return {section: frozenset(numbers) for section, numbers in found.items()}

    def _capitals(self, raw: str, words: tuple[str, ...], *, chinese: bool) -> frozenset[str]:
        normal = unicodedata.normalize("NFKC", raw)
        capitals = {c.lower() for c in _CAPITALS.findall(normal)} - self._stop_en
        if chinese:
            # Latin words in a Chinese text are mostly names, in whatever case.
            parts = (part for word in words if word.isascii() for part in re.split(r"[-']", word))
            capitals |= {part for part in parts if len(part) > 1 and part.isalpha()}
        return frozenset(capitals - self._stop_en)

    def _tokens(self, text: str) -> Iterator[_Token]:
        """Words, the longest that the lexicon knows; unknown Chinese sign by sign."""
        text = _PARTS.sub(r"\1 \3\2", _SOLD_WHERE.sub("买", text))
        text = _ASKED_LAST.sub(" ", _ASKED_EITHER.sub(r"\1", text))
        latin: list[str] = []
        for run in _RUN.findall(text):
            if run[0].isascii() and run[0].isalpha():
                latin += _parted(run)
                continue
            if latin:
                yield from self._latin(latin)
                latin = []
            if "\u4e00" <= run[0] <= "\u9fff":
                yield from self._han(run)
            else:
                yield _Token(run, None)
        yield from self._latin(latin)

    def _han(self, run: str) -> Iterator[_Token]:
        at = 0
        while at < len(run):
            for size in range(min(self._longest_zh, len(run) - at), 0, -1):
                word = run[at : at + size]
                meaning = self._zh.get(word)
                if meaning is not None or size == 1:
                    yield _Token(word, meaning)
                    at += size
                    break

    def _latin(self, words: list[str]) -> Iterator[_Token]:
        stems = [stem(word) for word in words]
        at = 0
        while at < len(stems):
            for size in self._lengths.get(stems[at], ()):
                meaning = self._en.get(tuple(stems[at : at + size]))
                if meaning is not None and at + size <= len(stems):
                    yield _Token(" ".join(words[at : at + size]), meaning)
                    at += size
                    break
            else:
                yield _Token(words[at], None)
                at += 1

    def _gist(
        self, tokens: list[_Token]
    ) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[tuple[int, int, str]]]:
        gist, spoken = [], []
        members: set[tuple[int, int, str]] = set()
        last = ""
        for word, meaning in tokens:
            before, last = last, word
            if before == "＿" and word in ("after", "before"):
                continue  # 3 days after purchase: only where from it is counted
            if word in _PERSONS or word in _LINKS:
                spoken.append(_PERSONS.get(word, word))
            if word[0] in _BREAKS or word[0] == "＿" or word[0].isdigit():
                continue
            if meaning is None:
                if word.isascii() and word in self._stop_en:
                    continue
                canon = stem(word) if word.isascii() else word
            else:
                canon = meaning.canon
                members.update((place, member, canon) for place, member in meaning.members)
                if meaning.filler or meaning.negation or word in self._stop_en:
                    continue
            gist.append(canon)
            spoken.append(canon)
        return tuple(gist), tuple(spoken), frozenset(members)


def _parted(word: str) -> tuple[str, ...]:
    """don't is do not; the child's is of the child."""
    if word.endswith("n't"):
        return _SHORT.get(word, word[:-3]), "not"
    return (word.partition("'")[0],)


def _denied(tokens: list[_Token]) -> tuple[frozenset[str], int]:
    """What is denied, and how often something is."""
    denied: set[str] = set()
    count = left = 0
    before = ""
    for place, (word, meaning) in enumerate(tokens):
        if word[0] in _BREAKS:
            left = 0
            continue
        if meaning is not None and meaning.negation:
            count += 1
            after = tokens[place + 1].word if place + 1 < len(tokens) else ""
            if word == "不" and before and after[:1] in _COMPLEMENTS:
                denied.add(before)  # 打不开: it cannot be opened
                left = 0
                continue
            left = DENIED_WORDS
            if word in _DENIED or word in ("不会", "不要", "不用", "不需要", "不支持"):
                denied.add(_DENIED.get(word, word[1:]))
            continue
        if word in _STOPPED and place + 1 < len(tokens) and tokens[place + 1].word.endswith("ing"):
            count, left = count + 1, 1
            continue
        canon = meaning.canon if meaning is not None else stem(word) if word.isascii() else word
        before = canon if not (meaning is not None and meaning.filler) else before
        if canon in ASKING_ZH:
            left = left if left == DENIED_WORDS else 0
            continue
        if left and not (meaning is not None and meaning.filler):
            denied.add(canon)
            left -= 1
    return frozenset(denied), count


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
        ("much", r"how much|how many|多少|几(?:个|次|岁|块)"),
        ("long", r"how long|多久|多长时间|几天|几年"),
        ("when", r"\bwhen\b|what time|什么时候|何时|几点"),
        ("where", r"\bwhere\b|哪里|哪儿|在哪"),
        ("why", r"\bwhy\b|为什么|为何|为啥|怎么回事|原因"),
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
    if not word.isascii() or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
    for suffix in _SUFFIXES:
        rest = word[: -len(suffix)]
        if not word.endswith(suffix) or len(rest) < (4 if suffix == "er" else 3):
            continue
        if not _VOWEL.search(rest):
            continue
        if suffix == "ied":
            return rest + "y"
        if suffix != "ly" and rest[-1] == rest[-2] and rest[-1] not in "sz":
            rest = rest[:-1]
        word = rest
        break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
