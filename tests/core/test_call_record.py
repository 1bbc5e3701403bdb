"""Call records: what an older gateway wrote is read with today's words."""

from __future__ import annotations

import pytest

from tokenschain.core.call_record import CallRecord, HitKind, decode, encode


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("exact", HitKind.EXACT),
        ("shared", HitKind.INFLIGHT),
        ("semantic", HitKind.SEMANTIC),
        ("hit-exact", HitKind.EXACT),
        ("miss", "miss"),
        ("bypass", "bypass"),
    ],
)
def test_hits_in_journals_of_the_version_before_count_as_hits(written: str, read: str) -> None:
    record = CallRecord("req_1", 1_700_000_000_000, "chat/completions", cache=written)
    assert decode(encode(record)).cache == read
