"""Real control, two real gateways, real sockets: what one gateway does the other one knows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core.call_record import Overhead

FOLLOW_UPS = 10
SLOW_S = 1.2
CHEAP = {"currency": "CNY", "input": "0.1", "output": "0.2"}


class SlowUpstream(UpstreamSimulator):
    """Waits before each answer, once it is told to."""

    delay_s = 0.0

    def _answer(self, connection: Any, head: str, request: dict[str, Any]) -> bool:
        sim = {"delay_s": self.delay_s} | (request.get("x_sim") or {})
        return super()._answer(connection, head, request | {"x_sim": sim})


@pytest.fixture(scope="module")
def slow() -> Iterator[SlowUpstream]:
    made = SlowUpstream()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator, slow: SlowUpstream
) -> Iterator[Stack]:
    """Model `both` has a slow upstream first; `keyless` has one first that no key is known of."""

    def entry(
        id: str, url: str, models: list[str], price: dict[str, str] = CHEAP, **more: Any
    ) -> dict[str, Any]:
        prices = dict.fromkeys(models, price)
        return {"id": id, "base_url": url, "models": models, "prices": prices, **more}

    upstreams = [
        entry("slow", slow.base_url, ["both"]),
        entry("quick", upstream.base_url, ["both", "keyless", "sim-chat"], PRICES),
        entry("locked", slow.base_url, ["keyless", "shut"], credential="env:NO_SUCH_KEY_HERE"),
    ]
    stack = Stack(
        tmp_path_factory.mktemp("pair"), "http://unused", gateways=2, upstreams=upstreams,
        routing={"hedge": True, "policy": "cost-first"},
    )  # fmt: skip
    stack.start()
    yield stack
    stack.close()


def ask(stack: Stack, at: int, path: str, body: dict[str, Any], **more: str) -> httpx.Response:
    url, headers = stack.urls[at] + path, stack.headers | more
    return web.post(url, json=body, headers=headers, timeout=30)


def test_a_response_is_gone_on_with_at_the_other_gateway_at_once(pair: Stack) -> None:
    """An agent's tool loop follows up within milliseconds, wherever the balancer sends it."""
    before: dict[str, Any] = {}
    for number in range(FOLLOW_UPS):
        body = {"model": "sim-chat", "input": f"turn {number}", **before}
        got = ask(pair, number % 2, "/v1/responses", body)
        assert got.status_code == 200, got.text
        before = {"previous_response_id": got.json()["id"]}
        other = pair.urls[(number + 1) % 2]
        found = web.get(f"{other}/v1/responses/{got.json()['id']}", headers=pair.headers)
        assert found.json()["output"] == got.json()["output"]


def test_an_upstream_without_a_key_is_left_out_and_everybody_says_so(
    pair: Stack, slow: SlowUpstream
) -> None:
    asked = len(slow.requests)
    body = {"model": "keyless", "messages": [{"role": "user", "content": "hi"}]}
    for at in (0, 1):
        got = ask(pair, at, "/v1/chat/completions", body)
        assert (got.status_code, got.headers["x-tc-upstream"]) == (200, "quick"), got.text
        alone = ask(pair, at, "/v1/chat/completions", body | {"model": "shut"})
        assert alone.status_code == 503 and "NO_SUCH_KEY_HERE" not in alone.text
    assert len(slow.requests) == asked
    doctor = subprocess.run(
        [sys.executable, "-m", "tokenschain", "doctor"], env=pair.environment, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    shown = " ".join((doctor.stdout + doctor.stderr).split())
    assert doctor.returncode == 1 and "upstream locked gets no calls" in shown


def test_a_hedge_answers_first_and_only_it_is_paid(pair: Stack, slow: SlowUpstream) -> None:
    """A stream of somebody who waits, at an upstream that is silent for once."""
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "both", "messages": messages, "stream": True}
    for _ in range(5):
        warm = ask(pair, 0, "/v1/chat/completions", body)
        assert warm.headers["x-tc-upstream"] == "slow"
    slow.delay_s = SLOW_S
    try:
        got = ask(pair, 0, "/v1/chat/completions", body, **{"x-tc-priority": "interactive"})
    finally:
        slow.delay_s = 0.0
    assert got.status_code == 200 and "word3" in got.text
    row = pair.row_of(got)
    attempts = {a["upstream"]: a for a in json.loads(row["attempts"])}
    assert (attempts["slow"]["outcome"], attempts["quick"]["outcome"]) == ("lost_race", "ok")
    assert (row["upstream"], row["completion_tokens"]) == ("quick", 4)
    assert row["cost_pico"] == attempts["quick"]["cost_pico"] > 0
    owed = pair.rows(f"select * from platform_costs where event_id = '{row['event_id']}'")
    assert [cost["kind"] for cost in owed] == [
        Overhead.HEDGE for a in attempts.values() if a["overhead"]
    ]


def test_doctor_of_a_running_platform_finds_an_upstream_that_is_gone(tmp_path: Path) -> None:
    gone = {
        "id": "gone",
        "base_url": "http://127.0.0.1:9/v1",
        "models": ["m"],
        "prices": {"m": PRICES},
    }
    stack = Stack(tmp_path / "one", "http://unused", upstreams=[gone])
    try:
        stack.start()
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(4):
            assert ask(stack, 0, "/v1/chat/completions", body).status_code == 502
        deadline = time.monotonic() + 30
        while True:
            doctor = subprocess.run(
                [sys.executable, "-m", "tokenschain", "doctor"], env=stack.environment, text=True,
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            if "upstream gone is down: the last" in " ".join(doctor.stdout.split()):
                break
            assert time.monotonic() < deadline, doctor.stdout
        assert doctor.returncode == 1
    finally:
        stack.close()
