"""Guards: differences between two questions that rule a semantic cache hit out.

They are about numbers, money, dates, codes, names, negation, opposites, scope, aspect, roles,
things of one kind, direction and language, see `text_facts`. Some settle it (`vetoes`): what is
said on both sides and differs, or what one side adds to words that are the same otherwise. The
rest is evidence for `verifier`.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import NamedTuple

from tokenschain.semantic.lexicon import Lexicon
from tokenschain.semantic.quantities import Quantity, alike, dates_alike
from tokenschain.semantic.text_facts import ASKING_ZH, FactReader, TextFacts, stem

COMPARED_CHARS = 400
"""Of longer texts the beginning is compared letter by letter, so that the time has a limit."""
COMPARED_WORDS = 200
WORD_MAX = 32
"""Letters of a word that may be misspelt."""
PARTED_MAX = 16
"""Letters of a code that is looked for in another text whatever parts it there."""
ALIKE_LETTERS = 0.7
"""Share of letters in common from which two texts have the same words but for one or two."""
REORDERED = frozenset(("direction", "comparison", "reversed", "language"))
"""Vetoes of the same words in another order, or in another language."""
_MORE_THAN = re.compile(
    r"\b(?:better|worse|more|less|rather|[a-z]{2,}er)\b.*\bthan\b|比(?![较例赛如])"
)
_DESTINATION = re.compile(r"\b(?:in)?to (?:an? |the |my |our )?([a-z][\w-]+)")
_TOWARDS = re.compile(r"[到去至飞转兑往换寄]|翻译|\bto\b|\binto\b")
_FAILS = re.compile(
    r"\b(?:can't|cannot|can not|won't|unable to|doesn't|does not|didn't|did not|"
    r"hasn't|has not|haven't|have not|not working|not showing|fails? to)\b"
    r"|不了|不能|无法|不上|不开|没法|没办法"
)
_HELP = re.compile(
    r"\b(?:how|help|want|need|like to|trying to|have to do|show me|assist[a-z]*)\b"
    r"|怎么|如何|怎样|咋|想|帮"
)
_TROUBLES = (
    r"\b(?:fail(?:s|ed|ing|ure)?|missing|lost|declin[a-z]+|reject[a-z]+|refus[a-z]+|problems?|"
    r"troubles?|issues?|errors?|pending|stuck|unable|broken)\b"
)
_TROUBLES_ZH = "失败|报错|出错|问题|丢失|丢了|卡住|被拒|故障|坏了"
_IN_TROUBLE = re.compile(f"{_TROUBLES}|{_TROUBLES_ZH}")
"""What says that something fails without a word that denies."""
_NO_TROUBLE = re.compile(
    rf"(?:n't|\bnot|\bnever)(?: [\w']+){{0,2}}? {_TROUBLES}|[不没][会能有]?(?:{_TROUBLES_ZH})"
)
"""What says that nothing did."""
_UNWANTED = re.compile(
    r"不[\u4e00-\u9fff]{0,2}了|\b(?:don't|do not|no longer) (?:need|want)\b(?: [\w']+){0,3}"
)
_ENDED = re.compile(
    r"[退消销除]|解约|\b(?:cancel|clos|remov|delet|unsubscrib|refund|return)[a-z]*\b"
)
_IDENTITY = re.compile(
    r"\bwho(?:'s| is| are| was| were) (?:the|an?|my|our|your|his|her|their|this|that)\b|谁是|是谁"
)
"""What asks for a name, which no place and no process answers."""
_HOW = re.compile(r"\bhow\b|怎么|如何|怎样|咋")
_WHAT_NOW = re.compile(r"怎么办|咋办|怎么回事|咋回事|怎么处理|如何处理|如何解决|怎么解决")
_SYMMETRIC = frozenset(
    ("绑定", "连接", "区别", "结婚", "比较", "link", "connect", "differ", "marry", "merge")
)
_WEAK_ENDINGS = frozenset(("ate", "ite", "ide", "ase", "ose", "one", "done"))
_JOINED = frozenset(("和", "与", "跟", "或", "或者", "还是", "and", "or"))


class Guards:
    """Reads and compares questions by the lists of a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._reader = FactReader(lexicon)
        self.facts_of = self._reader.facts_of
        self._prefixes_en = lexicon.prefixes_en
        self._prefix_pairs = [(pair[0], pair[1]) for pair in lexicon.prefix_pairs]
        self._endings = lexicon.substance_endings
        self._heads = frozenset(stem(word) for word in lexicon.heads)
        self._akin = [
            frozenset(member for word in group for member in self._reader.members_of(word))
            for group in lexicon.akin_aspects
        ]

    @staticmethod
    def shipped() -> Guards:
        """With the lexicon that comes with the platform."""
        return Guards(Lexicon.shipped())

    def compare(self, a: TextFacts, b: TextFacts) -> dict[str, float]:
        """The differences of two texts; all between 0 and 1, the more the more different, but for
        `letters`, `words`, `content`, `order`, `gist` and `rest`, which count what is common."""
        letters = difflib.SequenceMatcher(
            None, a.text[:COMPARED_CHARS], b.text[:COMPARED_CHARS], autojunk=False
        ).ratio()
        words_a, words_b = a.words[:COMPARED_WORDS], b.words[:COMPARED_WORDS]
        matcher = difflib.SequenceMatcher(None, words_a, words_b, autojunk=False)
        one, two = set(a.words), set(b.words)
        union = one | two
        only_a, only_b = a.content - b.content, b.content - a.content
        shared = len(a.content & b.content)
        replaced = sum(
            min(i2 - i1, j2 - j1)
            for kind, i1, i2, j1, j2 in matcher.get_opcodes()
            if kind == "replace"
        )
        size = max(1, min(len(a.words), len(b.words)))
        numbers = _unlike_quantities(a.numbers, b.numbers)
        values = {value for value, _ in a.numbers}
        return {
            "letters": letters,
            "words": len(one & two) / len(union) if union else 1.0,
            "content": shared / max(1, shared + len(only_a) + len(only_b)),
            "order": matcher.ratio(),
            "extra_a": len(only_a) / max(1, len(a.content)),
            "extra_b": len(only_b) / max(1, len(b.content)),
            "replaced": replaced / size,
            "length": abs(len(a.text) - len(b.text)) / max(1, len(a.text), len(b.text)),
            "numbers": float(numbers.differ),
            "units": float(_units_differ(a.numbers, b.numbers)),
            "dates": float(_unlike_dates(a.dates, b.dates).differ),
            "codes": float(a.codes != b.codes),
            "names": float(a.names != b.names),
            "capitals": _unlike(a.capitals, b.capitals),
            "negation": float(a.negations % 2 != b.negations % 2),
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
            "numbers_both": float(bool(values) and not numbers.differ),
            "names_both": float(bool(a.names) and a.names == b.names),
            **self._by_meaning(a, b),
        }

    def _by_meaning(self, a: TextFacts, b: TextFacts) -> dict[str, float]:
        """What differs word by word, once words that say the same are one."""
        left_a, left_b, slips = self._left(a, b)
        contrast, one_sided, named = self._classes(a, b, slips)
        rest_a = [word for word in left_a if word not in named and word not in ASKING_ZH]
        rest_b = [word for word in left_b if word not in named and word not in ASKING_ZH]
        size = max(1, len(a.gist), len(b.gist))
        common = len(a.gist) - len(left_a)
        unnamed = common + max(len(rest_a), len(rest_b))
        found = {
            "gist": common / size,
            "swapped": float(bool(left_a and left_b)),
            "added": abs(len(left_a) - len(left_b)) / size,
            "rest": common / max(1, unnamed) if unnamed else 1.0,
            "same_frame": float(not rest_a and not rest_b),
            "opposite": float("opposites" in contrast or self._turned_prefix(a, b)),
            "denied": float(_denied_here_only(a, b) or _denied_here_only(b, a)),
            "reversed": float(_reversed(a, b)),
            "substance": float(self._other_substance(a, b, rest_a, rest_b)),
            "narrowed": float(self._other_head(a, b, left_a, left_b)),
            "numbers_contrast": float(_unlike_quantities(a.numbers, b.numbers).contrast),
            "dates_contrast": float(_unlike_dates(a.dates, b.dates).contrast),
            "other_capitals": float(_other_names(a, b, slips)),
            "swap_words": float(bool(rest_a) and bool(rest_b)),
        }
        sections = ("scopes", "aspects", "roles", "people", "kinds", "names", "times", "moments")
        for section in sections:
            found[f"other_{section}"] = float(section in contrast)
        for section in ("scopes", "roles", "names", "times", "kinds"):
            found[f"only_{section}"] = float(section in one_sided)
        return found

    def _left(self, a: TextFacts, b: TextFacts) -> tuple[list[str], list[str], set[str]]:
        """The words of each gist that the other has not, and those that are the same but for a
        slip of the keyboard."""
        slips: set[str] = set()
        common = Counter(a.gist) & Counter(b.gist)
        left_a, left_b = _without(a.gist, common), _without(b.gist, common)
        for word in left_a[:COMPARED_WORDS]:
            if not word.isascii():
                continue
            for other in left_b[:COMPARED_WORDS]:
                if self._slip(_spelled(word, a), _spelled(other, b)):
                    left_a.remove(word)
                    left_b.remove(other)
                    slips |= {word, other}
                    break
        return left_a, left_b, slips

    def _slip(self, word: str, other: str) -> bool:
        """Whether one is the other, misspelt."""
        if min(len(word), len(other)) < 4 or not other.isascii() or word[0] != other[0]:
            return False
        if max(len(word), len(other)) > WORD_MAX:
            return False
        if abs(len(word) - len(other)) > 2 or (
            self._reader.knows(stem(word)) and self._reader.knows(stem(other))
        ):
            return False
        if self._substances(word, other) or self._paired_prefix(word, other):
            return False
        return _edits(word, other) <= (1 if min(len(word), len(other)) < 7 else 2)

    def _substances(self, word: str, other: str) -> bool:
        """Ethanol and methanol, nitrate and nitrite: named alike, and two things."""
        if min(len(word), len(other)) < 5 or sorted(word) == sorted(other):
            return False
        mine = [ending for ending in self._endings if word.endswith(ending)]
        theirs = [ending for ending in self._endings if other.endswith(ending)]
        if not mine or not theirs:
            return False
        ending, its = max(mine, key=len), max(theirs, key=len)
        if word.removesuffix(ending) == other.removesuffix(its):
            return ending != its
        # Ordinary words end so, too.
        weak = {ending, its} & _WEAK_ENDINGS
        return not weak and word[:3] != other[:3] and (ending == its or len(word) > 8 < len(other))

    def _paired_prefix(self, word: str, other: str) -> bool:
        return any(
            (word.startswith(one) and other == two + word[len(one) :])
            or (word.startswith(two) and other == one + word[len(two) :])
            for one, two in self._prefix_pairs
            if len(word) > len(one) + 3
        )

    def _other_substance(
        self, a: TextFacts, b: TextFacts, rest_a: list[str], rest_b: list[str]
    ) -> bool:
        if not len(rest_a) == len(rest_b) == 1:
            return False
        word, other = _spelled(rest_a[0], a), _spelled(rest_b[0], b)
        return self._substances(word, other) or self._paired_prefix(word, other)

    def _other_head(self, a: TextFacts, b: TextFacts, left_a: list[str], left_b: list[str]) -> bool:
        """A gift, and a gift card: one word more, and another thing."""
        if left_a and left_b:
            short, long = sorted(("".join(left_a), "".join(left_b)), key=len)
            if not long.isascii():
                return long.startswith(short) and long[len(short) :] in self._heads
            return long.partition("-")[0] == short and long.rpartition("-")[2] in self._heads
        if len(left_a) + len(left_b) != 1:
            return False
        more, word = (a, left_a[0]) if left_a else (b, left_b[0])
        at = more.gist.index(word)
        if word not in self._heads or at == 0:
            return False
        before = re.escape(more.gist[at - 1])
        near = rf"\b{before}[a-z]{{0,4}}[ -]{re.escape(word)}"
        return not word.isascii() or bool(re.search(near, more.text))

    def _classes(
        self, a: TextFacts, b: TextFacts, slips: set[str]
    ) -> tuple[set[str], set[str], set[str]]:
        """Sections in which both name something that the other does not, those in which one
        does, and the words that did; `people` are two roles that do not exclude each other."""
        by_class_a, by_class_b = _by_class(a), _by_class(b)
        same = slips | (set(a.gist) & set(b.gist))
        contrast: set[str] = set()
        one_sided: set[str] = set()
        named: set[str] = set()
        with_role = [False, False]
        may_be_akin = not (_IDENTITY.search(a.text) or _IDENTITY.search(b.text))
        for place in by_class_a.keys() | by_class_b.keys():
            mine, theirs = by_class_a.get(place, {}), by_class_b.get(place, {})
            # A word may name two members (宝宝: a child, a baby); one in common is enough.
            shared = mine.keys() & theirs.keys()
            known = same | {mine[n] for n in shared} | {theirs[n] for n in shared}
            only_a = {n for n in mine.keys() - shared if mine[n] not in known}
            only_b = {n for n in theirs.keys() - shared if theirs[n] not in known}
            section = self._reader.section_of[place]
            if only_a and only_b:
                if section == "opposites" and (len(mine) > 1 or len(theirs) > 1):
                    continue
                unlike = {(place, number) for number in only_a | only_b}
                if section == "aspects" and may_be_akin and any(unlike <= e for e in self._akin):
                    continue
                contrast.add(section)
            elif only_a or only_b:
                one_sided.add(section)
                if section == "roles":
                    with_role[0 if only_a else 1] = True
            else:
                continue
            if (only_a and only_b) or section in ("scopes", "roles", "times", "names", "moments"):
                named |= {mine[n] for n in only_a} | {theirs[n] for n in only_b}
        if all(with_role):
            contrast.add("people")
        return contrast, one_sided, named

    def _turned_prefix(self, a: TextFacts, b: TextFacts) -> bool:
        """Suitable and unsuitable."""
        only_a, only_b = a.content - b.content, b.content - a.content
        return any(
            prefix + word in theirs
            for mine, theirs in ((only_a, only_b), (only_b, only_a))
            for word in mine
            if len(word) > 3 and word.isascii()
            for prefix in self._prefixes_en
        )


