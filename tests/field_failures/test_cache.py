"""Field failures 23 and 24: the cache answers wrongly, or keeps what it must not.

What is asked of whom is in tests/core/cache/test_key.py and tests/semantic/test_guards.py; whole
calls through real processes in tests/flows/test_caching.py.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.cache import response
from tokenschain.core.cache.directives import directives_of, refusal_of, ttl_of
from tokenschain.core.cache.store import CacheEntry, CacheStore
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.snapshot.cache_rules import CacheRules

RULES = CacheRules(mode="exact")
BODY = b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}'


TARGET = response.ReplayTarget("req_1", 1, Api.CHAT, wants_usage=True)


def reply(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps(
        {"id": "a", "object": "chat.completion", "created": 1, "model": "served",
         "choices": [choice], "usage": usage}
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (reply({"content": "x"}, "length"), "finish_length"),
        (reply({"content": "x"}, "content_filter"), "finish_content_filter"),
        (reply({"content": ""}), "empty"),
        (reply({"content": None, "refusal": "no"}), "refusal"),
        (reply({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"), "tool_calls"),
        (b'{"error":{"message":"no"}}', "error"),
        (b"not json", "not_json"),
        (b'{"choices":[]}', "choices"),
        (reply({"content": "x" * 300_000}), "too_large"),
    ],
)
def test_24_what_must_not_be_kept_is_not(body: bytes, reason: str) -> None:
    assert refusal_of(body, RULES) == reason
    assert refusal_of(reply({"content": "fine"}), RULES) == ""
    with_tools = CacheRules(tool_calls=True)
    tools = reply({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls")
    assert refusal_of(tools, with_tools) == ""


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(_texts, st.none() | _texts, st.booleans())
def test_24_a_replayed_stream_is_the_answer_again(
    content: str, reasoning: str | None, tools: bool
) -> None:
    message: dict[str, Any] = {"content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if tools:
        arguments = json.dumps({"text": content}, ensure_ascii=False)
        message["tool_calls"] = [
            {"id": f"t{n}", "type": "function", "function": {"name": "f", "arguments": arguments}}
            for n in range(2)
        ]
    body = reply(message, "tool_calls" if tools else "stop")
    chunks = [data for _, data in response.chunks(body, TARGET)]
    again = json.loads(stream_aggregation.whole_of(chunks))
    before = json.loads(body)
    assert again["choices"] == before["choices"] and again["usage"] == before["usage"]
    assert again["id"] == "chatcmpl-req_1" and again["created"] == 1
    whole = json.loads(response.as_new(body, TARGET))
    assert whole == before | {"id": "chatcmpl-req_1", "created": 1}


@given(st.text(max_size=200))
def test_24_texts_are_cut_by_characters_and_nothing_that_belongs_together(text: str) -> None:
    pieces = list(response.pieces(text))
    assert "".join(pieces) == text
    assert all(not piece.startswith(("\u200d", "\ufe0f", "\u0301")) for piece in pieces[1:])
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert family in next(iter(response.pieces("a" * 11 + family)))


def test_23_what_is_of_the_moment_or_of_one_person_is_told_apart() -> None:
    assert ttl_of(RULES, "今天天气怎么样", False) == 300.0
    assert ttl_of(RULES, "What is the latest version?", False) == 300.0
    assert ttl_of(RULES, "我的订单到哪了", False) == "personal"
    assert ttl_of(RULES, "What is my account balance?", False) == "personal"
    assert ttl_of(RULES, "我的订单到哪了", True) == RULES.ttl_s
    assert ttl_of(RULES, "怎么退货", False) == RULES.ttl_s


def test_the_narrowest_rule_holds() -> None:
    rules = CacheRules(
        "exact",
        {"tenant/t": "off", "project/p": "semantic"},
        false_hit_rate_max={"*": 0.02, "model/m": 0.005},
    )
    assert rules.mode_of("t", "other", "m") == "off"
    assert rules.mode_of("t", "p", "m") == "semantic"
    assert rules.mode_of("other", "other", "m") == "exact"
    assert rules.false_hit_rate_max_of("t", "p", "m") == 0.005
    assert rules.false_hit_rate_max_of("t", "p", "other") == 0.02
    assert CacheRules().false_hit_rate_max_of("t", "p", "m") == 0.01


def entry(tenant: str, size: int) -> CacheEntry:
    return CacheEntry(b"x" * size, tenant, "m", 0.0, 100.0)


def test_23_one_tenant_cannot_push_the_others_out() -> None:
    store = CacheStore(100_000, 0.5)
    assert store.put(b"other", entry("b", 1_000))
    assert all(store.put(b"%d" % n, entry("a", 1_000)) for n in range(200))
    kept = sum(store.get(b"%d" % n, 1.0) is not None for n in range(200))
    assert 30 < kept < 40, "a tenant may fill half of the memory"
    assert store.get(b"199", 1.0) is not None, "its own old answers give way to its new ones"
    assert store.get(b"other", 1.0) is not None
    assert store.bytes_held <= 100_000
    assert store.get(b"other", 100.0) is None, "too old"


def test_23_what_is_asked_often_stays() -> None:
    store = CacheStore(50_000, 1.0)
    store.put(b"often", entry("a", 500))
    for number in range(2_000):
        store.get(b"often", 1.0)
        store.put(b"once %d" % number, entry("a", 500))
    assert store.get(b"often", 1.0) is not None
    assert len(store) <= 56 and store.bytes_held <= 50_000


def test_23_who_has_most_gives_way_where_all_is_full() -> None:
    store = CacheStore(20_000, 0.9)
    for number in range(12):
        store.put(b"large %d" % number, entry("a", 1_000))
    for number in range(30):
        store.put(b"small %d" % number, entry(f"t{number % 3}", 100))
        assert store.bytes_held <= 20_000
    assert all(store.get(b"small %d" % number, 1.0) for number in range(10, 30))


def test_23_what_cost_more_stays_longer() -> None:
    """Half of the questions go to a model at twenty times the price; all are as frequent."""
    rng = random.Random(1)
    store = CacheStore(100_000, 1.0)
    found = {"cheap": 0, "dear": 0}
    for _ in range(20_000):
        number = int(500 * rng.random() ** 3)
        kind = rng.choice(("cheap", "dear"))
        key = f"{kind} {number}".encode()
        if store.get(key, 1.0) is not None:
            found[kind] += 1
        else:
            made = entry("a", 500)
            made.cost_pico = 20_000 if kind == "dear" else 1_000
            store.put(key, made)
    assert found["dear"] > 1.1 * found["cheap"] > 1_000


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4_000), st.booleans()), max_size=200))
def test_23_bytes_are_counted_right_whatever_comes(
    steps: list[tuple[int, int, bool]],
) -> None:
    store = CacheStore(20_000, 0.6)
    for number, size, drops in steps:
        key = b"%d" % number
        if drops:
            store.drop(key)
        else:
            store.put(key, entry(f"t{number % 3}", size))
        assert 0 <= store.bytes_held <= 20_000
    for number in range(41):
        store.drop(b"%d" % number)
    assert (store.bytes_held, len(store), len(store._queues)) == (0, 0, 0)


@pytest.mark.parametrize("header", [b"", b"no-cache,,", b"max-age=-1", b"max-age=x", b"private"])
def test_a_header_nobody_knows_is_an_error(header: bytes) -> None:
    with pytest.raises(ApiError):
        directives_of(header)
