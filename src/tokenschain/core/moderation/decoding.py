"""What stands encoded in a text: base64, hexadecimal, escapes of URLs, HTML and programs, markup
and filler between the characters of a word.

A reader, or a model, undoes these; so keywords are looked for in what comes out as well.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import string
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tokenschain.core.moderation.normalization import IN_BASE64, marks_of, runs

DECODED_BYTES_MAX = 65_536
"""As much of a text is decoded, in all."""
ROUNDS = 2
"""As often: what is encoded more often reads as nonsense to a model, too."""
AROUND_CHARACTERS = 64
"""As much of a text is kept before and after each part that was decoded."""
APART = "\ua015"
"""Between parts of a text that do not touch: a letter that no keyword has."""
WORD_MIN, HAN_WORD_MIN = 12, 8
"""Shorter runs of base64 are words, but for those of ideographs."""
_BASE64 = re.compile(r"(?<!=)[A-Za-z0-9+/_-]+={0,2}(?![A-Za-z0-9+/_=-])")
_HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2})+")
HAN = r"\u3400-\u9fff"


class Part(NamedTuple):
    """A part of a decoded text: where it begins there, and from and to in the text as written."""

    at: int
    start: int
    end: int
    is_decoded: bool


class Decoded(NamedTuple):
    """A text as it reads once something in it is decoded."""

    text: str
    parts: list[Part]

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Where something in it was written; None where nothing of it was encoded."""
        inside = self._inside(start, end)
        return self.written(start, end) if any(part.is_decoded for part in inside) else None

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Where something in it was written."""
        inside = self._inside(start, end)
        first, last = inside[0], inside[-1]
        return (
            first.start if first.is_decoded else first.start + start - first.at,
            last.end if last.is_decoded else last.start + end - last.at,
        )

    def until(self, written: int) -> int:
        """How much of it was written before a place."""
        for part in self._since(written):
            return part.at + (0 if part.is_decoded else max(0, written - part.start))
        return len(self.text)

    def begin(self, written: int) -> int:
        """Where what is encoded at a place begins; the place itself where nothing is."""
        for part in self._since(written):
            return min(written, part.start) if part.is_decoded else written
        return written

    def _since(self, written: int) -> list[Part]:
        at = bisect_right(self.parts, written, key=lambda part: part.end)
        return self.parts[at : at + 1]

    def cut(self, start: int, end: int, moved: int) -> Iterator[Part]:
        """The parts of some of it, moved."""
        for part in self._inside(start, end) if end > start else ():
            if part.is_decoded:
                yield part._replace(at=max(part.at, start) + moved)
            else:
                begin, stop = max(part.at, start), min(part.at + part.end - part.start, end)
                written = part.start + begin - part.at
                yield Part(begin + moved, written, written + stop - begin, is_decoded=False)

    def _inside(self, start: int, end: int) -> list[Part]:
        first = bisect_right(self.parts, start, key=lambda part: part.at) - 1
        last = bisect_right(self.parts, max(start, end - 1), key=lambda part: part.at) - 1
        return self.parts[first : last + 1]


def decodings(text: str, rounds: int = ROUNDS) -> Iterator[Decoded]:
    """The text as it reads decoded, in one way after the other."""
    room = DECODED_BYTES_MAX
    for mark, candidates, decode in _FAMILIES:
        if mark not in text:
            continue
        pieces: list[tuple[int, int, str]] = []
        for match in candidates(text):
            if room <= 0:
                break
            decoded = decode(match.group())
            if decoded is not None:
                room -= match.end() - match.start()
                pieces.append((match.start(), match.end(), decoded))
        if pieces:
            made = _with(text, pieces)
            yield made
            if rounds > 1 and decode not in _READ_AS:
                yield from _again(made, rounds - 1)


def _again(made: Decoded, rounds: int) -> Iterator[Decoded]:
    for inner in decodings(made.text, rounds):
        parts: list[Part] = []
        for part in inner.parts:
            if part.is_decoded:
                parts.append(Part(part.at, *made.written(part.start, part.end), is_decoded=True))
            elif part.start == part.end:  # `APART`, or nothing
                at = made.written(part.start, part.end)[0]
                parts.append(Part(part.at, at, at, is_decoded=False))
            else:
                parts += made.cut(part.start, part.end, part.at - part.start)
        yield Decoded(inner.text, parts)


def _with(text: str, pieces: list[tuple[int, int, str]]) -> Decoded:
    made: list[str] = []
    parts: list[Part] = []
    at = done = 0

    def add(start: int, end: int, written: str, *, is_decoded: bool = False) -> None:
        nonlocal at
        parts.append(Part(at, start, end, is_decoded))
        made.append(written)
        at += len(written)

    for start, end, decoded in [*pieces, (len(text), len(text), "")]:
        near = done + AROUND_CHARACTERS if done else 0
        far = start - AROUND_CHARACTERS if end > start else start
        if near < far:
            add(done, near, text[done:near])
            add(near, near, APART)
            add(far, start, text[far:start])
        else:
            add(done, start, text[done:start])
        if end > start:
            add(start, end, decoded, is_decoded=True)
        done = end
    return Decoded("".join(made), parts)


def _words(text: str) -> Iterator[re.Match[str]]:
    latin = text.encode("ascii", "replace")
    for start, end in runs(latin, IN_BASE64, HAN_WORD_MIN):
        # Ideographs begin with these two, in base64 of UTF-8: what is shorter holds nothing else.
        if end - start >= WORD_MIN or text[start] in "56":
            match = _BASE64.match(text, start)
            if match is not None and not match.group().isdecimal():  # which would be no text
                yield match


def _of_word(word: str) -> str | None:
    if not len(word) % 2 and _HEXADECIMAL.fullmatch(word):
        return _of_bytes(bytes.fromhex(word))
    word = word.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        data = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return _of_bytes(data)


def _of_bytes(data: bytes, encodings: tuple[str, ...] = ("utf-8",)) -> str | None:
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except ValueError:
            continue
        if text.isprintable() or "\n" in text:
            return text
    return None


def _of_url(word: str) -> str | None:
    return _of_bytes(unquote_to_bytes(word), ("utf-8", "gb18030"))


def _of_mail(word: str) -> str | None:
    return _of_bytes(bytes.fromhex("".join(word.replace("=", "").split())))


def _of_html(word: str) -> str | None:
    made = html.unescape(word)
    return None if made == word else made


_CODE = re.compile(r"\\x([0-9a-fA-F]{2})|(?:\\u\{?|\\U|[Uu]\+)([0-9a-fA-F]{4,8})\}?\s?")


def _of_program(word: str) -> str | None:
    codes = _CODE.findall(word)
    if all(short for short, _ in codes):
        return _of_bytes(bytes(int(short, 16) for short, _ in codes), ("utf-8", "latin-1"))
    numbers = [int(short or long, 16) for short, long in codes]
    made = "".join(chr(number) for number in numbers if number < sys.maxunicode)
    return made.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs are one


_FILLED = re.compile(
    rf"[{HAN}](?:[a-zA-Z]{{1,2}}[{HAN}]){{2,200}}|[{HAN}](?:\d{{1,2}}[{HAN}]){{3,200}}"
)
"""Letters between ideographs, or digits, of which dates have two."""
_FILLED_MARKS = [
    b"o".join((b"", *sizes, b""))
    for kind, count in ((b"a", 2), (b"d", 3))
    for sizes in product((kind, kind * 2), repeat=count)
]
"""How these begin: `o` is what is no ASCII."""
_LEET = str.maketrans({
    "@": "a", "$": "s", "!": "i", "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t",
})  # fmt: skip
_OF_LEET, _LEET_MIN = marks_of(string.ascii_letters + string.digits + "@$!"), 4
_NO_LETTERS = string.digits.encode() + b"@$!"


def _leets(text: str) -> Iterator[re.Match[str]]:
    """Words with digits or signs in them that are drawn as letters."""
    latin = text.encode("ascii", "replace")
    for start, end in runs(latin, _OF_LEET, _LEET_MIN):
        letters = len(latin[start:end].translate(None, _NO_LETTERS))
        if letters == end - start or letters * 2 < end - start:
            continue
        if end - start < WORD_MIN or not _HEXADECIMAL.fullmatch(text, start, end):
            match = _ALL.match(text, start, end)
            if match is not None:
                yield match


_ALL = re.compile(r".+", re.DOTALL)


def _as_letters(word: str) -> str:
    return word.translate(_LEET)


def _left_out(_: str) -> str:
    return ""


def _kind(code: int) -> int:
    one = chr(code)
    if one.isascii() and one.isalnum():
        return ord("d" if one.isdecimal() else "a")
    return ord("o" if one == "?" else ".")


_KINDS = bytes(map(_kind, range(256)))


def _fillers(text: str) -> Iterator[re.Match[str]]:
    kinds = text.encode("ascii", "replace").translate(_KINDS)
    places: set[int] = set()
    for mark in _FILLED_MARKS:
        at = kinds.find(mark)
        while at >= 0:
            places.add(at)
            at = kinds.find(mark, at + 1)
    end = 0
    for at in sorted(places):
        match = _FILLED.match(text, at) if at >= end else None
        if match is not None:
            end = match.end()
            yield match


_FILLER = re.compile("[a-zA-Z0-9]+")


def _without_filler(word: str) -> str:
    return _FILLER.sub("", word)


_READ_AS = (_as_letters, _left_out, _without_filler)
"""Ways of writing rather than encodings: nothing else is encoded within."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31});?")
_ESCAPES = re.compile(
    r"(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\u\{[0-9a-fA-F]{4,6}\}|\\U[0-9a-fA-F]{8})+"
)
_FAMILIES: tuple[
    tuple[str, Callable[[str], Iterable[re.Match[str]]], Callable[[str], str | None]], ...
] = (
    ("", _words, _of_word),
    ("%", re.compile(r"%[0-9a-fA-F]{2}(?:%[0-9a-fA-F]{2})*").finditer, _of_url),
    ("&", _ENTITY.finditer, _of_html),
    ("\\", _ESCAPES.finditer, _of_program),
    (
        "+",
        re.compile(r"[Uu]\+[0-9a-fA-F]{4,6}(?:[\s,]?[Uu]\+[0-9a-fA-F]{4,6})*").finditer,
        _of_program,
    ),
    ("=", re.compile(r"=[0-9A-F]{2}(?:(?:=\r?\n)?=[0-9A-F]{2})*").finditer, _of_mail),
    ("<", re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--.{0,200}?-->").finditer, _left_out),
    ("", _fillers, _without_filler),
    ("", _leets, _as_letters),
)
"""Without the first, the second finds nothing."""