def vetoes(a: TextFacts, b: TextFacts, found: dict[str, float]) -> tuple[str, ...]:
    """What settles that two texts do not ask the same, whatever else speaks for it."""
    why = []
    same_frame = bool(found["same_frame"])
    alike_words = max(found["letters"], found["gist"])
    for name in ("units", "direction", "comparison", "reversed", "narrowed", "substance"):
        if found[name]:
            why.append(name)
    for name in ("numbers", "dates"):
        if found[f"{name}_contrast"] or (found[name] and same_frame):
            why.append(name)
    if _other_codes(a, b):
        why.append("codes")
    if found["language"] > 0.5:
        why.append("language")
    if found["other_names"]:
        why.append("names")
    if found["other_capitals"]:
        why.append("capitals")
    other_times = found["other_times"] or found["other_moments"]
    if other_times or (found["only_times"] and same_frame):
        why.append("times")
    for name in ("scopes", "roles"):
        # Other owners, tenants or editions are another question in whatever words.
        if found[f"other_{name}"] or (found[f"only_{name}"] and same_frame):
            why.append(name)
    if found["other_people"] and found["rest"] >= 0.5:
        why.append("roles")
    if found["other_kinds"] and found["rest"] >= 0.5:
        why.append("kinds")
    if found["other_aspects"] and found["rest"] >= 0.5:
        why.append("aspects")
    if found["opposite"] and not found["negation"]:
        why.append("opposite")
    # Why something does not happen, and how it can be done, are often one question.
    same_kind = "why" not in (a.asks, b.asks) or a.asks == b.asks or alike_words > 0.8
    same_kind = same_kind and not (_is_trouble(a, b) or _is_trouble(b, a))
    same_kind = same_kind and not (_is_unwanted(a, b) or _is_unwanted(b, a))
    denied = found["denied"] and found["rest"] >= 0.6 and same_kind
    if found["negation"] and not found["opposite"] and denied:
        why.append("negation")
    return tuple(why)


