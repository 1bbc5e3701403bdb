"""Language of a text, guessed by its script: Chinese, English or another. For statistics only."""

from __future__ import annotations

from typing import Literal

Language = Literal["zh", "en", "other"]
CHARACTERS_LOOKED_AT = 2_000
_HAN_SHARE = 0.3
"""Chinese has long Latin names and code in it; English has no Chinese characters."""


def language_of(text: str) -> Language | None:
    """The language; None where the text has no letters."""
    han = latin = others = 0
    for character in text[:CHARACTERS_LOOKED_AT]:
        if not character.isalpha():
            continue
        if "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf":
            han += 1
        elif character.isascii():
            latin += 1
        else:
            others += 1  # kana, hangul, Cyrillic, Arabic, letters with accents
    letters = han + latin + others
    if not letters:
        return None
    if others * 5 > letters:
        return "other"
    return "zh" if han >= _HAN_SHARE * letters else "en"
