"""Segments: headers follow each other, and say what they hold."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from tokenschain.core.audit import canonical_json, segment
from tokenschain.core.audit.canonical_json import NotCanonical
from tokenschain.core.audit.segment import Header, Position


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


FIRST = Position("log", 0, 0, 1_000, segment.FIRST_PREVIOUS)


def made(at: Position, records: list[bytes], until_ms: int = 2_000) -> Header:
    return segment.sealed_header(digest, at, records, until_ms, {"gw": 1}, "suite", "00")


def test_a_header_is_read_back_and_followed_by_the_next() -> None:
    first = made(FIRST, [b"a", b"b"])
    data = segment.encode(first)
    assert segment.decode(data) == first
    second = made(segment.next_position(digest, first, data), [], 3_000)
    assert (second.number, second.first_sequence, second.count) == (1, 2, 0)
    assert segment.problem_after(digest, None, first) == ""
    assert segment.problem_after(digest, (first, data), second) == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", 3), ("first_sequence", 1), ("from_ms", 1), ("previous", "00"), ("log", "other"),
     ("until_ms", 1_999)],
)  # fmt: skip
def test_a_header_that_does_not_follow_is_named_by_its_field(field: str, value: object) -> None:
    first = made(FIRST, [b"a", b"b"])
    data = segment.encode(first)
    second = made(segment.next_position(digest, first, data), [], 3_000)
    wrong = msgspec.structs.replace(second, **{field: value})
    assert segment.problem_after(digest, (first, data), wrong)


def test_a_header_with_another_field_or_too_many_records_is_none() -> None:
    fields = msgspec.structs.asdict(made(FIRST, []))
    for wrong in (
        {"more": 1},
        {"count": segment.RECORDS_MAX + 1},
        {"v": 1},
        {"v": 3},
        {"count": "1"},
    ):
        with pytest.raises(NotCanonical):
            segment.decode(canonical_json.encode(fields | wrong))


def test_of_many_gateways_the_last_are_counted_together() -> None:
    many = {f"gw-{n:03d}": 1 for n in range(segment.GATEWAYS_MAX + 10)}
    header = segment.sealed_header(digest, FIRST, [], 2_000, many, "suite", "00")
    assert sum(header.gateways.values()) == len(many) and header.gateways[""] == 10
    assert len(segment.encode(header)) < segment.HEADER_BYTES_MAX