def _is_trouble(a: TextFacts, b: TextFacts) -> bool:
    """One says that something fails, and the other as well in other words, or it asks for help with
    it: it does not activate, and how to activate it."""
    if not _FAILS.search(a.text) or _FAILS.search(b.text) or _NO_TROUBLE.search(a.text):
        return False
    if _IN_TROUBLE.search(b.text):
        return True
    return bool(_HELP.search(b.text)) and not _HOW.search(_WHAT_NOW.sub("", a.text))


def _is_unwanted(a: TextFacts, b: TextFacts) -> bool:
    """One says that something is no longer wanted, and the other to end it; that its end is not
    wanted is the opposite."""
    unwanted = _UNWANTED.search(a.text)
    if unwanted is None or _ENDED.search(unwanted.group()):
        return False
    return not _UNWANTED.search(b.text) and _ENDED.search(b.text) is not None


def settled(why: tuple[str, ...], found: dict[str, float]) -> bool:
    """Whether two texts differ in nothing but what rules them out, or in the order of things: then
    they are as far apart as two that have nothing in common. Of others, which differ in their words
    as well, people may say that they ask the same, and another amount is another case of it."""
    return bool(why) and (found["letters"] >= ALIKE_LETTERS or not REORDERED.isdisjoint(why))


class _Difference(NamedTuple):
    differ: bool
    contrast: bool
    """Both say one that the other does not say."""


