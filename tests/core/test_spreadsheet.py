"""Cells of exports that no spreadsheet calculates."""

from __future__ import annotations

import pytest

from tokenschain.core.spreadsheet import text_cell


@pytest.mark.parametrize(
    "text",
    ["=1+1", "\n=1", " \t@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "＝1", "　＋1", "＠x", "-١"],
)
def test_what_would_be_calculated_is_text(text: str) -> None:
    assert text_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "-1.5", "+3", "-1e-9", "12", " ", "—", "中文"])
def test_numbers_and_words_stay(text: str) -> None:
    assert text_cell(text) == text
