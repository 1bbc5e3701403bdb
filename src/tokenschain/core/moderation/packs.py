"""Keyword packs: words with risk, level, context and hard negatives; matched all at once.

A pack is a JSON file that its operator signs (`infra.moderation_packs`). The words of a customer
are the customer's: what ships is a small neutral seed, and `coverage_gaps` says what a pack lacks.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Annotated

import msgspec
from ahocorasick_rs import AhoCorasick
from msgspec import Meta
from msgspec.structs import replace

from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.core.moderation.risks import BY_ID, RISKS
from tokenschain.core.moderation.verdict import Level

WORDS_MAX = 200_000
WORD_CHARACTERS_MAX = 32
"""Of a word as it is matched: output is held back by one character less."""
CONTEXT_WORDS_MAX = 50
CONTEXT_CHARACTERS = 40
"""How far from a word the words of its context may be."""
BACKWARDS = "backwards:"
"""What the label of a word begins with that stands from behind; it is a finding of level `low`."""
BACKWARDS_CHARACTERS_MIN = 3
"""Shorter words are other words from behind, as are those of Latin letters
(docs/results/moderation.md)."""
WORDS_IN_ALL_MIN = 10_000
"""As many the standard asks of the whole library."""


class Spelling(IntEnum):
    """How far from its spelling a word is still found."""

    LIGHT = 1
    """In other scripts and widths, with nothing visible between its characters."""
    AGGRESSIVE = 2
    """With spaces, punctuation or emoji between them as well."""
    PINYIN = 3
    """Characters that sound alike as well; such a hit is for review only."""


class PackWord(msgspec.Struct, frozen=True):
    """One word of a pack."""

    text: Annotated[str, Meta(min_length=1, max_length=64)]
    risk: Annotated[str, Meta(pattern=r"^[A-Z](\.\d)?\.[a-z]\Z")]
    """By its id in `core.moderation.risks`, as `A.1.f`."""
    level: Annotated[int, Meta(ge=1, le=3)] = 3
    """1 to 3, see `Level`."""
    match: Annotated[int, Meta(ge=1, le=3)] = 1
    """1 to 3, see `Spelling`."""
    near: Annotated[tuple[str, ...], Meta(max_length=CONTEXT_WORDS_MAX)] = ()
    """It counts only with one of these before or after it."""
    unless: Annotated[tuple[str, ...], Meta(max_length=CONTEXT_WORDS_MAX)] = ()
    """Hard negatives: phrases with the word in them that are harmless."""
    author: str = ""
    reviewer: str = ""
    expires: str = ""
    """The day from which it no longer counts, as `2027-06-30`; the pack's where it has none."""


