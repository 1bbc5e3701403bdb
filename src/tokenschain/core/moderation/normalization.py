"""Text normalisation for moderation: what evades a keyword match is undone first.

NFKC and case, traditional to simplified, look-alike letters, and everything that is no letter or
digit taken out: spaces, punctuation, zero-width and combining characters, emoji. One table, one
`str.translate`; where a match lies in the text as it was written is found only when there is one.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote_to_bytes

_LOOK_ALIKES: Mapping[str, str] = {
    # Cyrillic and Greek letters that are drawn as Latin ones (Unicode TR 39, confusables).
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ғ": "f", "һ": "h", "і": "i", "ј": "j",
    "к": "k", "ӏ": "l", "м": "m", "н": "h", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s",
    "т": "t", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ᴢ": "z", "α": "a", "β": "b", "ε": "e",
    "η": "n", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p", "τ": "t", "υ": "u", "χ": "x",
    "ı": "i", "ɑ": "a", "ɡ": "g", "ʟ": "l", "ɴ": "n", "ʀ": "r", "ꜱ": "s",
}  # fmt: skip
_ACCENTED = 0x2000
"""Below stand letters with accents, which are no part of a keyword; above, Hangul falls apart."""
_TABLED = ((0, 0x3400), (0xA000, 0xD800), (0xE000, 0x1_0000), (0x1_F000, 0x1_FB00))
"""Blocks with anything to be changed in them, but for ideographs, which only OpenCC changes."""
_DROPPED_BLOCKS = ((0xE_0000, 0xE_0200),)
"""Tags and variation selectors."""

LONG_CHARACTERS = 250
"""As long texts are translated by numpy, which takes 7 µs for the shortest."""
DECODED_BYTES_MAX = 65_536
"""As much of a text is decoded once more, in all."""
_BASE64 = re.compile(r"(?<!=)[A-Za-z0-9+/_-]+={0,2}(?![A-Za-z0-9+/_=-])")
_BASE64_MIN = 12
_URL = re.compile(r"%[0-9a-fA-F]{2}(?:%[0-9a-fA-F]{2})+(?:[A-Za-z0-9.+_-]*(?:%[0-9a-fA-F]{2})+)*")
_HTML = re.compile(r"(?:&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31});\s*){2,}")
_UNICODE = re.compile(r"(?:\\u[0-9a-fA-F]{4}){2,}")


class Normalizer:
    """Normalizes texts by one table."""

    def __init__(self, simplified: Mapping[int, str]) -> None:
        """
        Args:
            simplified: by code point, of traditional characters.
        """
        table: dict[int, str] = {}
        for first, end in _TABLED:
            for code in range(first, end):
                character = chr(code)
                normal = _normal(character)
                if normal != character:
                    table[code] = normal
        for code, other in simplified.items():
            table[code] = other
        for first, end in _DROPPED_BLOCKS:
            table |= dict.fromkeys(range(first, end), "")
        from tokenschain.core.moderation.character_scan import (  # noqa: PLC0415 - numpy: 0.1 s
            CharacterMap,
        )

        self._table, self._long = table, CharacterMap(table)

    def normal(self, text: str) -> str:
        """The text as keywords are matched with it."""
        if len(text) < LONG_CHARACTERS:
            return text.translate(self._table)
        return self._long.translate(text)

    def offsets(self, text: str) -> list[int]:
        """For each character of `normal(text)`, which character of the text it came from."""
        table, found = self._table, []
        for at, character in enumerate(text):
            other = table.get(ord(character))
            found += [at] * (1 if other is None else len(other))
        return found


def _normal(character: str) -> str:
    kept = []
    for one in unicodedata.normalize("NFKC", character):
        folded = one.casefold()
        for each in unicodedata.normalize("NFKD", folded) if ord(one) < _ACCENTED else folded:
            if unicodedata.category(each)[0] in "LN":
                kept.append(_LOOK_ALIKES.get(each, each))
    return "".join(kept)


def decodings(text: str) -> Iterator[tuple[int, int, str]]:
    """What stands in a text base64, URL, HTML or Unicode encoded: from and to, and what it says.

    Decoded once: what is encoded twice reads as nonsense to a model, too.
    """
    room = DECODED_BYTES_MAX
    for mark, candidates, decode in _DECODERS:
        for match in candidates(text) if mark in text else ():
            if room <= 0:
                return
            room -= match.end() - match.start()
            decoded = decode(match.group())
            if decoded:
                yield match.start(), match.end(), decoded


def _base64_words(text: str) -> Iterator[re.Match[str]]:
    for start, _ in runs(text.encode("ascii", "replace"), IN_BASE64, _BASE64_MIN):
        match = _BASE64.match(text, start)
        if match is not None and not match.group().isdecimal():  # which would be no text
            yield match


def runs(latin: bytes, marks: bytes, least: int) -> list[tuple[int, int]]:
    """Where so many characters of a kind stand on end, or more: from and to.

    Args:
        marks: of each byte, 1 or 0; see `marks_of`.
    """
    marked, wanted, found = latin.translate(marks), b"\1" * least, []
    start = marked.find(wanted)
    while start >= 0:
        end = marked.find(0, start + least)
        end = len(marked) if end < 0 else end
        found.append((start, end))
        start = marked.find(wanted, end)
    return found


def marks_of(characters: str) -> bytes:
    """A table for `runs`: 1 for each of some ASCII characters."""
    return bytes(chr(one) in characters for one in range(256))


DIGITS = marks_of(string.digits)
LETTERS_AND_DIGITS = marks_of(string.ascii_letters + string.digits)
PRINTED = marks_of((string.ascii_letters + string.digits + string.punctuation).replace("?", ""))
"""But the question mark, which stands for what is not ASCII."""
IN_BASE64 = marks_of(string.ascii_letters + string.digits + "+/_-")


def _from_base64(word: str) -> str:
    word = word.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        data = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
        text = data.decode()
    except (binascii.Error, ValueError):
        return ""
    return text if text.isprintable() or "\n" in text else ""


def _from_url(word: str) -> str:
    try:
        return unquote_to_bytes(word).decode()
    except ValueError:
        return ""


def _from_unicode(word: str) -> str:
    characters = [chr(int(code, 16)) for code in word.split("\\u")[1:]]
    return "".join(characters).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_DECODERS: tuple[
    tuple[str, Callable[[str], Iterator[re.Match[str]]], Callable[[str], str]], ...
] = (
    ("", _base64_words, _from_base64),
    ("%", _URL.finditer, _from_url),
    ("&", _HTML.finditer, html.unescape),
    ("\\u", _UNICODE.finditer, _from_unicode),
)
"""Without the first, the second is nowhere."""
