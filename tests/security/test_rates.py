"""What calls no model has a rate of its own: it is neither free nor without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.translation.lab import Lab
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.gateway.api import routes

RATE = 4
ASKS = {
    "count_tokens": ("POST", "/v1/messages/count_tokens"),
    "input_tokens": ("POST", "/v1/responses/input_tokens"),
    "explain": ("POST", "/api/v1/routes/explain"),
    "models": ("GET", "/v1/models"),
    "appeals": ("GET", "/v1/moderations/appeals/appeal_1"),
    "moderations": ("POST", "/v1/moderations"),
    "stored_response": ("GET", "/v1/responses/resp_1"),
}
UNCOUNTED = {"call", "livez", "readyz", "home", "openapi", "metrics"}
"""Calls have limits; the others name nobody's data and cost next to nothing."""
BODY = {
    "model": "openai", "max_tokens": 9, "input": "hi", "messages": [{"role": "user", "content": "hi"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    loop = asyncio.new_event_loop()
    yield Lab(loop)
    loop.close()


def test_each_route_without_a_call_stands_here() -> None:
    assert {route.handler for route in routes.ROUTES} - UNCOUNTED == ASKS.keys()


def test_paths_that_are_not_served_are_counted_by_address(lab: Lab) -> None:
    lab.gateway._not_found_rates = KeyedRates(RATE)
    answers = [lab.ask(f"/v1/none/{at}", {}) for at in range(RATE + 2)]
    assert [answer.status for answer in answers] == [404] * RATE + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_models_that_do_not_exist_are_counted_by_key(lab: Lab) -> None:
    lab.router._not_found = KeyedRates(RATE)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    path = "/v1/chat/completions"
    answers = [lab.ask(path, body | {"model": f"none-{at}"}) for at in range(RATE + 2)]
    assert [answer.status for answer in answers] == [404] * RATE + [429] * 2
    assert lab.ask(path, body | {"model": "openai"}).status == 200, "its other calls go on"


@pytest.mark.parametrize("name", ASKS)
def test_a_key_may_ask_so_often_and_no_more(lab: Lab, name: str) -> None:
    lab.gateway._read_rates = KeyedRates(RATE)
    method, path = ASKS[name]
    body = {k: v for k, v in BODY.items() if name == "input_tokens" or k != "input"}
    answers = [lab.ask(path, body, method=method) for _ in range(RATE + 2)]
    assert [answer.status == 429 for answer in answers] == [False] * RATE + [True] * 2
    refused = answers[-1]
    assert b"rate_limit" in refused.body and int(refused.headers["retry-after"]) >= 1
