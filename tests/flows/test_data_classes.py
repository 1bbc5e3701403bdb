"""Data classes on whole calls: of tenant, project and key, the highest says where data goes and
what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

CLASSES, UNITS = "/api/v1/data-classes", "/api/v1/organization/units"
RULES: dict[str, dict[str, Any]] = {
    "personal": {"cache": "exact"},
    "sensitive": {"cache": "none"},
    "important": {"sovereignty": "domestic-only"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = UpstreamSimulator()

    def entry(name: str, model: str, zone: str) -> dict[str, Any]:
        return {"id": name, "base_url": upstream.base_url, "models": [model], "zone": zone,
                "prices": {model: PRICES}}  # fmt: skip

    made = Stack(
        tmp_path_factory.mktemp("classes"),
        "http://unused",
        upstreams=[entry("far", "sim-chat", "abroad"), entry("home", "home", "cn")],
        cache={"mode": "exact"},
    ).start()
    for name, rule in RULES.items():
        put(made, f"{CLASSES}/{name}", rule)
    yield made
    made.close()
    upstream.close()


def put(stack: Stack, path: str, spec: dict[str, Any]) -> Any:
    reply = stack.admin("PUT", path, json={"spec": spec})
    assert reply.status_code == 200, reply.text
    return reply.json()


def ask(stack: Stack, key: str, text: str, model: str = "sim-chat") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}
    headers = {"authorization": f"Bearer {key}"}
    return web.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def unit_of(stack: Stack, kind: str, tenant: str) -> str:
    rows = stack.admin("GET", f"{UNITS}?tenant={tenant}&kind={kind}").json()["data"]
    return f"{UNITS}/{rows[0]['id']}"


def classify(stack: Stack, kind: str, tenant: str, name: str) -> httpx.Response:
    return stack.admin("PATCH", unit_of(stack, kind, tenant), json={"data_class": name})


def test_the_class_of_a_tenant_holds_for_keys_that_are_there_and_is_on_record(
    stack: Stack,
) -> None:
    key = stack.new_key(tenant="acme")
    until(lambda: ask(stack, key, "hello").status_code == 200)
    assert classify(stack, "tenant", "acme", "important").json()["data_class"] == "important"
    until(lambda: ask(stack, key, "hello").status_code == 503)
    assert "`class/important`" in ask(stack, key, "hello").json()["error"]["message"]
    served = ask(stack, key, "hello", "home")
    assert served.status_code == 200 and stack.row_of(served)["data_class"] == "important"
    call = served.headers["x-request-id"]
    path = f"/api/v1/audit-log/proofs/{call}"
    until(lambda: stack.admin("GET", path).status_code == 200)
    record = msgspec.json.decode(stack.admin("GET", path).json()["record"])
    assert record["data_class"] == "important" and record["sent_to"] == "cn"
    assert stack.admin("GET", f"/api/v1/calls/{call}").json()["data_class"] == "important"
    # A lower one takes it back.
    assert classify(stack, "tenant", "acme", "").status_code == 200
    until(lambda: ask(stack, key, "hello").status_code == 200)
    assert stack.row_of(ask(stack, key, "hello"))["data_class"] == ""


def test_of_tenant_project_and_key_the_highest_holds_and_a_class_of_ones_own_beside_it(
    stack: Stack,
) -> None:
    put(stack, f"{CLASSES}/L3?tenant=beta", {"sovereignty": "zone:cn"})
    until(lambda: _new_key(stack, "beta", "personal").status_code == 201)
    key = _new_key(stack, "beta", "personal").json()["key"]
    until(lambda: ask(stack, key, "hello").status_code == 200)
    assert classify(stack, "project", "beta", "important").status_code == 200
    until(lambda: ask(stack, key, "hello").status_code == 503)
    assert classify(stack, "tenant", "beta", "L3").status_code == 200
    until(lambda: stack.row_of(ask(stack, key, "x", "home"))["data_class"] == "L3+important")
    assert classify(stack, "project", "beta", "").status_code == 200
    until(lambda: stack.row_of(ask(stack, key, "x", "home"))["data_class"] == "L3+personal")
    refused = ask(stack, key, "hello").json()["error"]["message"]
    assert "`tenant/beta/class/L3`" in refused
    # Another tenant has no such class.
    stack.new_key(tenant="gamma")
    wrong = classify(stack, "tenant", "gamma", "L3")
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "data_class"


def _new_key(stack: Stack, tenant: str, data_class: str) -> httpx.Response:
    body = {"name": "k", "tenant": tenant, "project": "p", "data_class": data_class}
    return stack.admin("POST", "/api/v1/keys", json=body)


def test_a_class_says_what_the_cache_keeps(stack: Stack) -> None:
    keys = {name: _new_key(stack, "delta", name).json()["key"] for name in RULES}
    for name in ("personal", "sensitive"):
        until(lambda: ask(stack, keys[name], f"{name} 1").status_code == 200)  # noqa: B023
        _, again = (ask(stack, keys[name], f"{name} 2") for _ in range(2))
        row = stack.row_of(again)
        if name == "sensitive":
            assert (row["cache"], row["cache_reason"]) == ("bypass", "data_class")
        else:
            assert row["cache"] == "hit-exact"
        assert row["data_class"] == name


def test_what_has_no_class_or_cannot_have_one_is_refused(stack: Stack) -> None:
    stack.new_key(tenant="omega")
    for kind, name in (("tenant", "nobody"), ("environment", "important")):
        reply = classify(stack, kind, "omega", name)
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "data_class"
    for wrong in ({"cache": "some"}, {"sovereignty": "zone:moon"}):
        reply = stack.admin("PUT", f"{CLASSES}/important", json={"spec": wrong})
        param = reply.json()["error"]["param"]
        assert reply.status_code == 400 and param.endswith(next(iter(wrong)))
    seen = stack.admin("PUT", f"{CLASSES}/core?dry_run=true", json={"spec": {"cache": "none"}})
    assert seen.status_code == 200 and seen.json()["dry_run"]
    assert stack.admin("GET", f"{CLASSES}/core").status_code == 404
