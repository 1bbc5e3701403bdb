"""Calls of every kind: each receipt is in the sealed log, the log has the calls of the ledger and no
others, and the offline verifier finds no gap.

`PROOFS=full` makes 10,000 calls while gateways and control are killed; see also `test_durability`.
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.proofs import FULL, SEED
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.cli import audit_ledger
from tokenschain.core.audit import receipt
from tokenschain.core.audit.receipt import HEADER
from tokenschain.infra.security.suite import INTERNATIONAL

CALLS = 10_000 if FULL else 200
THREADS = 8
KILLS = 6 if FULL else 0
_HEADERS = {HEADER: "1"}
_COMMENT = f": {HEADER}: "


class Call(NamedTuple):
    """A kind of call."""

    path: str
    body: dict[str, Any]
    status: int


class Given(NamedTuple):
    """What a caller was answered."""

    kind: str
    status: int
    call: str
    receipt: str


def _chat(chance: random.Random, **body: Any) -> Call:
    said = {"role": "user", "content": f"{chance.random()}"}
    status = body.pop("status", 200)
    return Call("chat/completions", {"model": "sim-chat", "messages": [said]} | body, status)


KINDS: dict[str, Callable[[random.Random], Call]] = {
    "whole": _chat,
    "stream": lambda chance: _chat(chance, stream=True, x_sim={"tokens": 4}),
    "slow stream": lambda chance: _chat(chance, stream=True, x_sim={"tokens": 4, "pause_s": 0.02}),
    "cached": lambda chance: _chat(
        random.Random(chance.randrange(3)), temperature=0, stream=chance.random() < 0.5
    ),
    "failed": lambda chance: _chat(chance, status=502, x_sim={"status": 500}),
    "broken off": lambda chance: _chat(chance, stream=True, x_sim={"tokens": 4, "cut_after": 2}),
    "unknown model": lambda chance: _chat(chance, status=404, model="none"),
    "bad request": lambda chance: _chat(chance, status=400, messages=[]),
    "embeddings": lambda chance: Call(
        "embeddings", {"model": "sim-embed", "input": [f"{chance.random()}"]}, 200
    ),
    "responses": lambda chance: Call(
        "responses", {"model": "sim-chat", "input": f"{chance.random()}"}, 200
    ),
    "messages": lambda chance: Call(
        "messages",
        {"model": "sim-chat", "max_tokens": 9, "stream": chance.random() < 0.5,
         "messages": [{"role": "user", "content": f"{chance.random()}"}]},
        200,
    ),
}  # fmt: skip


class Callers:
    """Make the calls, at two gateways in turn; one whose gateway is killed asks the other again."""

    def __init__(self, stack: Stack, count: int) -> None:
        self.given: list[Given] = []
        self.broken = 0
        self._stack = stack
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            self._numbers.put(number)

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while True:
                try:
                    number = self._numbers.get_nowait()
                except queue.Empty:
                    return
                at = number
                while not self._answered(client, number, at):
                    at += 1
                    self.broken += 1
                    time.sleep(0.05)

    def _answered(self, client: httpx.Client, number: int, at: int) -> bool:
        chance = random.Random(f"{SEED} receipts {number}")
        kind = chance.choice(list(KINDS))
        try:
            self.given.append(
                self._ask(client, self._stack.urls[at % len(self._stack.urls)], kind, chance)
            )
        except httpx.HTTPError:
            return False
        return True

    def _ask(self, client: httpx.Client, url: str, kind: str, chance: random.Random) -> Given:
        call = KINDS[kind](chance)
        reply = client.post(
            f"{url}/v1/{call.path}", json=call.body, headers=self._stack.headers | _HEADERS
        )
        assert reply.status_code == call.status, f"{kind}: {reply.status_code} {reply.text}"
        found = reply.headers.get(HEADER) or next(
            (line.removeprefix(_COMMENT) for line in reply.text.split("\n")
             if line.startswith(_COMMENT)), "",
        )  # fmt: skip
        assert found, f"{kind} has no receipt: {reply.text}"
        return Given(kind, reply.status_code, reply.headers["x-request-id"], found.strip())


def kill_in_turn(stack: Stack, callers: Callers) -> None:
    """A gateway and control, which seals, at moments spread over the run: both come up again."""
    for number in range(KILLS):
        due = CALLS * (number + 1) // (KILLS + 1)
        until(lambda due=due: len(callers.given) > due, 3_000)  # type: ignore[misc]
        victims = [stack.gateway_names[number % 2], "control"]
        for name in victims:
            stack.kill(name)
        stack.start(*victims)


class Proven(NamedTuple):
    """A run, and what was exported of it."""

    stack: Stack
    callers: Callers
    bundle: Path
    ledger: Path


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A platform whose parts may be killed, in a full run; else one that others call too."""
    if not FULL:
        yield request.getfixturevalue("cached")[0]
        return
    simulator = UpstreamSimulator()
    folder = tmp_path_factory.mktemp("receipts")
    stack = Stack(folder, simulator.base_url, gateways=2, cache={"mode": "exact"}).start()
    yield stack
    stack.close()
    simulator.close()