class Pack(msgspec.Struct, frozen=True):
    """Words of one author."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
    version: Annotated[str, Meta(min_length=1, max_length=64)]
    author: Annotated[str, Meta(min_length=1, max_length=100)]
    reviewer: Annotated[str, Meta(min_length=1, max_length=100)]
    """Somebody else than the author."""
    expires: str
    words: Annotated[tuple[PackWord, ...], Meta(max_length=WORDS_MAX)]


class BadPack(ValueError):
    """A pack that cannot be used; says why."""


_decode = msgspec.json.Decoder(Pack, strict=True).decode


def read_pack(data: bytes) -> Pack:
    """A pack as its file says.

    Raises:
        BadPack: it is none, or a word is without risk, review or sense.
    """
    try:
        pack = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadPack(str(error)) from None
    _check_people("pack", pack.author, pack.reviewer)
    _day(pack.expires, "pack")
    for number, word in enumerate(pack.words):
        where = f"words[{number}]"
        if word.risk not in BY_ID:
            raise BadPack(f"{where}: there is no risk `{word.risk}`")
        _check_people(where, word.author or pack.author, word.reviewer or pack.reviewer)
        if word.expires:
            _day(word.expires, where)
    return pack


def _check_people(where: str, author: str, reviewer: str) -> None:
    if author == reviewer:
        raise BadPack(f"{where}: the author may not be the reviewer as well")


def _day(text: str, where: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise BadPack(f"{where}: `expires` must be a day as 2027-06-30") from None


def coverage_gaps(packs: Iterable[Pack], today: str) -> dict[str, int]:
    """How many words are missing, by risk id, and in all as `total`; empty where none is.

    The figures are the standard's: see `Risk.words_min`.

    Args:
        today: words that have expired by then do not count.
    """
    counts: Counter[str] = Counter()
    for pack in packs:
        for word in pack.words:
            if (word.expires or pack.expires) > today:
                counts[word.risk] += 1
    gaps = {
        risk.id: risk.words_min - counts[risk.id]
        for risk in RISKS
        if counts[risk.id] < risk.words_min
    }
    missing = WORDS_IN_ALL_MIN - counts.total()
    return gaps | ({"total": missing} if missing > 0 else {})


class Entry(msgspec.Struct, frozen=True):
    """A word as it is matched."""

    category: str
    level: Level
    match: Spelling
    near: tuple[str, ...]
    unless: tuple[str, ...]
    label: str
    """Pack and number of the word: what stands on record instead of it."""
    latin: bool
    """Whether it is a word of Latin letters, which counts only as a whole one."""
    length: int
    """In normalized characters."""

    @property
    def follows_max(self) -> int:
        """How many characters after it may decide whether it counts."""
        longest = max((len(phrase) for phrase in self.unless), default=0) - self.length
        return max(longest, CONTEXT_CHARACTERS if self.near else 0, 0)


class Keywords:
    """The words of several packs, ready to be found in normalized texts."""

    __slots__ = (
        "_entries",
        "_finder",
        "_size",
        "_sounds",
        "_sounds_entries",
        "held_back",
        "versions",
    )

    def __init__(
        self,
        packs: Iterable[Pack],
        normalizer: Normalizer,
        syllables: Mapping[int, str],
        today: str,
    ) -> None:
        """
        Args:
            syllables: by code point, what stands for how a character is read.
            today: words that have expired by then are left out.
        """
        found: dict[str, list[Entry]] = {}
        self.versions: dict[str, str] = {}
        for pack in packs:
            self.versions[pack.name] = pack.version
            for number, word in enumerate(pack.words):
                if (word.expires or pack.expires) <= today:
                    continue
                normal = normalizer.normal(word.text)
                if 0 < len(normal) <= WORD_CHARACTERS_MAX:
                    entry = _entry(normal, word, f"{pack.name}#{number}", normalizer)
                    found.setdefault(normal, []).append(entry)
        self._size = sum(map(len, found.values()))
        alike = {
            word.translate(syllables): tuple(e for e in found[word] if e.match is Spelling.PINYIN)
            for word in found
        }
        for ahead, entries in [(one, tuple(entries)) for one, entries in found.items()]:
            behind = ahead[::-1]
            if len(ahead) >= BACKWARDS_CHARACTERS_MIN and behind != ahead and not ahead.isascii():
                found.setdefault(behind, []).extend(map(_backwards, entries))
        words = list(found)
        self._entries = [tuple(found[word]) for word in words]
        self._finder = AhoCorasick(words) if words else None
        self.held_back = max(map(len, words), default=1) - 1
        """How many characters at the end of a text may be the beginning of a word."""
        alike = {sound: entries for sound, entries in alike.items() if entries}
        self._sounds_entries = list(alike.values())
        self._sounds = AhoCorasick(list(alike)) if alike else None

    def __len__(self) -> int:
        return self._size

    def find(self, normal: str, since: int = 0) -> list[tuple[int, int, tuple[Entry, ...]]]:
        """The words in a normalized text that end after a place: from, to and what they are."""
        if self._finder is None:
            return []
        hits = self._finder.find_matches_as_indexes(normal, overlapping=True)
        if not hits:
            return []
        return [(start, end, self._entries[number]) for number, start, end in hits if end > since]

    @property
    def compares_sounds(self) -> bool:
        return self._sounds is not None

    def find_alike(self, sounds: str) -> list[tuple[int, int, tuple[Entry, ...]]]:
        """The words that a text sounds like, once its characters are syllables."""
        if self._sounds is None:
            return []
        return [
            (start, end, self._sounds_entries[number])
            for number, start, end in self._sounds.find_matches_as_indexes(sounds, overlapping=True)
        ]


def counts_here(entry: Entry, normal: str, start: int, end: int) -> bool:
    """Whether a word counts in its context."""
    for phrase in entry.unless:
        before, size = phrase.find(normal[start:end]), len(phrase)
        while before >= 0:
            at = start - before
            if at >= 0 and normal.startswith(phrase, at) and at + size >= end:
                return False
            before = phrase.find(normal[start:end], before + 1)
    if not entry.near:
        return True
    around = normal[max(0, start - CONTEXT_CHARACTERS) : start]
    after = normal[end : end + CONTEXT_CHARACTERS]
    return any(word in around or word in after for word in entry.near)


def _backwards(entry: Entry) -> Entry:
    label = f"{BACKWARDS}{entry.label}"
    return replace(entry, level=Level.LOW, near=(), unless=(), label=label)


def _entry(normal: str, word: PackWord, label: str, normalizer: Normalizer) -> Entry:
    def normals(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filter(None, map(normalizer.normal, texts)))

    return Entry(
        BY_ID[word.risk].category,
        Level(word.level),
        Spelling(word.match),
        normals(word.near),
        normals(word.unless),
        label,
        normal.isascii() and normal.isalnum(),
        len(normal),
    )
