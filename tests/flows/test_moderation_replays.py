"""Moderation of what is not asked of a model just now: answers from the cache, kept conversations,
and calls that share one call upstream; by the policy of today."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest

from tests import web
from tests.flows.test_labels import RULES
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

    def mind(self, *words: str) -> None:
        """From now on, these words are blocked for the tenant."""
        listed = [{"text": one, "risk": "A.1.h", "level": 3, "match": 2} for one in words]
        spec = {"state": "active", "scope": f"tenant/{TENANT}", "words": listed}
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
