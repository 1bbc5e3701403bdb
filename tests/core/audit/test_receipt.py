"""Receipts name a call and commit to what its record says."""

from __future__ import annotations

from hashlib import sha256

import pytest

from tests.records import record
from tokenschain.core.audit import canonical_json, receipt, records


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


CALL = record(7, model_served="模型e\u0301", sequence=3)
GIVEN = receipt.issued(digest, "label", b"s" * 16, CALL)


def sealed(**fields: object) -> dict[str, object]:
    line = records.of_call(
        digest, record(7, model_served="模型e\u0301", sequence=3), "cn", b"", "label"
    )
    return canonical_json.decode(records.split(line)[0]) | fields


def test_a_receipt_is_of_the_record_that_was_sealed_of_its_call() -> None:
    assert GIVEN.is_of(digest, sealed())
    assert receipt.parsed(f"{GIVEN.body()}.code") == (GIVEN, "code")


@pytest.mark.parametrize(
    "fields",
    [{"completion_tokens": 13}, {"status": 500}, {"model_served": "other"}, {"tenant": "t9"},
     {"sequence": 4}, {"gateway_label": "other"}, {"id": "req_other"}, {"at_ms": 1}],
)  # fmt: skip
def test_another_record_is_not_what_the_receipt_was_given_for(fields: dict[str, object]) -> None:
    assert not GIVEN.is_of(digest, sealed(**fields))


@pytest.mark.parametrize(
    "text", ["", "r1", "r1.a.b.x.1.s.c.t.m", "r1.a.b.1.1.s.c.m", "r2.a.b.1.1.s.c.t.m",
             "r1.a.b.01.1.s.c.t.m", "r1.a.b.+1.1.s.c.t.m", "r1." + "a" * 1_000 + ".b.1.1.s.c.t.m"],
)  # fmt: skip
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        receipt.parsed(text)
