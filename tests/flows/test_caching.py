"""Answers given a second time, through real processes: which, to whom, in what form, at what price."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from redis import Redis

from tests import web
from tests.servers import RedisStack
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until


def ask(
    stack: Stack, text: str, key: str | None = None, cache: str = "", **more: Any
) -> httpx.Response:
    headers = stack.headers if key is None else {"authorization": f"Bearer {key}"}
    if cache:
        headers = headers | {"x-tc-cache": cache}
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": text}]} | more
    return web.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def text_of(reply: httpx.Response) -> str:
    if "event-stream" not in reply.headers["content-type"]:
        return str(reply.json()["choices"][0]["message"]["content"])
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks_of(reply)
        for choice in chunk["choices"]
    )


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_same_question_is_answered_once_and_the_second_time_for_half(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    stack, upstream = cached
    before = len(upstream.requests)
    first, second = ask(stack, "What is free?"), ask(stack, "What is free?")
    assert len(upstream.requests) == before + 1
    assert first.headers["x-tc-cache"] == "miss" and second.headers["x-tc-cache"] == "hit-exact"
    assert int(second.headers["age"]) <= 5
    one, two = first.json(), second.json()
    assert one["id"] != two["id"] and one["choices"] == two["choices"]
    assert one["usage"]["total_tokens"] == two["usage"]["total_tokens"]
    paid, again = stack.row_of(first), stack.row_of(second)
    assert (paid["cache"], again["cache"]) == ("miss", "hit-exact")
    # What upstreams produced and what the ledger says stay equal: a hit adds nothing.
    assert (again["prompt_tokens"], again["completion_tokens"], again["cost_pico"]) == (0, 0, 0)
    assert again["saved_tokens"] == one["usage"]["total_tokens"]
    assert again["saved_pico"] == paid["cost_pico"] > 0
    assert again["charge_pico"] == paid["charge_pico"] // 2
    assert again["model_served"] == paid["model_served"] and again["upstream"] == ""


@pytest.mark.parametrize("first_streams", [True, False])
def test_a_stream_is_replayed_whole_and_a_whole_answer_as_a_stream(
    cached: tuple[Stack, UpstreamSimulator], first_streams: bool
) -> None:
    stack, upstream = cached
    pieces = [
        "你好，",
        "这是一个",
        "很长的中文回答，",
        "需要按字切开。",
        "一二三四五六七八九十" * 3,
    ]
    sim = {"text": pieces, "id": f"replay-{first_streams}"}
    first = ask(stack, "你好", stream=first_streams, x_sim=sim)
    before = len(upstream.requests)
    usage = {"stream_options": {"include_usage": True}} if not first_streams else {}
    second = ask(stack, "你好", stream=not first_streams, x_sim=sim, **usage)
    assert len(upstream.requests) == before
    assert second.headers["x-tc-cache"] == "hit-exact"
    assert text_of(first) == text_of(second) == "".join(pieces)
    if first_streams:
        assert second.json()["usage"]["completion_tokens"] > 0
        return
    chunks = chunks_of(second)
    assert len({chunk["id"] for chunk in chunks}) == 1
    shown = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert len([s for s in shown if s]) >= len("".join(pieces)) // 12, "in one burst"
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_the_official_client_and_other_doors_get_it_too(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    stack, upstream = cached
    client = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key)
    messages: Any = [{"role": "user", "content": "Which door?"}]
    whole = client.chat.completions.create(model="sim-chat", messages=messages, max_tokens=64)
    before = len(upstream.requests)
    stream = client.chat.completions.create(
        model="sim-chat", messages=messages, max_tokens=64, stream=True
    )
    said = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert said == whole.choices[0].message.content
    reply = web.post(
        f"{stack.url}/v1/messages",
        json={"model": "sim-chat", "max_tokens": 64, "messages": messages},
        headers={"x-api-key": stack.key, "anthropic-version": "2023-06-01"},
    )
    assert reply.headers["x-tc-cache"] == "hit-exact", reply.text
    assert reply.json()["content"][0]["text"] == said
    assert len(upstream.requests) == before


def test_callers_say_what_they_want(cached: tuple[Stack, UpstreamSimulator]) -> None:
    stack, upstream = cached
    missing = ask(stack, "directives", cache="only-if-cached")
    assert (missing.status_code, missing.json()["error"]["code"]) == (504, "not_cached")
    assert ask(stack, "directives", cache="no-store").headers["x-tc-cache"] == "bypass:asked"
    assert ask(stack, "directives", cache="only-if-cached").status_code == 504
    assert ask(stack, "directives", cache="no-cache").headers["x-tc-cache"] == "miss"
    assert ask(stack, "directives", cache="only-if-cached").status_code == 200
    assert ask(stack, "directives", cache="max-age=100").headers["x-tc-cache"] == "hit-exact"
    time.sleep(1.1)  # the age itself: it has to be over a second
    assert ask(stack, "directives", cache="max-age=1").headers["x-tc-cache"] == "miss"
    before = len(upstream.requests)
    wrong = ask(stack, "directives", cache="please")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-tc-cache")
    assert len(upstream.requests) == before


@pytest.mark.parametrize(
    "more",
    [
        {"x_sim": {"reason": "length"}},
        {"x_sim": {"reason": "content_filter"}},
        {"x_sim": {"text": [""]}},
        {"x_sim": {"status": 500}},
        {"stream": True, "x_sim": {"cut_after": 2}},
        {"temperature": 0.9},
        {"n": 2},
        {"logprobs": True},
    ],
    ids=json.dumps,
)
def test_what_is_not_a_whole_good_answer_is_not_given_again(
    cached: tuple[Stack, UpstreamSimulator], more: dict[str, Any]
) -> None:
    stack, upstream = cached
    text = f"Not twice: {json.dumps(more)}"
    for _ in range(2):
        before = len(upstream.requests)
        reply = ask(stack, text, **more)
        assert len(upstream.requests) > before, reply.text
        assert reply.headers.get("x-tc-cache", "miss").partition(":")[0] in ("miss", "bypass")


@pytest.mark.parametrize("text", ["我的订单到哪里了？", "Where is my order?"])
def test_what_is_one_persons_is_not_given_to_another(
    cached: tuple[Stack, UpstreamSimulator], text: str
) -> None:
    stack, upstream = cached
    before = len(upstream.requests)
    assert ask(stack, text).status_code == ask(stack, text).status_code == 200
    assert len(upstream.requests) == before + 2


def test_tenants_projects_and_systems_never_share(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    """Promise: no answer crosses from one tenant, project or system prompt to another."""
    stack, upstream = cached
    keys = [
        stack.new_key(tenant="one", project="a"), stack.new_key(tenant="one", project="b"),
        stack.new_key(tenant="two", project="a"),
        stack.new_key(tenant="two", project="a", environment="test"),
    ]  # fmt: skip
    before = len(upstream.requests)
    for key in keys:
        assert ask(stack, "Shared?", key).headers["x-tc-cache"] == "miss"
        assert ask(stack, "Shared?", key, cache="only-if-cached").status_code == 200
        for system in ("You are A.", "You are B."):
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": "Shared?"},
            ]
            assert ask(stack, "", key, messages=messages).headers["x-tc-cache"] == "miss"
    assert len(upstream.requests) == before + 3 * len(keys)
    off = stack.new_key(tenant="plain")
    assert ask(stack, "Shared?", off).headers["x-tc-cache"] == "bypass:off"


@pytest.mark.parametrize("streams", [True, False])
def test_identical_calls_in_flight_ask_one_upstream_once(
    cached: tuple[Stack, UpstreamSimulator], streams: bool
) -> None:
    stack, upstream = cached
    sim = {"delay_s": 1.5, "pause_s": 0.02, "tokens": 20, "id": f"flight-{streams}"}
    before = len(upstream.requests)
    with ThreadPoolExecutor(20) as pool:
        replies = list(
            pool.map(
                lambda _: ask(stack, f"flight {streams}", stream=streams, x_sim=sim), range(20)
            )
        )
    assert len(upstream.requests) == before + 1
    assert len({text_of(reply) for reply in replies}) == 1
    rows = [stack.row_of(reply) for reply in replies]
    found = [row["cache"] for row in rows]
    # Who comes after it is over gets it from memory.
    assert found.count("miss") == 1 and set(found) <= {"miss", "hit-inflight", "hit-exact"}
    assert found.count("hit-inflight") >= 5
    paid = next(row for row in rows if row["cache"] == "miss")
    assert sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows) == (
        paid["prompt_tokens"] + paid["completion_tokens"]
    )
    assert {row["saved_tokens"] for row in rows if row is not paid} == {
        paid["prompt_tokens"] + paid["completion_tokens"]
    }
    assert {row["charge_pico"] for row in rows if row is not paid} == {paid["charge_pico"] // 2}


def test_a_long_stream_is_not_held_in_memory(own_stack: Any, upstream: UpstreamSimulator) -> None:
    """Field failure 9: 40 streams of 8 MB, none of which may be kept, leave memory as it was."""
    upstream.reset()
    stack = own_stack(cache={"mode": "exact"}).start()
    sim = {"large": [200, 40_000]}

    def resident() -> float:
        text = stack.metrics()
        return float(re.search(r"tokenschain_resident_bytes{[^}]*} (\S+)", text)[1])  # type: ignore[index]

    for number in range(5):
        ask(stack, f"long {number}", stream=True, x_sim=sim | {"id": f"w{number}"})
    until(lambda: stack.counted() == 5)
    before = resident()
    for number in range(40):
        reply = ask(stack, f"long {number}", stream=True, x_sim=sim | {"id": str(number)})
        assert len(text_of(reply)) == 200 * 40_000
        assert reply.headers["x-tc-cache"] == "miss"
    until(lambda: stack.counted() == 45)
    assert resident() - before < 30_000_000


def test_who_follows_a_call_that_fails_asks_for_itself(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    stack, _ = cached
    sim = {"delay_s": 0.5, "id": "follow", "fail_first": True}
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: ask(stack, "follow", x_sim=sim), range(5)))
    assert sorted(r.status_code for r in replies)[:4] == [200] * 4


def test_a_leader_who_leaves_takes_nobody_with_him(
    cached: tuple[Stack, UpstreamSimulator],
) -> None:
    stack, upstream = cached
    sim = {"delay_s": 1.0, "id": "leaves"}
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "leaves"}], "x_sim": sim}

    def lead() -> None:
        with pytest.raises(httpx.ReadTimeout):
            web.post(
                f"{stack.url}/v1/chat/completions", json=body, headers=stack.headers, timeout=0.5
            )

    leader = threading.Thread(target=lead)
    before = len(upstream.requests)
    leader.start()
    until(lambda: len(upstream.requests) > before)
    follower = ask(stack, "leaves", x_sim=sim)
    leader.join()
    assert follower.status_code == 200


def test_what_is_flushed_is_gone_within_a_second(cached: tuple[Stack, UpstreamSimulator]) -> None:
    stack, _ = cached

    def flush(**what: Any) -> dict[str, Any]:
        reply = stack.admin("POST", "/api/v1/cache/flush", json=what)
        assert reply.status_code == 200, reply.text
        stack.until_served()
        found: dict[str, Any] = reply.json()
        return found

    def cached_now(text: str) -> bool:
        return ask(stack, text, cache="only-if-cached").status_code == 200

    for text in ("flush a", "flush b"):
        ask(stack, text)
    hit = ask(stack, "flush a")
    stack.row_of(hit)
    worth = flush(tenant="default", entry=hit.headers["x-tc-cache-key"], dry_run=True)
    assert (worth["hits_last_day"], worth["flushed_until"]) == (1, None)
    assert cached_now("flush a")
    flush(tenant="default", entry=hit.headers["x-tc-cache-key"])
    assert not cached_now("flush a") and cached_now("flush b")
    ask(stack, "flush a")
    assert cached_now("flush a"), "what is stored later is given again"
    flush(tenant="another")
    assert cached_now("flush a")
    flush(tenant="default", model="sim-chat")
    assert not cached_now("flush a") and not cached_now("flush b")
    refused = stack.admin("POST", "/api/v1/cache/flush", json={"entry": "0" * 32})
    assert refused.status_code == 400


def test_an_answer_somebody_calls_wrong_is_dropped(cached: tuple[Stack, UpstreamSimulator]) -> None:
    stack, _ = cached

    def say(reply: httpx.Response, right: bool) -> httpx.Response:
        body = {"request_id": reply.headers["x-request-id"], "right": right}
        return stack.admin("POST", "/api/v1/cache/feedback", json=body)

    first, second = ask(stack, "feedback"), ask(stack, "feedback")
    stack.row_of(second)
    assert say(first, False).json()["error"]["code"] == "invalid_value"
    assert say(second, True).json()["dropped"] is False
    assert ask(stack, "feedback").headers["x-tc-cache"] == "hit-exact"
    assert say(second, False).json()["dropped"] is True
    stack.until_served()
    assert ask(stack, "feedback").headers["x-tc-cache"] == "miss"
    unknown = {"request_id": "req_none", "right": False}
    assert stack.admin("POST", "/api/v1/cache/feedback", json=unknown).status_code == 404


def test_what_the_cache_did_and_saved_is_told(cached: tuple[Stack, UpstreamSimulator]) -> None:
    stack, _ = cached
    for _ in range(3):
        last = ask(stack, "statistics")
    row = stack.row_of(last)
    assert f"{row['cache_confidence']:.3f}" == last.headers["x-tc-cache-confidence"] == "1.000"
    rows = stack.admin("GET", "/api/v1/cache/stats?tenant=default").json()["data"]
    exact = [r for r in rows if r["cache"] == "hit-exact" and r["model"] == "sim-chat"]
    assert sum(r["calls"] for r in exact) >= 2
    assert sum(r["saved_pico"] for r in exact) > 0 and exact[0]["currency"] == "CNY"


def test_the_commands_warm_tell_and_flush(
    cached: tuple[Stack, UpstreamSimulator], tmp_path: Path
) -> None:
    stack, upstream = cached
    questions = tmp_path / "questions"
    request = {"messages": [{"role": "user", "content": "warm three"}], "max_tokens": 5}
    questions.write_text(f"warm one\nwarm two\n{json.dumps(request)}\n")

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tokenschain", "cache", *arguments],
            env=stack.environment | {"TC_API_KEY": stack.key, "COLUMNS": "200"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert "3 answered and kept" in command("warm", str(questions), "--model", "sim-chat")
    before = len(upstream.requests)
    assert "3 were there already" in command("warm", str(questions), "--model", "sim-chat")
    last = ask(stack, "warm one")
    assert last.headers["x-tc-cache"] == "hit-exact" and len(upstream.requests) == before
    stack.row_of(last)
    shown = command("stats", "--tenant", "default")
    assert "sim-chat" in shown and "hit-exact" in shown and "CNY" in shown
    assert "would drop" in command("flush", "--tenant", "default", "--dry-run")
    assert "dropped" in command("flush", "--tenant", "default")
    stack.until_served()
    assert ask(stack, "warm one").headers["x-tc-cache"] == "miss"


def test_gateways_share_answers_through_redis_and_go_on_without_it(
    own_stack: Any, upstream: UpstreamSimulator, redis: RedisStack
) -> None:
    redis.flush()
    stack = own_stack(cache={"mode": "exact"}, gateways=2, redis={"url": redis.url}).start()
    first, second = stack.urls[:2]
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "shared by Redis"}]}

    def at(url: str, **more: Any) -> httpx.Response:
        return web.post(
            f"{url}/v1/chat/completions", json=body | more, headers=stack.headers, timeout=30
        )

    at(first)
    deadline = time.monotonic() + 30
    while at(second).headers["x-tc-cache"] != "hit-exact":
        assert time.monotonic() < deadline
    with Redis.from_url(redis.url) as client:
        kept = [client.get(name) for name in client.scan_iter("*answer:*")]
    assert kept and not any(b"Redis" in value or b"word0" in value for value in kept)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(5):
            assert at(second, user="x", seed=number).status_code == 200
        assert time.monotonic() - began < 15
    finally:
        redis.process.send_signal(signal.SIGCONT)
