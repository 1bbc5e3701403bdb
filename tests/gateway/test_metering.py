"""The journal record of a call: what each step made of it, and nothing else."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.fakes import BODY, GRANT, call_of
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import CacheResult, Call, Hit
from tokenschain.core.call_record import HitKind, decode, encode
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.tags import tags_of
from tokenschain.gateway.metering import hit_record_of, record_of


def served() -> Call:
    call = call_of(BODY)
    call.caller = GRANT
    call.parsed = parse(Api.CHAT, BODY)
    return call


def test_a_call_that_no_step_touched_is_recorded_as_such() -> None:
    record = decode(encode(record_of(call_of(BODY), 2.0)))
    assert (record.event_id, record.api, record.bytes_in) == (
        "req_1",
        "chat/completions",
        len(BODY),
    )
    assert (record.tenant, record.tags, record.cache, record.cache_reason) == ("", "", "bypass", "")
    assert record.total_ms == 2_000.0 and record.moderation == "not_scanned"


def test_the_tags_are_recorded_as_they_were_parsed() -> None:
    call = served()
    call.tags = tags_of(b" vip , subject=math", ("team=a",))
    assert record_of(call, 0.0).tags == "team=a,vip,subject=math"


def test_what_the_cache_did_is_recorded_with_its_reason_key_and_confidence() -> None:
    call = served()
    call.cache = CacheResult("bypass", "temperature")
    record = record_of(call, 0.0)
    assert (record.cache, record.cache_reason) == ("bypass", "temperature")
    result = call.cache = CacheResult(HitKind.SEMANTIC)
    result.hit_confidence = 0.97
    result.hit = Hit(HitKind.SEMANTIC, CacheEntry(b"{}", "t", "m", -5.0, 1.0), b"\x01\x02")
    record = decode(encode(record_of(call, 0.0)))
    assert (record.cache, record.cache_key, record.cache_age_s) == ("hit-semantic", "0102", 5.0)
    assert record.cache_confidence == 0.97


@pytest.mark.parametrize("kind", [HitKind.EXACT, HitKind.SEMANTIC])
def test_the_record_of_a_hit_says_what_that_of_any_call_does_and_what_was_saved(
    kind: HitKind,
) -> None:
    call = served()
    call.request = structs.replace(call.request, received_at=1.5, started_ms=9_000)
    call.tags, call.snapshot_version = tags_of(b"vip", ()), "7"
    result = call.cache = CacheResult(kind)
    result.hit_confidence = 0.97 if kind is HitKind.SEMANTIC else 1.0
    entry = CacheEntry(b"{}", "t", "m-large", 4.0, 1.0, 30, 12, 500, "CNY", "v1")
    result.hit = Hit(kind, entry, b"\x01\x02")
    slow = record_of(call, 2.0, "gateway-1")
    quick = hit_record_of(call, "0102", entry, 2.0, "gateway-1")
    assert (quick.total_ms, quick.cache_key, quick.cache_age_s) == (500.0, "0102", 5.0)
    saved = {
        "model_served": "m-large", "currency": "CNY", "usage_source": "cache",
        "saved_tokens": 42, "saved_pico": 500,
    }  # fmt: skip
    assert structs.asdict(quick) == structs.asdict(slow) | saved


def test_an_answer_that_broke_off_is_partial_and_keeps_its_status() -> None:
    call = served()
    call.fail(ApiError("upstream_interrupted", "it broke off"))
    assert record_of(call, 0.0).outcome == "upstream_interrupted"
    call.partial = True
    record = record_of(call, 0.0)
    assert (record.status, record.outcome, record.error) == (200, "partial", "upstream_interrupted")
