"""Oracles: no answer tells a key which models there are, what calls cost or how busy others are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator

HI = [{"role": "user", "content": "hi"}]
HIDDEN, ABSENT, KIND, LOCKED = "zzzz-one", "zzzz-two", "zzzz-six", "zzzz-ten"
"""All as far from what the key may use, so that none has a hint."""
APIS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/rerank": {"query": "q", "documents": ["a"]},
    "/v1/messages": {"messages": HI, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": HI},
    "/v1/responses": {"input": "x"},
    "/v1/responses/input_tokens": {"input": "x"},
    "/v1/responses/compact": {"input": "x"},
    "/api/v1/routes/explain": {"messages": HI},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    def entry(name: str, models: list[str], price: str) -> dict[str, Any]:
        return {"id": name, "base_url": upstream.base_url, "models": models,
                "kinds": {KIND: "embedding"} if KIND in models else {},
                "prices": dict.fromkeys(models, PRICES | {"input": price})}  # fmt: skip

    made = Stack(
        tmp_path_factory.mktemp("oracles"),
        "http://unused",
        upstreams=[
            entry("cheap", ["open-chat", HIDDEN, KIND], "1"),
            entry("confidential-cloud", ["open-chat"], "5"),
        ],
        routing={"models": {LOCKED: [{"model": "open-chat"}]}},
    ).start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.new_key(models=["open-chat"])


def ask(stack: Stack, key: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return web.request(
        "GET" if body is None else "POST",
        f"{stack.url}{path}",
        json=body,
        headers={"authorization": f"Bearer {key}", **headers},
        timeout=20,
    )


def like(reply: httpx.Response, model: str) -> tuple[Any, ...]:
    """All that an answer tells, without what it repeats of the question and what differs always."""
    text = re.sub(r"req_\w+", "ID", reply.text.replace(model, "M"))
    names = sorted(set(reply.headers) - {"content-length", "date"})
    return reply.status_code, text, names


@pytest.mark.parametrize("path", APIS)
def test_a_model_that_is_not_allowed_is_answered_like_one_that_is_not_there(
    stack: Stack, key: str, path: str
) -> None:
    found = [
        like(ask(stack, key, path, {"model": model, **APIS[path]}), model)
        for model in (HIDDEN, ABSENT, KIND, LOCKED)
    ]
    assert found[0][0] == 404 and all(each == found[0] for each in found), found
    assert "confidential" not in str(found) and "cheap" not in str(found)


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}])
def test_lists_are_alike_too(stack: Stack, key: str, headers: dict[str, str]) -> None:
    for path in ("/v1/models/{}", "/v1/models?after_id={}"):
        found = [
            like(ask(stack, key, path.format(model), None, **headers), model)
            for model in (HIDDEN, ABSENT, KIND, LOCKED)
        ]
        assert all(each == found[0] for each in found), found
    listed = ask(stack, key, "/v1/models", None, **headers).text
    assert "open-chat" in listed and not any(m in listed for m in (HIDDEN, KIND, LOCKED))


FIGURES = ("cost", "load", "in_flight", "waiting", "concurrency", "ttft", "tiers", "propensity",
           "\"token_s\"", "success", "zone", "region", "confidential-cloud")  # fmt: skip


def test_a_key_without_the_right_sees_order_and_reasons_only(stack: Stack, key: str) -> None:
    told = ask(stack, key, "/api/v1/routes/explain", {"model": "open-chat", "messages": HI})
    assert told.status_code == 200 and told.json()["chosen"] == "cheap"
    assert told.json()["reason"] and len(told.json()["candidates"]) == 2
    body = {"model": "open-chat", "messages": HI}
    asked = ask(stack, key, "/v1/chat/completions", body, **{"x-tc-route": "1"})
    route = asked.headers["x-tc-route"]
    assert "candidate 2" in route and route.endswith("tried cheap=ok")
    for figure in FIGURES:
        assert figure not in told.text and figure not in route


def test_a_key_with_the_right_sees_the_figures(stack: Stack) -> None:
    key = stack.new_key(routing_details=True)
    body = {"model": "open-chat", "messages": HI}
    told = ask(stack, key, "/api/v1/routes/explain", body).text
    for name in ("cost_pico_cny", "load", "in_flight", "waiting", "confidential-cloud"):
        assert name in told
    route = ask(stack, key, "/v1/chat/completions", body, **{"x-tc-route": "1"})
    assert "cost=" in route.headers["x-tc-route"]
