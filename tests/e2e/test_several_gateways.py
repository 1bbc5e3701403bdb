"""Real control, three real gateways, real sockets: what one gateway does the others know."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests import web
from tests.load import Answered, Load, Target
from tests.load import ask as load_ask
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import WAIT_MAX_S, until
from tokenschain.core.call_record import Overhead
from tokenschain.wire.client import IDLE_KEEP_S

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
def cluster(
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
        tmp_path_factory.mktemp("cluster"), "http://unused", gateways=3, upstreams=upstreams,
        routing={"hedge": True, "policy": "cost-first"},
    )  # fmt: skip
    stack.start()
    yield stack
    stack.close()


def ask(stack: Stack, at: int, path: str, body: dict[str, Any], **more: str) -> httpx.Response:
    url, headers = stack.urls[at] + path, stack.headers | more
    return web.post(url, json=body, headers=headers, timeout=30)


def test_a_response_is_gone_on_with_at_the_other_gateway_at_once(cluster: Stack) -> None:
    """An agent's tool loop follows up within milliseconds, wherever the balancer sends it."""
    before: dict[str, Any] = {}
    for number in range(FOLLOW_UPS):
        body = {"model": "sim-chat", "input": f"turn {number}", **before}
        got = ask(cluster, number % 3, "/v1/responses", body)
        assert got.status_code == 200, got.text
        before = {"previous_response_id": got.json()["id"]}
        other = cluster.urls[(number + 1) % 3]
        found = web.get(f"{other}/v1/responses/{got.json()['id']}", headers=cluster.headers)
        assert found.json()["output"] == got.json()["output"]


def test_an_upstream_without_a_key_is_left_out_and_everybody_says_so(
    cluster: Stack, slow: SlowUpstream
) -> None:
    asked = len(slow.requests)
    body = {"model": "keyless", "messages": [{"role": "user", "content": "hi"}]}
    for at in range(3):
        got = ask(cluster, at, "/v1/chat/completions", body)
        assert (got.status_code, got.headers["x-tc-upstream"]) == (200, "quick"), got.text
        alone = ask(cluster, at, "/v1/chat/completions", body | {"model": "shut"})
        assert alone.status_code == 503 and "NO_SUCH_KEY_HERE" not in alone.text
    assert len(slow.requests) == asked
    doctor = subprocess.run(
        [sys.executable, "-m", "tokenschain", "doctor"], env=cluster.environment, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    shown = " ".join((doctor.stdout + doctor.stderr).split())
    assert doctor.returncode == 1 and "upstream locked gets no calls" in shown


def test_a_hedge_answers_first_and_only_it_is_paid(cluster: Stack, slow: SlowUpstream) -> None:
    """A stream of somebody who waits, at an upstream that is silent for once."""
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "both", "messages": messages, "stream": True}
    for _ in range(5):
        warm = ask(cluster, 0, "/v1/chat/completions", body)
        assert warm.headers["x-tc-upstream"] == "slow"
    slow.delay_s = SLOW_S
    try:
        got = ask(cluster, 0, "/v1/chat/completions", body, **{"x-tc-priority": "interactive"})
    finally:
        slow.delay_s = 0.0
    assert got.status_code == 200 and "word3" in got.text
    row = cluster.row_of(got)
    attempts = {a["upstream"]: a for a in json.loads(row["attempts"])}
    assert (attempts["slow"]["outcome"], attempts["quick"]["outcome"]) == ("lost_race", "ok")
    assert (row["upstream"], row["completion_tokens"]) == ("quick", 4)
    assert row["cost_pico"] == attempts["quick"]["cost_pico"] > 0
    owed = cluster.rows(f"select * from platform_costs where event_id = '{row['event_id']}'")
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


# --- the configuration under load ------------------------------------------------------------

FULL = os.environ.get("PROOFS") == "full"
CALLS_PER_S = 200.0 if FULL else 40.0
LOADED_S = 1.0 if FULL else 0.0
"""How long calls run on after each change before the next one."""
IN_FORCE_MAX_S = 10.0
"""Wide: machines of tests are busy. On a quiet one it is well under a second."""


class Cloud(UpstreamSimulator):
    """Counts the connections that are open to it, and holds streams until they may go on."""

    def __init__(self) -> None:
        self.open = 0
        self.goes_on = threading.Event()
        super().__init__()

    def _silence(self, connection: Any, sim: dict[str, Any]) -> None:
        if sim.get("held"):
            self.goes_on.wait(WAIT_MAX_S)

    def _serve(self, connection: Any) -> None:
        with self.lock:
            self.open += 1
        try:
            super()._serve(connection)
        finally:
            with self.lock:
                self.open -= 1