def _unlike_quantities(a: frozenset[Quantity], b: frozenset[Quantity]) -> _Difference:
    """One as an article (一个, one) differs from other numbers, but not from none."""
    left_a = [one for one in a if not any(alike(one, other) for other in b)]
    left_b = [one for one in b if not any(alike(one, other) for other in a)]
    differ = any(value != 1.0 for value, _ in (*left_a, *left_b)) or bool(left_a and left_b)
    contrast = any(
        not u or not v or u == v or {u, v} == {"clock", "clock12"} or x == y
        for x, u in left_a
        for y, v in left_b
    )
    return _Difference(differ, contrast)


def _unlike_dates(a: frozenset[str], b: frozenset[str]) -> _Difference:
    left_a = [one for one in a if not any(dates_alike(one, other) for other in b)]
    left_b = [one for one in b if not any(dates_alike(one, other) for other in a)]
    return _Difference(bool(left_a or left_b), bool(left_a and left_b))


def _without(words: tuple[str, ...], common: Counter[str]) -> list[str]:
    left, taken = [], Counter(common)
    for word in words:
        if taken[word] > 0:
            taken[word] -= 1
        else:
            left.append(word)
    return left


def _by_class(facts: TextFacts) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = {}
    for place, member, word in facts.members:
        found.setdefault(place, {})[member] = word
    return found


