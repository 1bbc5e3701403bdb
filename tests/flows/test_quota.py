"""Limits as callers meet them: on one gateway, on several, on every back end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.servers import Postgres, RedisStack
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator

CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(params=["sqlite", "postgresql", "postgresql+redis"])
def backed(request: pytest.FixtureRequest, own_stack: Any) -> Any:
    """Makes stacks on each combination of stores."""

    def make(**settings: Any) -> Stack:
        if "postgresql" in request.param:
            postgres: Postgres = request.getfixturevalue("postgres")
            settings["database_url"] = postgres.database()
        if "redis" in request.param:
            redis: RedisStack = request.getfixturevalue("redis")
            redis.flush()
            settings["redis_url"] = redis.url
        stack: Stack = own_stack(**settings)
        return stack

    return make


def put_limit(stack: Stack, name: str, **fields: Any) -> dict[str, Any]:
    reply = stack.admin("PUT", f"/api/v1/limits/{name}", json=fields)
    assert reply.status_code == 200, reply.text
    served(stack)
    found: dict[str, Any] = reply.json()
    return found


def served(stack: Stack) -> None:
    """Wait until every gateway serves by the latest configuration."""
    version = stack.admin("GET", "/api/v1/metering")
    assert version.status_code == 200
    time.sleep(0.8)


def calls(stack: Stack, count: int, at_once: int = 100, **body: Any) -> list[httpx.Response]:
    """Calls spread evenly over all gateways."""

    async def run() -> list[httpx.Response]:
        room = asyncio.Semaphore(at_once)
        limits = httpx.Limits(max_connections=at_once)
        async with httpx.AsyncClient(timeout=30, limits=limits) as client:

            async def one(number: int) -> httpx.Response:
                async with room:
                    url = stack.urls[number % len(stack.urls)]
                    return await client.post(
                        f"{url}/v1/chat/completions", json=CHAT | body, headers=stack.headers
                    )

            return list(await asyncio.gather(*(one(n) for n in range(count))))

    return asyncio.run(run())


@pytest.mark.parametrize("gateways", [1, 3])
def test_a_budget_for_ten_calls_lets_no_eleventh_be_paid(backed: Any, gateways: int) -> None:
    stack = backed(gateways=gateways)
    stack.start()
    # A call is 7 tokens in and 3 out at 1 and 2 yuan a million.
    one = httpx.post(f"{stack.url}/v1/chat/completions", json=CHAT | SIM, headers=stack.headers)
    cost = int(stack.row_of(one)["charge_pico"])
    assert cost > 0
    put_limit(stack, "ten", kind="budget", measure="spend", amount=11 * cost, period="total")
    replies = calls(stack, 200, **SIM)
    statuses = Counter(reply.status_code for reply in replies)
    accepted = statuses[200]
    assert set(statuses) == {200, 402}, statuses
    refusal = next(reply for reply in replies if reply.status_code == 402)
    assert refusal.json()["error"]["code"] == "budget_exceeded"
    rows = stack.settled(201)
    spent = sum(int(row["charge_pico"] or 0) for row in rows)
    assert spent == (accepted + 1) * cost <= 11 * cost
    assert accepted >= 1
    # What was reserved came back: the budget knows what was spent, and promises little more.
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        used = stack.admin("GET", "/api/v1/limits/ten").json()["used"][0]
        if used["spent"] == spent and used["promised"] == 0:
            break
        time.sleep(0.2)
    assert (used["spent"], used["promised"]) == (spent, 0)


SIM = {"max_tokens": 3, "x_sim": {"tokens": 3, "pause_s": 0}}


def test_three_gateways_let_a_hundred_a_minute_pass_and_no_more(backed: Any) -> None:
    stack = backed(gateways=3)
    stack.start()
    put_limit(stack, "rpm", kind="rate", measure="requests", amount=100)
    replies = calls(stack, 300, **SIM)
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) == {200, 429}
    assert 100 <= statuses[200] <= 101, statuses
    refusal = next(reply for reply in replies if reply.status_code == 429)
    assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refusal.headers["retry-after"]) <= 61
    assert refusal.headers["x-ratelimit-limit-requests"] == "100"


def test_a_deposit_is_spent_to_the_last_call_and_entries_always_balance(backed: Any) -> None:
    stack = backed()
    stack.start()
    one = httpx.post(f"{stack.url}/v1/chat/completions", json=CHAT | SIM, headers=stack.headers)
    cost = int(stack.row_of(one)["charge_pico"])
    node = next(
        node
        for node in stack.admin("GET", "/api/v1/nodes?kind=tenant").json()["data"]
        if node["name"] == "default"
    )
    changed = stack.admin("PATCH", f"/api/v1/nodes/{node['id']}", json={"prepaid": True})
    assert changed.status_code == 200
    served(stack)
    refused = calls(stack, 1, **SIM)[0]
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_balance")
    paid = -(-20 * cost // 10**6)  # in whole millionths of a yuan
    reply = stack.admin(
        "POST",
        "/api/v1/wallets/default/deposits",
        json={"amount": f"{paid / 10**6:.6f}", "reference": "bank 1"},
    )
    assert reply.status_code == 201, reply.text
    served(stack)
    replies = calls(stack, 200, **SIM)
    accepted = sum(reply.status_code == 200 for reply in replies)
    assert 1 <= accepted <= 20
    rows = stack.settled(202)
    spent = sum(int(row["charge_pico"] or 0) for row in rows)
    wallet = stack.admin("GET", "/api/v1/wallets/default").json()
    assert wallet["balances_pico"]["CNY"] + spent == paid * 10**6
    sums = stack.rows("select currency, sum(amount_pico) s from entries group by currency")
    assert {row["s"] for row in sums} == {0}
