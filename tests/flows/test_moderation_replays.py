"""Moderation of what is not asked of a model just now: answers from the cache, kept conversations,
and calls that share one call upstream, by the policy of today; and what is kept of a cut stream."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests import web
from tests.flows.test_labels import RULES
from tests.flows.test_moderation import case_of
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

TENANT = "replayed"
NEW = "今日禁语"
"""A word that nobody minds at first."""
CALLS = 8
"""At once; two batches are under way, what else comes waits."""
_numbers = itertools.count()


class House(NamedTuple):
    stack: Stack
    upstream: UpstreamSimulator
    key: str

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return web.post(f"{self.stack.url}/v1/{path}", json=body, headers=headers, timeout=30)

    def mind(self, *words: str, **more: Any) -> None:
        """From now on, these words are blocked for the tenant."""
        listed = [{"text": one, "risk": "A.1.h", "level": 3, "match": 2} for one in words]
        spec = {"state": "active", "scope": f"tenant/{TENANT}", "words": listed} | more
        reply = self.stack.admin("PUT", "/api/v1/moderation-policies/today", json={"spec": spec})
        assert reply.status_code == 200, reply.text
        self.stack.until_served()


@pytest.fixture
def house(cached: tuple[Stack, UpstreamSimulator]) -> Iterator[House]:
    stack, upstream = cached
    upstream.says = lambda request, sim: ["平常的话，", NEW, "，再说几句。"]  # type: ignore[method-assign]
    made = House(stack, upstream, stack.new_key(tenant=TENANT))
    made.mind("别的词")
    yield made
    del upstream.says
    assert stack.admin("DELETE", "/api/v1/moderation-policies/today").status_code == 200
    stack.until_served()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "sim-chat", "messages": [{"role": "user", "content": text}]} | more


def test_a_cached_answer_is_screened_by_the_policy_of_today(house: House) -> None:
    questions = [chat(f"cached {next(_numbers)}", stream=stream) for stream in (False, True)]
    for body in questions:
        assert NEW in house.post("chat/completions", body).text.replace("\\", "")
        assert house.post("chat/completions", body).headers["x-tc-cache"] == "hit-exact"
    house.mind(NEW)
    asked = len(house.upstream.requests)
    for body in questions:
        for stream in (False, True):
            again = house.post("chat/completions", body | {"stream": stream})
            assert again.headers["x-tc-cache"] == "hit-exact" and again.status_code == 200
            assert NEW not in again.text and "content_filter" in again.text
            assert house.stack.row_of(again)["moderation"] == "blocked"
    assert len(house.upstream.requests) == asked
    house.mind("别的词")
    assert NEW in house.post("chat/completions", questions[0]).text, "what is kept stayed whole"


def test_a_kept_conversation_is_screened_by_the_policy_of_today(house: House) -> None:
    first = house.post("responses", {"model": "sim-chat", "input": f"讲讲 {next(_numbers)}"})
    assert first.status_code == 200 and NEW in first.text
    goes_on = {"model": "sim-chat", "input": "再讲", "previous_response_id": first.json()["id"]}
    assert house.post("responses", goes_on | {"store": False}).status_code == 200
    house.mind(NEW)
    asked = len(house.upstream.requests)
    again = house.post("responses", goes_on)
    assert again.status_code == 400 and again.json()["error"]["code"] == "content_filter"
    assert len(house.upstream.requests) == asked


def test_calls_that_share_a_batch_are_screened_each_and_none_has_a_label(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.mind(NEW)
    path = f"/api/v1/label-rules/default?tenant={TENANT}"
    assert house.stack.admin("PUT", path, json={"spec": RULES}).status_code == 200
    house.stack.until_served()
    assert "x-tc-aigc" in house.post("chat/completions", chat("labelled", max_tokens=9)).headers
    gate, embed, sizes = threading.Event(), house.upstream._embed, []

    def waits(connection: Any, request: dict[str, Any]) -> None:
        sizes.append(request["input"])
        assert gate.wait(60)
        embed(connection, request)

    monkeypatch.setattr(house.upstream, "_embed", waits)

    def embedding(text: str) -> httpx.Response:
        return house.post("embeddings", {"model": "sim-embed", "input": text})

    def together() -> bool:
        """Ask at once; whether some of it went as one."""
        sizes.clear()
        gate.clear()
        with ThreadPoolExecutor(CALLS) as pool:
            try:
                asked = [
                    pool.submit(embedding, f"话 {next(_numbers):06}") for _ in range(CALLS - 1)
                ]
                blocked = pool.submit(embedding, f"话 {NEW}").result()
            finally:
                gate.set()
            replies = [one.result() for one in asked]
        assert blocked.status_code == 400 and blocked.json()["error"]["code"] == "content_filter"
        for reply in replies:
            assert reply.status_code == 200 and "x-tc-aigc" not in reply.headers
            assert len(reply.json()["data"]) == 1
        assert NEW not in json.dumps(sizes, ensure_ascii=False)
        return any(len(one) > 1 for one in sizes if isinstance(one, list))

    until(together)
    assert house.stack.admin("DELETE", path).status_code == 200


BEGINNING = "这是一段平常的话，" * 4
AFTER = 300
"""Pieces after the word; at a pause each, so that the upstream has not ended when it is cut."""
PAUSE_S = 0.05


def _by_openai(house: House, text: str) -> tuple[Any, str, str, int]:
    with OpenAI(base_url=f"{house.stack.url}/v1", api_key=house.key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="sim-chat", messages=[{"role": "user", "content": text}], stream=True,
            stream_options={"include_usage": True}, extra_body={"x_sim": {"pause_s": PAUSE_S}},
        )  # fmt: skip
        chunks = list(raw.parse())
    choices = [choice for chunk in chunks for choice in chunk.choices]
    said = "".join(choice.delta.content or "" for choice in choices)
    (reason,) = [choice.finish_reason for choice in choices if choice.finish_reason]
    usage = chunks[-1].usage
    assert usage is not None
    return raw, said, reason, usage.completion_tokens


def _by_anthropic(house: House, text: str) -> tuple[Any, str, str, int]:
    with Anthropic(base_url=house.stack.url, api_key=house.key, max_retries=0) as client:
        raw = client.messages.with_raw_response.create(
            model="sim-chat", messages=[{"role": "user", "content": text}], max_tokens=4_096,
            stream=True, extra_body={"x_sim": {"pause_s": PAUSE_S}},
        )  # fmt: skip
        events = list(raw.parse())
    said = "".join(e.delta.text for e in events if e.type == "content_block_delta")
    (ending,) = [e for e in events if e.type == "message_delta"]
    assert events[-1].type == "message_stop"
    return raw, said, ending.delta.stop_reason, ending.usage.output_tokens


@pytest.mark.parametrize(
    ("ask", "reason"), [(_by_openai, "content_filter"), (_by_anthropic, "refusal")]
)
def test_a_stream_that_is_cut_is_told_to_client_upstream_and_record(
    house: House, ask: Any, reason: str
) -> None:
    house.mind(NEW, keep_texts=True)
    pieces = [*BEGINNING, *NEW, *["后"] * AFTER]
    house.upstream.says = lambda request, sim: pieces  # type: ignore[method-assign]
    left, answered = house.upstream.disconnects, house.upstream.answered
    text = f"cut {next(_numbers)}"
    reply, said, why, tokens = ask(house, text)
    assert said == BEGINNING and why == reason
    until(lambda: house.upstream.disconnects > left)
    assert house.upstream.answered == answered, "the upstream was told to stop"
    row = house.stack.row_of(reply)
    assert (row["moderation"], row["finish_reason"]) == ("blocked", "content_filter")
    assert row["moderation_detail"] == "values/other:high:policy#0"
    assert row["completion_tokens"] == tokens and 0 < tokens < AFTER
    case = case_of(house.stack, reply)
    opened = house.stack.admin("POST", f"/api/v1/moderation-cases/{case['id']}/open")
    (kept,) = opened.json()["data"]
    (place,) = kept["spans"]
    assert kept["text"].startswith(BEGINNING) and kept["text"][slice(*place)] == NEW
    asked = len(house.upstream.requests)
    again, _, _, _ = ask(house, text)
    assert again.headers["x-tc-cache"] == "miss"
    assert len(house.upstream.requests) == asked + 1, "what was cut is not kept"
