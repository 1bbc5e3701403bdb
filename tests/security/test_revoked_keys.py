"""Running calls of a key that is taken away end, say why, and are charged for what was delivered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import web
from tests.security.picky_gateway import UNUSABLE, WHY, PickyStack
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

STREAM_S = 5.0
"""What each stream would take to its end."""
ENDS_MAX_S = 3.0
"""Three times what is promised: the machine may stand still for a moment."""
TOKENS = 100
_SAYS = [{"role": "user", "content": "hi"}]
_BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": _SAYS},
    "completions": {"prompt": "hi"},
    "messages": {"messages": _SAYS, "max_tokens": 200},
    "responses": {"input": "hi"},
}


class Slow(UpstreamSimulator):
    """Speaks slowly whatever the API: not all of them pass `x_sim` on."""

    def _answer(self, connection: Any, head: str, request: dict[str, Any]) -> bool:
        stream = {"tokens": TOKENS, "pause_s": STREAM_S / TOKENS}
        whole = {"delay_s": STREAM_S / 3}
        return super()._answer(
            connection, head, request | {"x_sim": stream if request.get("stream") else whole}
        )


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    simulator = Slow()
    made = Stack(tmp_path_factory.mktemp("slow"), simulator.base_url).start()
    yield made
    made.close()
    simulator.close()


class Running:
    """A call on a thread of its own, and what it got."""

    def __init__(self, stack: Stack, key: str, api: str, *, stream: bool = True) -> None:
        self.text, self.status, self.ended_at = "", 0, 0.0
        self.id = ""
        self._body = {"model": "sim-chat", "stream": stream} | _BODIES[api]
        self._url = f"{stack.url}/v1/{api}"
        self._headers = {"authorization": f"Bearer {key}"}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with web.stream("POST", self._url, json=self._body, headers=self._headers) as reply:
            self.status, self.id = reply.status_code, reply.headers["x-request-id"]
            for piece in reply.iter_text():
                self.text += piece
        self.ended_at = time.monotonic()

    def end(self) -> str:
        self._thread.join(STREAM_S * 4)
        assert not self._thread.is_alive()
        return self.text


def _issue(stack: Stack, **fields: Any) -> tuple[str, str]:
    made = stack.admin("POST", "/api/v1/keys", json={"name": "taken away"} | fields).json()
    stack.until_known(made["key"])
    return str(made["id"]), str(made["key"])


def test_streams_of_a_revoked_key_end_in_every_apis_form_and_others_go_on(slow: Stack) -> None:
    stack = slow
    name, key = _issue(stack)
    calls = {api: Running(stack, key, api) for api in _BODIES}
    whole = Running(stack, key, "chat/completions", stream=False)
    other = Running(stack, stack.key, "chat/completions")
    until(lambda: all(call.text.count("word") > 4 for call in calls.values()))
    stack.admin("DELETE", f"/api/v1/keys/{name}")
    revoked_at = time.monotonic()
    texts = {api: call.end() for api, call in calls.items()}
    for api, call in calls.items():
        assert call.ended_at - revoked_at < ENDS_MAX_S, api
        assert call.status == 200
    for api in ("chat/completions", "completions"):
        last = texts[api].strip().split("data: ")[-1]
        assert json.loads(last)["error"]["code"] == "api_key_revoked"
        assert "[DONE]" not in texts[api]
    assert "event: error" in texts["messages"] and "message_stop" not in texts["messages"]
    assert "has been revoked" in texts["messages"]
    assert '"type":"response.failed"' in texts["responses"].replace('": ', '":')
    assert "has been revoked" in texts["responses"]
    assert whole.end() and whole.status == 401
    assert json.loads(whole.text)["error"]["code"] == "api_key_revoked"
    assert other.end().count("word") == TOKENS and "[DONE]" in other.text

    for api, call in calls.items():
        row = stack.row_of(call.id)
        heard = call.text.count("word")
        assert (row["outcome"], row["error"]) == ("partial", "api_key_revoked"), api
        assert 0 < row["completion_tokens"] < TOKENS
        # What was delivered is counted by its events where the upstream said nothing of it.
        assert row["completion_tokens"] == pytest.approx(heard, rel=0.8), api
        assert row["charge_pico"] > 0
    row = stack.row_of(whole.id)
    assert (row["status"], row["charge_pico"]) == (401, 0)


def test_a_call_ends_when_its_key_expires(slow: Stack) -> None:
    _, key = _issue(slow, expires_at_s=int(time.time()) + 3)
    call = Running(slow, key, "chat/completions")
    assert "api_key_expired" in call.end()
    assert 0 < call.text.count("word") < TOKENS


def test_a_call_goes_on_where_the_setting_says_so(tmp_path: Path) -> None:
    simulator = Slow()
    stack = Stack(tmp_path, simulator.base_url, server={"cancel_revoked_calls": False})
    try:
        stack.start()
        name, key = _issue(stack)
        call = Running(stack, key, "chat/completions")
        until(lambda: "word" in call.text)
        stack.admin("DELETE", f"/api/v1/keys/{name}")
        stack.until_known(key, known=False)
        assert call.end().count("word") == TOKENS
    finally:
        stack.close()
        simulator.close()


def test_a_call_ends_when_its_key_is_narrowed_and_goes_on_where_it_still_may(slow: Stack) -> None:
    narrowed: dict[str, tuple[Any, str]] = {
        "models": (["another"], "model_not_found"),
        "apis": (["embeddings"], "api_not_allowed"),
        "networks": (["10.0.0.0/8"], "network_not_allowed"),
        # Of a key that had no end: nothing of it changes when the moment comes.
        "expires_at_s": (None, "api_key_expired"),
    }
    kept = {
        "models": ["sim-chat", "another"],
        "apis": ["chat/completions"],
        "networks": ["127.0.0.0/8"],
        "expires_at_s": int(time.time()) + 3_600,
    }
    keys = {field: _issue(slow) for field in narrowed}
    spared = {field: _issue(slow) for field in kept}
    calls = {field: Running(slow, key, "chat/completions") for field, (_, key) in keys.items()}
    others = {field: Running(slow, key, "chat/completions") for field, (_, key) in spared.items()}
    running = [*calls.values(), *others.values()]
    until(lambda: all("word" in call.text for call in running))
    for field, (narrower, _) in narrowed.items():
        value = int(time.time()) + 2 if narrower is None else narrower
        reply = slow.admin("PATCH", f"/api/v1/keys/{keys[field][0]}", json={field: value})
        assert reply.status_code == 200, reply.text
        reply = slow.admin("PATCH", f"/api/v1/keys/{spared[field][0]}", json={field: kept[field]})
        assert reply.status_code == 200, reply.text
    for field, (_, code) in narrowed.items():
        text = calls[field].end()
        assert code in text and 0 < text.count("word") < TOKENS, field
        row = slow.row_of(calls[field].id)
        assert (row["outcome"], row["error"]) == ("partial", code), field
        assert row["charge_pico"] > 0, field
    for field, call in others.items():
        assert call.end().count("word") == TOKENS and "[DONE]" in call.text, field


def test_what_protects_comes_through_though_the_rest_is_refused(tmp_path: Path) -> None:
    simulator = UpstreamSimulator()
    stack = PickyStack(tmp_path, simulator.base_url)
    try:
        stack.start()
        name, key = _issue(stack)
        units = "/api/v1/organization/units"
        tenant = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        acme = stack.admin("POST", units, json=tenant)
        assert acme.status_code == 201, acme.text
        project = {"kind": "project", "tenant": "acme", "name": "p"}
        assert stack.admin("POST", units, json=project).status_code == 201
        closed = stack.new_key(tenant="acme", project="p")
        spec = {"base_url": simulator.base_url, "models": ["new-chat"]}
        put = stack.admin("PUT", f"/api/v1/upstreams/{UNUSABLE}", json={"spec": spec})
        assert put.status_code == 200, put.text
        revision = put.json()["revision"]

        def state() -> dict[str, Any]:
            reported = stack.admin("GET", "/api/v1/gateways").json()["data"]
            return dict(reported[0]) if reported else {}

        until(lambda: state().get("rejected_revision") == revision)
        assert stack.chat().status_code == 200 and stack.chat(model="new-chat").status_code == 404

        stack.admin("DELETE", f"/api/v1/keys/{name}")
        stack.until_known(key, known=False)
        shut = stack.admin("PATCH", f"{units}/{acme.json()['id']}", json={"closed": True})
        assert shut.status_code == 200, shut.text

        def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return web.get(f"{stack.url}/v1/models", headers=headers).status_code

        until(lambda: status(closed) == 403)
        limit = {"kind": "rate", "measure": "requests", "amount": 0}
        limit |= {"match": {"model": "other-chat"}}
        put = stack.admin("PUT", "/api/v1/limits/tight", json=limit)
        assert put.status_code == 200, put.text
        until(lambda: stack.chat(model="other-chat").status_code == 429)
        assert stack.chat().status_code == 200 and stack.chat(model="new-chat").status_code == 404

        # It is said, and holds after a start without control.
        now = state()
        assert now["revision"] < revision <= now["rejected_revision"]
        assert now["applied_parts"] == ["keys", "limits", "residency"]
        found = stack.admin("GET", f"/api/v1/revisions/{revision}").json()
        assert found["refusals"][0]["why"] == WHY
        assert found["refusals"][0]["applied"] == ["keys", "limits", "residency"]
        stack.kill("control")
        stack.stop("gateway")
        stack.start("gateway")
        assert (status(key), status(closed), status(stack.key)) == (401, 403, 200)
    finally:
        stack.close()
        simulator.close()
