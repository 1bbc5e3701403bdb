"""Cells of exports: what a spreadsheet would take for a formula is shown as text (CWE-1236)."""

from __future__ import annotations

import unicodedata

_BEGINS = frozenset("=+-@")


def text_cell(text: str) -> str:
    """A text as a cell holds it: with an apostrophe before it where it would be calculated.

    What stands before does not matter to a spreadsheet (blanks, line feeds), nor does the width of
    a character: `＝1` is calculated by those set to Chinese or Japanese.
    """
    bare = text.lstrip()
    begins = unicodedata.normalize("NFKC", bare[:1])[:1] in _BEGINS
    return f"'{text}" if begins and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
