"""Case records: told apart from call records, with as much text as fits into the journal."""

from __future__ import annotations

from tests.records import record
from tokenschain.core import call_record
from tokenschain.core.moderation import case_record
from tokenschain.core.moderation.case_record import CaseRecord, kept_text

CASE = CaseRecord("req_1", 1, "t", "p", "k", "messages", "m", "blocked", "a/b:high:x")


def test_a_case_is_told_from_a_call() -> None:
    assert case_record.is_case(case_record.encode(CASE))
    assert case_record.decode(case_record.encode(CASE)) == CASE
    assert not case_record.is_case(call_record.encode(record(1)))
    for junk in (b"", b"\x9c", b"case", b"\x9c\xa4cas"):
        assert not case_record.is_case(junk)


def test_of_a_long_text_the_part_around_what_was_found_is_kept() -> None:
    long = "前" * 5_000 + "坏词" + "后" * 5_000
    kept = kept_text("input", long, [(5_000, 5_002)])
    assert kept.cut and len(kept.text.encode()) <= case_record.TEXT_BYTES_MAX
    (place,) = kept.spans
    assert kept.text[slice(*place)] == "坏词"
    assert kept_text("output", "短", [(0, 1)]) == case_record.KeptText("output", "短", ((0, 1),))
    assert kept_text("input", "\ud800坏", ()).text, "half a character is none"


def test_what_is_kept_of_one_call_fits_into_a_record() -> None:
    texts = [kept_text("input", "字" * 9_000, [(at, at + 2)]) for at in range(0, 9_000, 500)]
    sealed = case_record.encode_texts(texts)
    assert len(case_record.decode_texts(sealed)) >= 2
    assert len(sealed) < call_record.BYTES_MAX - 2_000
