"""Holidays from the operator's file: added to those that are built in, and read strictly."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tokenschain.core.pricing.calendar import HOLIDAYS, is_working_day, last_known_day
from tokenschain.infra import holidays_file
from tokenschain.infra.config import SettingsError


def test_a_year_is_added_to_those_that_are_built_in(tmp_path: Path) -> None:
    assert holidays_file.known(None) is HOLIDAYS
    path = tmp_path / "holidays.yaml"
    path.write_text("2027:\n  - {first: 2027-01-01, last: 2027-01-03, worked: [2027-01-09]}\n")
    known = holidays_file.known(path)
    assert last_known_day(known) == date(2027, 12, 31) and 2026 in known
    assert is_working_day(date(2027, 1, 9), known) and not is_working_day(date(2027, 1, 1), known)


@pytest.mark.parametrize(
    "text",
    [
        "2027:\n  - {first: 2027-01-03, last: 2027-01-01}\n",
        "2027:\n  - {first: 2026-01-01, last: 2026-01-03}\n",
        "2027:\n  - {first: 2027-01-01, last: 2027-01-03, works: [2027-01-09]}\n",
        "2027: soon\n", "- 2027\n", "2027: [\n", "2027:\n  - {first: 2027-13-01, last: x}\n",
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_the_name_of_the_setting(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"control\.holidays_file"):
        holidays_file.known(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.yaml"):
        holidays_file.known(tmp_path / "gone.yaml")
