"""Configuration by the API, served by a gateway: an upstream whose stored key is rotated."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

FIRST, SECOND = "sk-the-first-of-the-vendor", "sk-the-second-of-the-vendor"


@pytest.fixture
def vendor() -> Iterator[UpstreamSimulator]:
    made = UpstreamSimulator()
    yield made
    made.close()


def changed(stack: Stack, method: str, path: str, spec: dict[str, Any] | None = None) -> Any:
    more = {} if spec is None else {"json": {"spec": spec}}
    reply = stack.admin(method, f"/api/v1/{path}", **more)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_stored_key_serves_calls_is_rotated_under_them_and_shown_nowhere(
    stack: Stack, vendor: UpstreamSimulator
) -> None:
    changed(stack, "PUT", "credentials/made-1", {"value": FIRST})
    changed(stack, "PUT", "upstreams/made", {
        "base_url": vendor.base_url, "zone": "cn", "models": ["made-chat"],
        "prices": {"made-chat": {"input": 1, "output": 2}}, "credential": "stored:made-1",
    })  # fmt: skip
    until(lambda: stack.chat(model="made-chat").status_code == 200)
    assert FIRST in vendor.heads[-1]
    failed: list[str] = []
    enough = threading.Event()

    def go_on() -> None:
        while not enough.is_set():
            reply = stack.chat(model="made-chat")
            if reply.status_code != 200:
                failed.append(reply.text)

    callers = [threading.Thread(target=go_on) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        rotated = changed(stack, "PATCH", "credentials/made-1", {"value": SECOND})
        until(lambda: SECOND in vendor.heads[-1])
    finally:
        enough.set()
        for caller in callers:
            caller.join()
    assert not failed
    undone = stack.admin("POST", f"/api/v1/revisions/{rotated['revision']}/rollback", json={})
    assert undone.status_code == 200, undone.text
    until(lambda: stack.chat(model="made-chat").status_code == 200 and FIRST in vendor.heads[-1])
    for path in ("credentials", "configuration", "revisions", "audit", "diagnostics"):
        said = stack.admin("GET", f"/api/v1/{path}").text
        assert FIRST not in said and SECOND not in said, path
    changed(stack, "DELETE", "upstreams/made")
    changed(stack, "DELETE", "credentials/made-1")
    for file in stack.folder.rglob("*"):
        if file.is_file():
            text = file.read_bytes()
            assert FIRST.encode() not in text and SECOND.encode() not in text, file


def test_an_upstream_that_is_the_gateway_itself_ends_a_call_after_three_rounds(
    stack: Stack,
) -> None:
    changed(stack, "PUT", "credentials/round", {"value": stack.key})
    changed(stack, "PUT", "upstreams/round", {
        "base_url": f"{stack.url}/v1", "zone": "own", "models": ["round-chat"],
        "prices": {"round-chat": {"input": 1, "output": 2}}, "credential": "stored:round",
    })  # fmt: skip
    try:
        stack.until_served()
        before = stack.counted()
        reply = stack.chat(model="round-chat")
        assert (reply.status_code, reply.json()["error"]["code"]) == (508, "loop_detected")
        until(lambda: stack.counted() == before + 4)
    finally:
        changed(stack, "DELETE", "upstreams/round")
        changed(stack, "DELETE", "credentials/round")
