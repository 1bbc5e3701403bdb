"""Division of texts into pieces that a moderation engine takes, and findings put back in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from tokenschain.core.moderation.verdict import RiskFinding
from tokenschain.providers.moderation.vendor import PieceLimit

OVERLAP_CHARACTERS = 50
"""Seen by two pieces, so that what stands across their border is seen whole by one."""
_ENDS = "。！？!?；;\n"
_LOOK_BACK = 4
"""A piece ends behind a sentence in its last quarter, where there is one."""


class Piece(NamedTuple):
    """A part of a text."""

    text: int
    """Which text."""
    start: int
    """Where it begins there, in characters."""
    words: str


def pieces_of(texts: Sequence[str], limit: PieceLimit) -> Iterator[Piece]:
    """Every text but empty ones, each in as many pieces as it needs."""
    for at, text in enumerate(texts):
        start = 0
        while start < len(text):
            end = _end(text, start, limit)
            piece = text[start:end]
            if piece.strip():
                yield Piece(at, start, piece)
            if end >= len(text):
                break
            start = max(end - OVERLAP_CHARACTERS, start + 1)


def in_place(piece: Piece, findings: Iterable[RiskFinding]) -> Iterator[RiskFinding]:
    """A piece's findings as findings of its text."""
    for found in findings:
        span = found.span and (found.span[0] + piece.start, found.span[1] + piece.start)
        yield msgspec.structs.replace(found, text=piece.text, span=span)


def _end(text: str, start: int, limit: PieceLimit) -> int:
    end = min(len(text), start + limit.characters)
    if limit.bytes is not None:
        fits = text[start:end].encode(errors="replace")[: limit.bytes].decode(errors="ignore")
        end = start + len(fits)
    if end >= len(text):
        return len(text)
    earliest = end - (end - start) // _LOOK_BACK
    return next((at + 1 for at in range(end - 1, earliest, -1) if text[at] in _ENDS), end)
