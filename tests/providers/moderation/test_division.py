"""Long texts in pieces, and findings back in their places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.moderation.verdict import Level, RiskFinding
from tokenschain.providers.moderation.division import OVERLAP_CHARACTERS, in_place, pieces_of
from tokenschain.providers.moderation.vendor import PieceLimit, span_of

LIMIT = PieceLimit(120)


@given(st.text(st.sampled_from("中文。a \n!"), max_size=700), st.integers(110, 200))
def test_every_phrase_is_whole_in_some_piece(text: str, most: int) -> None:
    pieces = list(pieces_of([text], PieceLimit(most)))
    assert all(0 < len(piece.words) <= most for piece in pieces)
    assert all(text.startswith(piece.words, piece.start) for piece in pieces)
    for at in range(0, max(0, len(text) - OVERLAP_CHARACTERS), 7):
        phrase = text[at : at + OVERLAP_CHARACTERS]
        inside = any(
            piece.start <= at and at + len(phrase) <= piece.start + len(piece.words)
            for piece in pieces
        )
        assert inside or not phrase.strip()


def test_a_piece_ends_with_a_sentence_where_it_can() -> None:
    text = "一" * 100 + "。" + "二" * 100
    first, *_ = pieces_of([text], LIMIT)
    assert first.words == "一" * 100 + "。"


def test_pieces_are_measured_in_bytes_where_the_vendor_counts_them() -> None:
    pieces = list(pieces_of(["龍" * 500], PieceLimit(1_000, 301)))
    assert max(len(piece.words.encode()) for piece in pieces) <= 301
    assert pieces[-1].start + len(pieces[-1].words) == 500


def test_findings_come_back_in_the_place_they_have_in_the_whole_text() -> None:
    text = "好" * 300 + "坏词" + "好" * 300
    found = [
        finding
        for piece in pieces_of(["别的", text], LIMIT)
        if (span := span_of(piece.words, "坏词", None))
        for finding in in_place(piece, [RiskFinding("values/other", Level.HIGH, span=span)])
    ]
    assert {(finding.text, finding.span) for finding in found} == {(1, (300, 302))}


def test_empty_texts_are_not_asked_about() -> None:
    assert list(pieces_of(["", "  \n", "x"], LIMIT)) == [(2, 0, "x")]


def test_a_place_is_the_vendors_or_else_the_first_of_the_word() -> None:
    assert span_of("abcab", "ab", 3) == (3, 5)
    assert span_of("abcab", "ab", 1) == (0, 2)
    assert span_of("abcab", "ab", -4) == (0, 2)
    assert span_of("abcab", "zz", 0) is None and span_of("abc", "", 0) is None
