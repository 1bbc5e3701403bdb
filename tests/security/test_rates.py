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


@pytest.mark.parametrize("name", ASKS)
def test_a_key_may_ask_so_often_and_no_more(lab: Lab, name: str) -> None:
    lab.gateway._read_rates = KeyedRates(RATE)
    method, path = ASKS[name]
    body = {k: v for k, v in BODY.items() if name == "input_tokens" or k != "input"}
    answers = [lab.ask(path, body, method=method) for _ in range(RATE + 2)]
    assert [answer.status == 429 for answer in answers] == [False] * RATE + [True] * 2
    refused = answers[-1]
    assert b"rate_limit" in refused.body and int(refused.headers["retry-after"]) >= 1