class ByResource:
    """Changes resource by resource."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def change(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        reply = self._stack.admin(method, f"/api/v1/{path}", json=body)
        assert reply.status_code == 200, reply.text
        return int(reply.json()["revision"])

    def set(self, kind: str, name: str, spec: dict[str, Any], tenant: str = "") -> int:
        """Make a resource so. Returns the revision."""
        path = "routing" if kind == "routing" else f"{kind}s"
        return self.change("PUT", f"{path}/{name}?tenant={tenant}", {"spec": spec})

    def remove(self, kind: str, name: str) -> int:
        return self.change("DELETE", f"{kind}s/{name}")


class ByDocuments(ByResource):
    """Applies all documents each time, as from a repository."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._documents: dict[tuple[str, str, str], dict[str, Any]] = {}

    def set(self, kind: str, name: str, spec: dict[str, Any], tenant: str = "") -> int:
        self._documents[kind, name, tenant] = spec
        return self._apply()

    def remove(self, kind: str, name: str) -> int:
        del self._documents[kind, name, ""]
        return self._apply()

    def _apply(self) -> int:
        documents = [
            {"kind": kind, "name": name, "tenant": tenant, "spec": spec}
            for (kind, name, tenant), spec in self._documents.items()
        ]
        body = {"documents": documents, "prune": True}
        return self.change("POST", "configuration/apply", body)