def _denied_here_only(a: TextFacts, b: TextFacts) -> bool:
    """A word is denied in one and said without that in the other."""
    said = set(b.gist) - b.denied
    return any(word in said for word in a.denied - b.denied)


def _reversed(a: TextFacts, b: TextFacts) -> bool:
    """Two change places around a verb: who lends to whom. Words that move as adverbials do, or
    in front as the topic, change no roles."""
    if a.spoken == b.spoken or sorted(a.spoken) != sorted(b.spoken) or len(a.spoken) > 40:
        return False
    if ("被" in a.spoken) != ("被" in b.spoken):
        return False
    things = {word for _, _, word in a.members} | {"i", "you", "he"} | a.capitals
    order_a = [(word, at) for at, word in enumerate(a.spoken) if word in things]
    place_b = {word: at for at, word in enumerate(b.spoken)}
    for number, (x, at_x) in enumerate(order_a):
        for y, at_y in order_a[number + 1 :]:
            if x == y or place_b[x] < place_b[y] or a.spoken.count(x) > 1:
                continue
            between_a = set(a.spoken[at_x + 1 : at_y])
            between_b = set(b.spoken[place_b[y] + 1 : place_b[x]])
            verbs = {word for word in between_a & between_b if a.spoken.count(word) == 1}
            if verbs - things - _JOINED - _SYMMETRIC - ASKING_ZH and not between_a & _JOINED:
                return True
    return False


