"""Process records are told from the others of the journal, and read back."""

from __future__ import annotations

from tests.records import record
from tokenschain.core import call_record, process_record
from tokenschain.core.moderation import case_record
from tokenschain.core.process_record import ProcessRecord


def test_the_record_of_a_process_is_no_call_and_no_case() -> None:
    ended = ProcessRecord("gw-1", 1_790_000_000_000, "killed", 9, 8)
    payload = process_record.encode(ended)
    assert process_record.is_process(payload) and not case_record.is_case(payload)
    assert process_record.decode(payload) == ended
    assert not process_record.is_process(call_record.encode(record(1)))
