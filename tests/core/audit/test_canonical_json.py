"""Canonical JSON: what means the same has one sequence of bytes, and others are refused."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.audit import canonical_json
from tokenschain.core.audit.canonical_json import NotCanonical

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), VALUES, max_size=5))
def test_it_is_what_the_standard_library_writes_with_sorted_keys(value: dict[str, Any]) -> None:
    try:
        data = canonical_json.encode(value)
    except NotCanonical as error:
        assert "levels" in str(error) or "NFC" in str(error)
        return
    read = json.loads(data)
    again = json.dumps(read, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert again.encode() == data
    assert canonical_json.decode(data) == read


def test_every_character_is_written_as_the_standard_library_writes_it() -> None:
    points = [p for p in range(0x110000) if not 0xD800 <= p <= 0xDFFF]
    for at in range(0, len(points), 10_000):
        text = unicodedata.normalize("NFC", "".join(map(chr, points[at : at + 10_000])))
        data = canonical_json.encode({"t": text})
        assert data == json.dumps({"t": text}, ensure_ascii=False, separators=(",", ":")).encode()


AMBIGUOUS = [
    b'{"a":1.0}', b'{"a":1e2}', b'{"a":-0}', b'{"a":01}', b'{"b":1,"a":2}', b'{"a":1,"a":1}',
    b'{"a":1,"a":2}', b'{ "a":1}', b'{"a":1}\n', b'\xef\xbb\xbf{"a":1}', b'{"a":"\\u0061"}',
    b'{"a":"\\/"}', b'{"a":"\\u000A"}', b'{"a":"\\u000a"}', b'{"a":"e\xcc\x81"}',
    b'{"e\xcc\x81":1}', b'{"a":"\\ud800"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xff"}',
    b'{"a":NaN}', b'{"a":9223372036854775808}', b"[1]", b"1", b"", b'{"a":1}{"a":1}',
    b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", b'{"a":"' + b"x" * canonical_json.BYTES_MAX + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("data", AMBIGUOUS, ids=lambda data: repr(data[:30]))
def test_what_could_be_written_otherwise_is_refused(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        canonical_json.decode(data)


@pytest.mark.parametrize("value", [1.0, 2**64, b"bytes", {1, 2}, "\ud800"])
def test_what_has_no_canonical_form_is_not_written(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical_json.encode({"a": value})


def test_text_is_brought_into_one_form() -> None:
    assert canonical_json.encode({"a": "e\u0301"}) == canonical_json.encode({"a": "\u00e9"})
