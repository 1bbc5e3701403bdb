"""The 5-second promise, on real processes: five clouds, one of them broken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests import web
from tests.faulty import FAULTS, PROMPT_TOKENS, FaultyClouds, call, load, text_of
from tests.stack import PRICES, Stack
from tests.waiting import until

WORDS = 20


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultyClouds, Stack]]:
    clouds = FaultyClouds()
    stack = Stack(
        tmp_path_factory.mktemp("faulty"), "http://unused", upstreams=clouds.upstreams(PRICES)
    ).start()
    yield clouds, stack
    stack.close()
    clouds.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_five_second_failover(faulty: tuple[FaultyClouds, Stack], fault: str) -> None:
    """Promise: within 5 s after any single fault every caller has its first token, whole."""
    clouds, stack = faulty
    asyncio.run(load(stack.url, stack.key, 20, 0.5, WORDS))
    clouds.break_cloud(0, fault)
    try:
        seen = asyncio.run(load(stack.url, stack.key, 20, 2, WORDS))
    finally:
        clouds.break_cloud(0, "")
    assert clouds.clouds[0].calls, "the broken cloud was not even asked"
    for one in seen:
        assert one.whole, (fault, one.status, one.error, one.text)
        assert one.text == text_of(WORDS), fault
        assert one.first_s is not None and one.first_s < 5
        assert len(one.ids) == 1, "a caller saw two answers in one"
    rows = [stack.row_of(one.id) for one in seen[:5]]
    assert [row["completion_tokens"] for row in rows] == [WORDS] * 5
    assert all(row["prompt_tokens"] == PROMPT_TOKENS for row in rows)


def test_streams_cut_anywhere_are_gone_on_with(faulty: tuple[FaultyClouds, Stack]) -> None:
    clouds, stack = faulty
    for number in range(4):
        clouds.break_cloud(number, "cut")
    resumed = sum(cloud.resumed for cloud in clouds.clouds)
    try:
        seen = asyncio.run(load(stack.url, stack.key, 30, 1, WORDS))
    finally:
        for number in range(4):
            clouds.break_cloud(number, "")
    assert sum(cloud.resumed for cloud in clouds.clouds) > resumed
    for one in seen:
        if one.whole:
            assert one.text == text_of(WORDS)
            assert one.usage is not None
            assert one.usage["completion_tokens"] == WORDS
            assert one.usage["prompt_tokens"] == PROMPT_TOKENS
        else:
            # Three upstreams broke off one after the other: said so, nothing repeated.
            assert one.error == "upstream_interrupted"
            assert text_of(WORDS).startswith(one.text)
    assert sum(one.whole for one in seen) >= 0.8 * len(seen)


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_object"}},
        {"n": 2},
        {"logprobs": True},
        {"stop": ["w19"]},
        {"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
    ids=str,
)
def test_what_cannot_be_gone_on_with_ends_with_an_error(
    faulty: tuple[FaultyClouds, Stack], body: dict[str, object]
) -> None:
    clouds, stack = faulty

    async def one() -> object:
        async with httpx.AsyncClient(timeout=30) as client:
            return await call(client, stack.url, stack.key, WORDS, **body)

    for number in range(5):
        clouds.break_cloud(number, "cut")
    try:
        seen = asyncio.run(one())
    finally:
        for number in range(5):
            clouds.break_cloud(number, "")
    assert seen.error == "upstream_interrupted" and not seen.ended  # type: ignore[attr-defined]
    row = stack.row_of(seen.id)  # type: ignore[attr-defined]
    assert row["outcome"] == "partial"


def test_a_stream_that_breaks_off_has_its_receipt_before_the_error(
    faulty: tuple[FaultyClouds, Stack],
) -> None:
    clouds, stack = faulty
    asked = {
        "model": "m", "stream": True, "n": 2, "max_tokens": WORDS,
        "messages": [{"role": "user", "content": "go"}],
    }  # fmt: skip
    for number in range(5):
        clouds.break_cloud(number, "cut")
    try:
        reply = httpx.post(
            f"{stack.url}/v1/chat/completions", json=asked, timeout=30,
            headers=stack.headers | {"x-tc-audit-receipt": "1"},
        )  # fmt: skip
    finally:
        for number in range(5):
            clouds.break_cloud(number, "")
    before, _, after = reply.text.partition(": x-tc-audit-receipt: r1.")
    assert "data: " in before and "upstream_interrupted" in after


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultyClouds, Stack]]:
    """Clouds that are asked for streams whatever callers want."""
    clouds = FaultyClouds(3)
    upstreams = [entry | {"stream_whole": True} for entry in clouds.upstreams(PRICES)]
    stack = Stack(
        tmp_path_factory.mktemp("early"), "http://unused", upstreams=upstreams,
        routing={"policy": "cost-first", "explore": 0.0},
    ).start()  # fmt: skip
    yield clouds, stack
    stack.close()
    clouds.close()


@pytest.mark.parametrize("fault", ["", "black hole", "cut", "error event", "503"])
def test_whole_answers_fail_over_too_when_they_are_streamed_on_the_way(
    early: tuple[FaultyClouds, Stack], fault: str
) -> None:
    clouds, stack = early
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": WORDS}
    answered = clouds.clouds[0].answered

    def answers_again() -> bool:
        web.post(f"{stack.url}/v1/chat/completions", json=body, headers=stack.headers)
        return clouds.clouds[0].answered > answered

    until(answers_again)  # what was broken before
    calls = clouds.clouds[0].calls
    clouds.break_cloud(0, fault)
    try:
        for _ in range(3):
            reply = web.post(
                f"{stack.url}/v1/chat/completions", json=body, headers=stack.headers, timeout=20
            )
            answer = reply.json()
            assert reply.status_code == 200, answer
            assert answer["object"] == "chat.completion"
            assert answer["choices"][0]["message"]["content"] == text_of(WORDS)
            assert answer["choices"][0]["finish_reason"] == "stop"
            assert answer["usage"]["completion_tokens"] == WORDS
            assert reply.elapsed.total_seconds() < 5
            row = stack.row_of(reply)
            assert (row["completion_tokens"], row["usage_source"]) == (WORDS, "provider")
    finally:
        clouds.break_cloud(0, "")
    assert clouds.clouds[0].calls > calls


def test_a_caller_can_ask_how_its_upstream_was_found(
    faulty: tuple[FaultyClouds, Stack],
) -> None:
    _, stack = faulty
    reply = web.post(
        f"{stack.url}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3},
        headers={
            "authorization": f"Bearer {stack.new_key(routing_details=True)}",
            "x-tc-route": "1",
        },
        timeout=10,
    )
    told = reply.headers["x-tc-route"]
    assert all(f"cloud{number} " in told for number in range(5))
    assert told.endswith("=ok") and "ttft=" in told and "cost=" in told