class Changing:
    """Changes made while calls run, and how long each takes to be in force everywhere."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.took_s: dict[str, float] = {}
        self.revisions: list[int] = []

    def step(self, what: str, change: Callable[[], int], there: Callable[[int], bool]) -> int:
        """Make a change, wait until it is in force, and note how long that took.

        Args:
            there: whether it is in force at one of the gateways.
        """
        revision = change()
        began = time.monotonic()
        for at in range(len(self._stack.urls)):
            while not there(at):
                assert time.monotonic() - began < IN_FORCE_MAX_S, f"{what}: gateway {at}"
                time.sleep(0.01)
        self.took_s[what] = time.monotonic() - began
        time.sleep(LOADED_S)
        self.revisions.append(revision)
        return revision

    def names(self, at: int) -> set[str]:
        """The models that a gateway lists."""
        listed = web.get(f"{self._stack.urls[at]}/v1/models", headers=self._stack.headers)
        return {model["id"] for model in listed.json()["data"]}

    def explained(self, at: int, key: str, model: str) -> dict[str, Any]:
        """How a gateway would choose for a call."""
        reply = web.post(
            f"{self._stack.urls[at]}/api/v1/routes/explain",
            json={"model": model, "messages": [{"role": "user", "content": "hi"}]},
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def choices(self, at: int, key: str) -> int:
        """Among how many upstreams a gateway would choose for a call of the virtual model."""
        return len(self.explained(at, key, "live-writer")["candidates"])

    def health(self, upstream: str) -> dict[str, Any]:
        """How control sees an upstream."""
        found = self._stack.admin("GET", "/api/v1/upstream-health").json()["data"]
        by_id: dict[str, dict[str, Any]] = {one["id"]: one for one in found}
        return by_id[upstream]

    def running(self, upstream: str) -> int:
        """Calls at an upstream as the gateways told control."""
        found = self._stack.admin("GET", "/api/v1/gateways").json()["data"]
        return sum(one["running"].get(upstream, 0) for one in found)


def cloud_spec(cloud: Cloud, own: str, zone: str, price: str) -> dict[str, Any]:
    models = ["live-chat", own]
    prices = {model: {"currency": "CNY", "input": price, "output": price} for model in models}
    return {"base_url": cloud.base_url, "zone": zone, "models": models, "prices": prices}


@pytest.mark.parametrize("how", [ByResource, *([ByDocuments] if FULL else [])])
def test_clouds_come_and_go_under_load_and_no_call_fails(
    cluster: Stack, how: type[ByResource]
) -> None:
    north, south = Cloud(), Cloud()
    northern = cloud_spec(north, "north-chat", "cn", "5")
    southern = cloud_spec(south, "south-chat", "abroad", "1")
    tenant = f"acme-{how.__name__.lower()}"
    acme = cluster.new_key(tenant=tenant)
    platform, bank = Target(cluster.key, "live-writer"), Target(acme, "live-writer")
    made, changing = how(cluster), Changing(cluster)
    step, names, choices = changing.step, changing.names, changing.choices
    load = Load(cluster.urls, [Target(cluster.key, "sim-chat")], CALLS_PER_S)
    try:
        step("a cloud is added", lambda: made.set("upstream", "north", northern),
             lambda at: "north-chat" in names(at))  # fmt: skip
        step("another one", lambda: made.set("upstream", "south", southern),
             lambda at: "south-chat" in names(at))  # fmt: skip
        entries = {"entries": [{"model": "live-chat"}]}
        step("a virtual model", lambda: made.set("virtual-model", "live-writer", entries),
             lambda at: "live-writer" in names(at))  # fmt: skip
        load.targets = (*load.targets, platform, bank)

        rules: dict[str, Any] = {"policy": "performance-first"}
        step("a tenant's policy", lambda: made.set("routing", "default", rules, tenant),
             lambda at: changing.explained(at, acme, "live-writer")["policy"] == rules["policy"]
        )  # fmt: skip
        rules = rules | {"residency": {"*": ["cn"]}}
        step("residency", lambda: made.set("routing", "default", rules, tenant),
             lambda at: choices(at, acme) == 1)  # fmt: skip
        bound_at = time.monotonic()
        assert choices(0, cluster.key) == 2, "others may go to either"

        # Of a model that it alone has: where one has a choice, a slow machine chooses otherwise.
        southerly = Target(cluster.key, "south-chat")
        streams = [Stream(cluster.urls[at], southerly) for at in range(3)]
        until(lambda: sum("held" in str(one) for one in south.requests) == 3)
        drained = step("one is drained",
                       lambda: made.set("upstream", "south", southern | {"drain": True}),
                       lambda at: choices(at, cluster.key) == 1)  # fmt: skip
        until(lambda: changing.health("south")["running"] == 3)
        asked = len(south.requests)
        assert changing.health("south")["drain"] and not changing.health("north")["drain"]
        removed = step("one is removed", lambda: made.remove("upstream", "south"),
                       lambda at: "south-chat" not in names(at))  # fmt: skip
        until(lambda: changing.running("south") == 3)
        assert all(one.running for one in streams), "they run on where there is nothing any more"
        south.goes_on.set()
        assert [one.ended() for one in streams] == ["south"] * 3
        assert len(south.requests) == asked, "nothing new came after it was drained"
        until(lambda: changing.running("south") == 0)

        for what, revision in (("removal", removed), ("drain", drained)):
            step(f"{what} rolled back", lambda n=revision: made.change(  # type: ignore[misc]
                     "POST", f"revisions/{n}/rollback", {"reason": "it is wanted back"}),
                 lambda at, back=what: "south-chat" in names(at)  # type: ignore[misc]
                 and choices(at, cluster.key) == (2 if back == "drain" else 1))  # fmt: skip
        assert Stream(cluster.urls[0], southerly).ended() == "south"
    finally:
        load.close()
    assert not load.wrong, load.wrong[:5]
    assert {one.gateway for one in load.answers} == {0, 1, 2}
    of_bank = [one.upstream for one in load.answers if one.target == bank and one.at > bound_at]
    assert set(of_bank) == {"north"}
    listed = cluster.admin("GET", "/api/v1/revisions").json()["data"]
    assert set(changing.revisions) <= {one["revision"] for one in listed}
    took_s = load.answers[-1].at - load.answers[0].at
    print(
        f"{len(load.answers)} calls, {len(load.answers) / took_s:.0f}/s; in force at all three gateways after"
    )
    for what, waited_s in changing.took_s.items():
        print(f"  {what:<22}{waited_s * 1e3:6.0f} ms")
    if FULL:
        for revision in reversed(changing.revisions):
            made.change("POST", f"revisions/{revision}/rollback", {"reason": "the end"})
        until(lambda: south.open + north.open == 0, 2 * IDLE_KEEP_S + WAIT_MAX_S)
    north.close()
    south.close()


class Stream:
    """A stream in a thread of its own that the upstream holds for a while."""

    def __init__(self, url: str, target: Target) -> None:
        self._url, self._target = url, target
        self._answers: list[Answered] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=60)
        more = {"stream": True, "x_sim": {"held": True}}
        self._answers.append(load_ask(connection, 0, self._target, **more))
        connection.close()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def ended(self) -> str:
        """The upstream that answered, all of it."""
        self._thread.join()
        (answer,) = self._answers
        assert not answer.wrong, answer
        return answer.upstream
