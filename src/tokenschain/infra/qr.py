"""QR codes as one SVG path, drawn by segno: for secrets that a phone's camera reads off a page."""

from __future__ import annotations

from typing import NamedTuple

import segno

TEXT_CHARACTERS_MAX = 600
"""Of what is drawn: more makes squares too small for a camera."""
QUIET = 4
"""Empty squares around the code (ISO/IEC 18004, 5.3.8)."""


class QrPicture(NamedTuple):
    """A code to be drawn in an SVG of `side` by `side` units."""

    side: int
    path: str
    """The dark squares, as the `d` of a path; a row's neighbours are one rectangle."""


def draw(text: str) -> QrPicture | None:
    """The picture of a text; None for one that is empty or too long for a camera."""
    if not 0 < len(text) <= TEXT_CHARACTERS_MAX:
        return None
    try:
        rows = segno.make(text, error="m", micro=False).matrix
    except segno.DataOverflowError:  # letters of several bytes
        return None
    parts = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            start = x
            while x < len(row) and row[x]:
                x += 1
            if x > start:
                parts.append(f"M{start + QUIET},{y + QUIET}h{x - start}v1h-{x - start}z")
            else:
                x += 1
    return QrPicture(len(rows) + 2 * QUIET, "".join(parts))
