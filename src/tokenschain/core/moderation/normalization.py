"""Text normalisation for moderation: what evades a keyword match is undone first.

NFKC and case, traditional to simplified, look-alike letters, and everything that is no letter or
digit taken out: spaces, punctuation, zero-width and combining characters, emoji. One table, one
`str.translate`; where a match lies in the text as it was written is found only when there is one.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping

_LOOK_ALIKES: Mapping[str, str] = {
    # Cyrillic and Greek letters that are drawn as Latin ones (Unicode TR 39, confusables).
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ғ": "f", "һ": "h", "і": "i", "ј": "j",
    "к": "k", "ӏ": "l", "м": "m", "н": "h", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s",
    "т": "t", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ᴢ": "z", "α": "a", "β": "b", "ε": "e",
    "η": "n", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p", "τ": "t", "υ": "u", "χ": "x",
    "ı": "i", "ɑ": "a", "ɡ": "g", "ʟ": "l", "ɴ": "n", "ʀ": "r", "ꜱ": "s", "ᴀ": "a", "ʙ": "b",
    "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ꜰ": "f", "ɢ": "g", "ʜ": "h", "ɪ": "i", "ᴊ": "j", "ᴋ": "k",
    "ᴍ": "m", "ᴏ": "o", "ᴘ": "p", "ᴛ": "t", "ᴜ": "u", "ᴠ": "v", "ᴡ": "w", "ʏ": "y", "ƅ": "b",
    "ɩ": "i", "ո": "n", "ս": "u", "օ": "o", "հ": "h", "ց": "g", "զ": "q", "ա": "w", "յ": "j",
    "ѡ": "w", "ɯ": "w", "ʋ": "v", "ł": "l", "ø": "o", "đ": "d", "ħ": "h",
}  # fmt: skip
_ASTRAL = (0x1_0000, 0x2_0000)
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u17b4\u17b5"
"""Letters by their category that nobody sees."""
_DRAWN_LETTERS = (0x1_F150, 0x1_F170, 0x1_F1E6)
"""Where the alphabet begins in white on black circles and squares, and in flags."""
_ACCENTED = 0x2000
"""Below stand letters with accents, which are no part of a keyword; above, Hangul falls apart."""
_TABLED = (
    (0, 0x3400),
    (0xA000, 0xD800),
    (0xE000, 0x1_0000),
    (0x1_F000, 0x1_FB00),
    (0x1_D400, 0x1_D800),
    (0x2_F800, 0x2_FA20),
)
"""Blocks with anything to be changed in them, but for ideographs, which only OpenCC changes."""
_DROPPED_BLOCKS = ((0xE_0000, 0xE_0200),)
"""Tags and variation selectors."""

LONG_CHARACTERS = 250
"""As long texts are translated by numpy, which takes 7 µs for the shortest."""


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
        for code in range(*_ASTRAL):
            if unicodedata.category(chr(code))[0] not in "LN":
                table[code] = ""
        table |= dict.fromkeys(map(ord, _BLANK_LETTERS), "")
        for first in _DRAWN_LETTERS:
            table |= {first + at: letter for at, letter in enumerate(string.ascii_lowercase)}
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