@pytest.fixture(scope="module")
def proven(running: Stack, tmp_path_factory: pytest.TempPathFactory) -> Proven:
    folder = tmp_path_factory.mktemp("exported")
    callers = Callers(running, CALLS)
    with ThreadPoolExecutor(THREADS + 1) as pool:
        parts = [pool.submit(callers.run) for _ in range(THREADS)]
        for one in [pool.submit(kill_in_turn, running, callers), *parts]:
            one.result()
    answered = {one.call for one in callers.given}
    until(lambda: answered <= {row["event_id"] for row in running.rows()}, 120)
    if FULL:
        for name in running.gateway_names:
            running.stop(name)  # the rest is shipped, and that they stopped
    until(lambda: not running.rows("select id from audit_pending"), 60)
    bundle, ledger = folder / "log.tar", folder / "calls.csv"
    run(running, "audit", "export", str(bundle))
    exported = running.admin("GET", f"/api/v1/calls/export?from_s=0&until_s={2**40}", timeout=120)
    assert exported.status_code == 200, exported.text
    ledger.write_text(exported.text, "utf-8")
    return Proven(running, callers, bundle, ledger)


def run(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tokenschain", *arguments], env=stack.environment, text=True,
        capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_log_and_ledger_have_the_same_calls_and_no_number_is_missing(proven: Proven) -> None:
    stack, callers, bundle, ledger = proven
    found = run(stack, "audit", "verify", str(bundle), "--ledger", str(ledger))
    report = json.loads(found)
    count, own = len(stack.rows()), {one.call for one in callers.given}
    assert report["verified"] and report["ledger"]["agrees"], report
    sides = report["ledger"]
    assert (sides["calls_in_log"], sides["calls_in_ledger"], sides["waiting"]) == (count, count, 0)
    assert all(gap["explained"] for gap in report["gaps"]), report["gaps"]
    # What was answered, and at most what a kill tore from a gateway's hands and was asked again.
    assert len(callers.given) == CALLS
    assert len(own) == CALLS and own <= {row["event_id"] for row in stack.rows()}
    if FULL:
        assert CALLS <= count <= CALLS + callers.broken
    kinds = Counter(one.kind for one in callers.given)
    assert kinds.keys() == KINDS.keys()
    print(f"{CALLS} calls, {KILLS} kills: {callers.broken} asked again, {count} in log "
          f"and ledger, {len(report['gaps'])} gaps; {dict(kinds)}")  # fmt: skip


def test_the_receipt_of_every_call_is_of_its_record(proven: Proven) -> None:
    given = {one.call: receipt.parsed(one.receipt)[0] for one in proven.callers.given}
    assert len(given) == len(proven.callers.given)
    sealed = Counter[str]()
    for _, call in audit_ledger.sealed_calls(proven.bundle):
        if call["id"] in given:
            assert given[call["id"]].is_of(INTERNATIONAL.digest, call), call
            sealed[call["id"]] += 1
    assert sealed == Counter(dict.fromkeys(given, 1)), "each once"


def test_control_finds_the_call_of_every_receipt_sealed(proven: Proven) -> None:
    stack = proven.stack
    base = f"http://127.0.0.1:{stack.control_port}/api/v1/audit-log/receipts"
    headers = {"authorization": f"Bearer {stack.admin_token}"}
    with httpx.Client(timeout=60, headers=headers) as client:
        for one in proven.callers.given:
            found = client.get(f"{base}/{one.receipt}")
            assert found.status_code == 200, found.text
            assert (found.json()["state"], found.json()["call"]) == ("sealed", one.call)
