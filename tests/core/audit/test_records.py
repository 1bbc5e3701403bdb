"""Records of the log: canonical, and without content."""

from __future__ import annotations

import msgspec

from tests.records import record
from tokenschain.core.audit import canonical_json, records


def test_a_call_is_canonical_and_says_who_asked_what() -> None:
    data = records.of_call(record(7, model_served="deep", snapshot_version="r9"), "cn")
    found = canonical_json.decode(data)
    assert found["kind"] == records.CALL and found["zone"] == "cn" and found["revision"] == "r9"
    assert (found["tenant"], found["key_id"], found["model_served"]) == ("t1", "k", "deep")
    assert found["cost_pico"] == 7 * 10**12


def test_each_character_of_a_call_is_written_as_canonical_json_has_it() -> None:
    for text in ("e\u0301", "\u6a21\u578b", '"\\\n\x7f\u2028', "\U0001f600", "a\x00b"):
        found = canonical_json.decode(records.of_call(record(1, model_asked=text), ""))
        assert found["model_asked"] == canonical_json.composed(text)


def test_an_event_keeps_its_detail_as_text() -> None:
    row = {"id": "evt_1", "at_ms": 5, "detail": msgspec.json.encode({"share": 0.5}).decode()}
    found = canonical_json.decode(records.of_event(row))
    assert found == {"kind": "event", **row}
