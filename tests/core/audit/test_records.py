"""Records of the log: canonical, and without content."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from tests.records import record
from tokenschain.core.audit import canonical_json, records


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def of_call(*given: Any, **fields: Any) -> dict[str, Any]:
    line = records.of_call(digest, record(*given, **fields), "cn", b"s" * 16, "label")
    return canonical_json.decode(records.split(line)[0])


def test_a_call_is_canonical_and_says_who_asked_what() -> None:
    found = of_call(7, model_served="deep", snapshot_version="r9")
    assert found["kind"] == records.CALL and found["zone"] == "cn" and found["revision"] == "r9"
    assert (found["tenant"], found["key_id"], found["model_served"]) == ("t1", "k", "deep")
    assert found["charge_pico"] == 7 * 10**12


def test_what_is_the_platforms_alone_is_in_the_record_as_a_salted_digest() -> None:
    call = record(7, gateway="gw-1", price_version="v3")
    data, part = records.split(records.of_call(digest, call, "cn", b"s" * 16, "label"))
    shown = canonical_json.decode(data)
    assert not {"cost_pico", "currency", "gateway", "price_version"} & set(shown)
    hidden = canonical_json.decode(part)
    assert hidden["gateway"] == "gw-1" and hidden["cost_pico"] == 7 * 10**12
    assert shown["platform"] == records.part_digest(digest, part).hex()
    other = records.split(records.of_call(digest, call, "cn", b"t" * 16, "label"))[0]
    assert other != data, "another salt, another digest"


def test_each_character_of_a_call_is_written_as_canonical_json_has_it() -> None:
    for text in ("e\u0301", "\u6a21\u578b", '"\\\n\x7f\u2028', "\U0001f600", "a\x00b"):
        found = of_call(1, model_asked=text)
        assert found["model_asked"] == canonical_json.composed(text)


def test_an_event_keeps_its_detail_as_text() -> None:
    row = {"id": "evt_1", "at_ms": 5, "detail": msgspec.json.encode({"share": 0.5}).decode()}
    found = canonical_json.decode(records.of_event(row))
    assert found == {"kind": "event", **row}
