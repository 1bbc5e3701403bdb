"""Chinese characters for moderation: simplified forms (OpenCC), homophones (pypinyin)."""

from __future__ import annotations

import json
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import opencc

_BLOCKS = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x2A6E0))
_COMMON = (0x4E00, 0xA000)
_PRIVATE_USE = 0xE000
_TONES = "\u0300\u0301\u0304\u030c"


def simplified_characters() -> dict[int, str]:
    """By code point, the simplified character of each traditional one; takes some 0.1 s."""
    characters = [chr(code) for first, end in _BLOCKS for code in range(first, end)]
    # A line each: OpenCC converts phrases otherwise.
    converted = opencc.OpenCC("t2s").convert("\n".join(characters)).split("\n")
    return {
        ord(one): other
        for one, other in zip(characters, converted, strict=True)
        if one != other and len(other) == 1
    }


def syllables() -> dict[int, str]:
    """By code point, one character that stands for how a character is read, tones aside: those
    that sound alike have the same. The first reading counts.

    Only the library's table is read: to import it takes 0.4 s and 58 MB, for phrases.
    """
    found = find_spec("pypinyin")
    if found is None or found.origin is None:
        return {}
    readings = json.loads((Path(found.origin).parent / "pinyin_dict.json").read_text("utf-8"))
    names: dict[str, str] = {}
    table: dict[int, str] = {}
    for code, reading in readings.items():
        number = int(code)
        if not _COMMON[0] <= number < _COMMON[1]:
            continue
        first = unicodedata.normalize("NFD", reading.partition(",")[0])
        syllable = "".join(letter for letter in first if letter not in _TONES)
        table[number] = names.setdefault(syllable, chr(_PRIVATE_USE + len(names)))
    return table
