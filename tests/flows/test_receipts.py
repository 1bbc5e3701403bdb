"""Receipt rules: every answer of whoever they are for has one receipt, which the log agrees with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, NamedTuple

import httpx
import pytest

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.core.audit.receipt import HEADER

CHEAP = {"currency": "CNY", "input": "0.1", "output": "0.2"}
RULES = "/api/v1/receipt-rules/default"
SLOW_S = 3.0


class SlowUpstream(UpstreamSimulator):
    """Silent for a while where it is told to be."""

    delay_s = 0.0

    def _answer(self, connection: Any, head: str, request: dict[str, Any]) -> bool:
        sim = {"delay_s": self.delay_s} | (request.get("x_sim") or {})
        return super()._answer(connection, head, request | {"x_sim": sim})


class Rules(NamedTuple):
    """A platform whose tenant `sent` gets receipts, but for its project `quiet`."""

    stack: Stack
    slow: SlowUpstream
    key: str
    quiet: str

    def ask(self, key: str = "", headers: dict[str, str] | None = None, **body: Any) -> Any:
        said = [{"role": "user", "content": body.pop("text", "") or token_hex(8)}]
        sent = {"model": "sim-chat", "messages": said} | body
        given = {"authorization": f"Bearer {key or self.key}"} | (headers or {})
        url = f"{self.stack.url}/v1/chat/completions"
        return web.post(url, json=sent, headers=given, timeout=30)

    def is_sealed(self, reply: httpx.Response) -> None:
        """The reply has one receipt, and the sealed log the record that it is of."""
        (receipt,) = receipts_of(reply)

        def found() -> dict[str, Any]:
            said = self.stack.admin("GET", f"/api/v1/audit-log/receipts/{receipt}")
            assert said.status_code == 200, said.text
            return dict(said.json())

        assert found()["call"] == reply.headers["x-request-id"]
        until(lambda: found()["state"] != "waiting")
        assert found()["state"] == "sealed"


def receipts_of(reply: httpx.Response) -> list[str]:
    """All that an answer has, in its headers and as comments."""
    comment = f": {HEADER}: "
    lines = [line for line in reply.text.split("\n") if line.startswith(comment)]
    return reply.headers.get_list(HEADER) + [one.removeprefix(comment).strip() for one in lines]


def upstream(id: str, url: str, models: list[str], price: dict[str, str] = CHEAP) -> dict[str, Any]:
    return {"id": id, "base_url": url, "models": models, "prices": dict.fromkeys(models, price)}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rules]:
    quick, slow = UpstreamSimulator(), SlowUpstream()
    stack = Stack(
        tmp_path_factory.mktemp("receipts"), "http://unused", cache={"mode": "exact"},
        routing={"hedge": True, "policy": "cost-first", "explore": 0.0},
        upstreams=[
            upstream("slow", slow.base_url, ["hedged"]),
            upstream("gone", "http://127.0.0.1:9/v1", ["failed-over"]),
            upstream("quick", quick.base_url, ["hedged", "failed-over", "sim-chat"], PRICES),
        ],
    ).start()  # fmt: skip
    key, quiet = (stack.new_key(tenant="sent", project=name) for name in ("p", "quiet"))
    made = Rules(stack, slow, key, quiet)
    stack.until_known(key)
    stack.until_known(quiet)
    assert receipts_of(made.ask()) == [], "it is known to the gateway before there is a rule"
    put(stack, "?tenant=sent", send="always", overrides={"project/quiet": "asked"})
    yield made
    stack.close()
    quick.close()
    slow.close()


def put(stack: Stack, query: str, **spec: Any) -> None:
    reply = stack.admin("PUT", f"{RULES}{query}", json={"spec": spec})
    assert reply.status_code == 200, reply.text
    stack.until_served()


@pytest.mark.parametrize("stream", [False, True])
def test_each_answer_has_one_receipt_also_where_it_is_asked_for(rules: Rules, stream: bool) -> None:
    for headers in ({}, {HEADER: "1"}):
        reply = rules.ask(headers=headers, stream=stream)
        assert reply.status_code == 200, reply.text
        assert (HEADER in reply.headers) is not stream
        assert not stream or reply.text.rstrip().endswith("data: [DONE]")
        rules.is_sealed(reply)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_from_the_cache_has_a_receipt_of_its_own(rules: Rules, stream: bool) -> None:
    first, second = (rules.ask(text="again", stream=stream) for _ in range(2))
    assert second.headers["x-tc-cache"].startswith("hit"), second.headers
    assert receipts_of(first) != receipts_of(second)
    for reply in (first, second):
        rules.is_sealed(reply)


def test_what_is_refused_or_breaks_off_has_one_too(rules: Rules) -> None:
    refused = rules.ask(model="none")
    failed = rules.ask(x_sim={"status": 400})
    broken = rules.ask(stream=True, x_sim={"tokens": 4, "cut_after": 2})
    assert refused.status_code == 404 and failed.is_error and "upstream_interrupted" in broken.text
    before, _, after = broken.text.partition(f": {HEADER}: ")
    assert "data: " in before and "upstream_interrupted" in after
    for reply in (refused, failed, broken):
        rules.is_sealed(reply)
    unknown = rules.ask("sk-tc-none")
    assert unknown.status_code == 401 and receipts_of(unknown) == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_failed_over_has_one(rules: Rules, stream: bool) -> None:
    reply = rules.ask(model="failed-over", stream=stream)
    assert reply.status_code == 200, reply.text
    rules.is_sealed(reply)
    if not stream:
        attempts = [one["upstream"] for one in json.loads(rules.stack.row_of(reply)["attempts"])]
        assert attempts[0] == "gone" and attempts[-1] == "quick"


def test_a_hedged_call_has_one(rules: Rules) -> None:
    for _ in range(5):
        assert rules.ask(model="hedged", stream=True).headers["x-tc-upstream"] == "slow"
    rules.slow.delay_s = SLOW_S
    try:
        reply = rules.ask(
            model="hedged", stream=True, headers={"x-tc-priority": "interactive"}
        )  # fmt: skip
    finally:
        rules.slow.delay_s = 0.0
    rules.is_sealed(reply)
    attempts = json.loads(rules.stack.row_of(reply)["attempts"])
    assert {one["upstream"]: one["outcome"] for one in attempts} == {
        "slow": "lost_race", "quick": "ok",
    }  # fmt: skip


def test_whom_no_rule_is_for_gets_none_but_asks(rules: Rules) -> None:
    for key in (rules.quiet, rules.stack.key):
        for stream in (False, True):
            assert receipts_of(rules.ask(key, stream=stream)) == []
            rules.is_sealed(rules.ask(key, {HEADER: "1"}, stream=stream))


def test_a_change_holds_for_the_calls_after_it(rules: Rules) -> None:
    stack = rules.stack
    put(stack, "", send="always")
    assert len(receipts_of(rules.ask(stack.key))) == 1
    assert receipts_of(rules.ask(rules.quiet)) == []
    put(stack, "?tenant=sent", send="asked")
    assert receipts_of(rules.ask()) == []
    for query in ("", "?tenant=sent"):
        assert stack.admin("DELETE", f"{RULES}{query}").status_code == 200
    stack.until_served()
    for key in (rules.key, stack.key):
        assert receipts_of(rules.ask(key)) == []