def _edits(word: str, other: str) -> int:
    """Letters changed, left out, added, or changed with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, x in enumerate(word):
        last, before, row = before, row, [i + 1]
        for j, y in enumerate(other):
            least = min(before[j] + (x != y), before[j + 1] + 1, row[j] + 1)
            if i and j and x == other[j - 1] and word[i - 1] == y:
                least = min(least, last[j - 1] + 1)
            row.append(least)
    return row[-1]


def _other_codes(a: TextFacts, b: TextFacts) -> bool:
    """Both name a code or a model number that the other does not, however it is parted."""
    if a.codes == b.codes:
        return False
    one, other = (re.sub(r"[\s._-]", "", facts.text) for facts in (a, b))
    only_a = {code for code in a.codes - b.codes if not _parted_otherwise(code, other)}
    only_b = {code for code in b.codes - a.codes if not _parted_otherwise(code, one)}
    bare_a = {number for number in a.numbers - b.numbers if not number[1]}
    bare_b = {number for number in b.numbers - a.numbers if not number[1]}
    return bool((only_a and (only_b or bare_b)) or (only_b and bare_a))


def _parted_otherwise(code: str, text: str) -> bool:
    bare = re.sub(r"[._-]", "", code)
    return not bare.isdigit() and len(bare) <= PARTED_MAX and bare in text


def _spelled(word: str, facts: TextFacts) -> str:
    """A word of a gist as it stands in the text, where it is English."""
    if not word.isascii():
        return word
    return next((said for said in facts.words if stem(said) == word), word)


def _other_names(a: TextFacts, b: TextFacts, slips: set[str]) -> bool:
    """Both name something, and one names what the other does not speak of at all."""
    if not a.capitals or not b.capitals or a.capitals == b.capitals:
        return False
    known_a, known_b = slips.union(a.gist), slips.union(b.gist)
    only_a = {n for n in a.capitals if n not in b.text and stem(n) not in known_b}
    only_b = {n for n in b.capitals if n not in a.text and stem(n) not in known_a}
    return bool(only_a and only_b)


def _units_differ(a: frozenset[Quantity], b: frozenset[Quantity]) -> bool:
    """The same number of other things: 3 days and 3 weeks."""
    for value, unit in a:
        theirs = {u for v, u in b if v == value}
        if unit and theirs and unit not in theirs and "" not in theirs:
            return not any(alike((value, unit), other) for other in b)
    return False


def _unlike(a: frozenset[object] | frozenset[str] | frozenset[int],
            b: frozenset[object] | frozenset[str] | frozenset[int]) -> float:  # fmt: skip
    both = len(a | b)
    return len(a ^ b) / both if both else 0.0


def _turned(a: TextFacts, b: TextFacts) -> bool:
    """From here to there, and from there to here."""
    for one, other in a.routes:
        for back, forth in b.routes:
            if _about(one, forth) and _about(other, back) and not _about(one, back):
                return True
    goals_a, goals_b = _destinations(a), _destinations(b)
    if goals_a and goals_b and not goals_a & goals_b:
        called = (a.names | a.capitals) & (b.names | b.capitals)
        if goals_a <= called and goals_b <= called:
            return True
    places_a = [word for word in a.spoken if word in a.names]
    places_b = [word for word in b.spoken if word in b.names]
    return (
        len(places_a) == 2
        and places_a == places_b[::-1]
        and bool(_TOWARDS.search(a.text) and _TOWARDS.search(b.text))
    )


def _destinations(facts: TextFacts) -> set[str]:
    """What something is taken to, where that has a name."""
    found = _DESTINATION.findall(facts.text)
    return {word for word in found if word in facts.capitals or stem(word) in facts.names}


def _about(one: str, other: str) -> bool:
    return one in other or other in one


def _swapped_comparison(a: TextFacts, b: TextFacts) -> bool:
    """Is A better than B, and is B better than A."""
    if a.words == b.words or sorted(a.words) != sorted(b.words):
        return False
    return bool(_MORE_THAN.search(a.text))
