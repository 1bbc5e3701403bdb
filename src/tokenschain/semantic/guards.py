"""Guards: differences between two questions that rule a semantic cache hit out.

They are about numbers, money, dates, codes, names, negation, opposites, direction, aspect, role and
language, see `text_facts`. Some settle it (`vetoes`), the rest are evidence for `verifier`.
"""

from __future__ import annotations

import difflib
import re

from tokenschain.semantic.lexicon import Lexicon
from tokenschain.semantic.text_facts import FactReader, TextFacts, stem

ALIKE_MIN = 0.6
"""Letters in common from which a single negation or opposite is the difference itself."""
SAME_FORM_MIN = 0.7
"""Two sentences of the same form, one with another word in it, are two questions; where the
form differs, other words may say the same."""
_MORE_THAN = re.compile(r"\b(?:better|worse|more|less|rather|[a-z]{2,}er)\b.*\bthan\b|比")
_TOWARDS = re.compile(r"[到去至飞转兑往换寄]|翻译|\bto\b|\binto\b")
FEATURES = (
    "e5", "use", "letters", "words", "content", "order", "extra_a", "extra_b", "replaced",
    "length", "numbers", "units", "dates", "codes", "names", "capitals", "negation", "opposite",
    "times", "aspects", "roles", "direction", "asks", "language", "mine", "comparison", "same_bag",
    "short", "chinese", "numbers_both", "names_both", "gist", "swapped", "added",
)  # fmt: skip


class Guards:
    """Reads and compares questions by the lists of a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.facts_of = FactReader(lexicon).facts_of
        self._opposites = [tuple(sorted(pair)) for pair in lexicon.opposites]
        self._prefixes_en = lexicon.prefixes_en

    @staticmethod
    def shipped() -> Guards:
        """With the lexicon that comes with the platform."""
        return Guards(Lexicon.shipped())

    def compare(self, a: TextFacts, b: TextFacts) -> dict[str, float]:
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
            min(i2 - i1, j2 - j1)
            for kind, i1, i2, j1, j2 in matcher.get_opcodes()
            if kind == "replace"
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
            "opposite": float(self._opposite(a, b)),
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

    def _opposite(self, a: TextFacts, b: TextFacts) -> bool:
        """One has a word where the other has its opposite."""
        if a.text == b.text:
            return False
        for one, other in self._opposites:
            a1, a2 = _has(a, one), _has(a, other)
            b1, b2 = _has(b, one), _has(b, other)
            if (a1 and not a2 and b2 and not b1) or (a2 and not a1 and b1 and not b2):
                return True
        only_a, only_b = set(a.words) - set(b.words), set(b.words) - set(a.words)
        for mine, theirs in ((only_a, only_b), (only_b, only_a)):
            for word in mine:
                if len(word) > 3 and any(prefix + word in theirs for prefix in self._prefixes_en):
                    return True
        return False


def vetoes(a: TextFacts, b: TextFacts, found: dict[str, float]) -> tuple[str, ...]:
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


def _other_names(a: TextFacts, b: TextFacts) -> bool:
    """Both name something, and one names what the other does not speak of at all."""
    if not a.capitals or not b.capitals or a.capitals == b.capitals:
        return False
    only_a = {n for n in a.capitals if n not in b.text and stem(n) not in b.gist}
    only_b = {n for n in b.capitals if n not in a.text and stem(n) not in a.gist}
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


def _has(facts: TextFacts, word: str) -> bool:
    if not word.isascii():
        return word in facts.bare
    return f" {word} " in f" {facts.text.strip('?.!, ')} " if " " in word or "-" in word else (
        word in facts.words
    )  # fmt: skip


def _turned(a: TextFacts, b: TextFacts) -> bool:
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


def _swapped_comparison(a: TextFacts, b: TextFacts) -> bool:
    """Is A better than B, and is B better than A."""
    if a.words == b.words or sorted(a.words) != sorted(b.words):
        return False
    return bool(_MORE_THAN.search(a.text))
