"""Broken authentication: every route of gateway and control, by who asks.

The routes are taken from the running tables, so that a new one without a row here fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from docs import http_reference

from tests import web
from tests.security.platform import Caller, Platform, platform
from tests.security.test_permissions import OPERATIONS
from tests.stack import Stack
from tokenschain.gateway.api.routes import ROUTES

CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}


class Row(NamedTuple):
    """What a route of the gateway answers, by who asks."""

    body: Any = None
    own: tuple[int, ...] = (200,)
    """Whose object it is, or anyone with a key that may."""
    others: tuple[int, ...] = (200,)
    """A key of another tenant or project."""
    bound: tuple[int, ...] = (200,)
    """A key for other models."""


NOT_MINE = {"others": (404,), "bound": (404,)}
OPEN = {"/", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/openapi.json"}
"""No key is asked for; what `/metrics` needs is told in its guide."""
KEYED: dict[str, Row] = {
    "POST /v1/chat/completions": Row(CHAT, bound=(403, 404)),
    "POST /v1/completions": Row({"model": "sim-chat", "prompt": "1"}, bound=(403, 404)),
    "POST /v1/embeddings": Row({"model": "sim-embed", "input": "1"}, bound=(403, 404)),
    "POST /v1/rerank": Row(
        {"model": "none", "query": "q", "documents": ["d"]}, own=(404,), others=(404,), bound=(404,)
    ),
    "POST /v1/messages": Row(CHAT | {"max_tokens": 9}, bound=(403, 404)),
    "POST /v1/responses": Row({"model": "sim-chat", "input": "1"}, bound=(403, 404)),
    "POST /v1/messages/count_tokens": Row(CHAT, bound=(200, 403, 404)),
    "POST /v1/responses/input_tokens": Row(
        {"model": "sim-chat", "input": "1"}, bound=(200, 403, 404)
    ),
    "POST /v1/responses/compact": Row(
        {"model": "sim-chat", "input": [{"role": "user", "content": "hi"}]},
        own=(200, 400), others=(200, 400), bound=(403, 404),
    ),
    "GET /v1/responses/{id}": Row(None, **NOT_MINE),
    "GET /v1/responses/{id}/input_items": Row(None, **NOT_MINE),
    "POST /v1/responses/{id}/cancel": Row(None, own=(400, 404), others=(404,), bound=(404,)),
    "POST /v1/moderations": Row({"input": "1"}),
    "POST /v1/moderations/appeals": Row(
        {"call_id": "req_1", "reason": "1"}, own=(202,), others=(202,), bound=(202,)
    ),
    "GET /v1/moderations/appeals/{id}": Row(None, own=(404,), **NOT_MINE),
    "GET /v1/models": Row(),
    "GET /v1/models/{id}": Row(None, bound=(404,)),
    "POST /api/v1/routes/explain": Row(CHAT, bound=(403, 404)),
    "DELETE /v1/responses/{id}": Row(None, **NOT_MINE),
}  # fmt: skip


def test_each_route_of_the_gateway_stands_here() -> None:
    keyed = [f"{m} {r.path}" for r in ROUTES for m in r.methods if r.path not in OPEN]
    assert sorted(keyed) == sorted(KEYED)


@pytest.fixture(scope="module")
def keys(stack: Stack) -> dict[str, str]:
    """A key for each kind of caller, and one that was revoked."""
    made = stack.admin("POST", "/api/v1/keys", json={"project": "walk"}).json()
    found = {
        "own": stack.new_key(project="walk"),
        "another tenant": stack.new_key(tenant="walk-other"),
        "another project": stack.new_key(project="walk-other"),
        "bound": stack.new_key(project="walk", models=["other-chat"]),
        "wrong": "tc-" + "w" * 43,
        "revoked": str(made["key"]),
    }
    assert stack.admin("DELETE", f"/api/v1/keys/{made['id']}").status_code == 200
    stack.until_known(found["revoked"], known=False)
    return found


def ask(stack: Stack, operation: str, key: str | None, response_id: str) -> httpx.Response:
    method, _, path = operation.partition(" ")
    name = "sim-chat" if path.startswith("/v1/models/") else response_id
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return web.request(
        method, f"{stack.url}{path.replace('{id}', name)}", headers=headers,
        json=KEYED[operation].body if operation in KEYED else None, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize("operation", KEYED)
def test_each_route_of_the_gateway_answers_by_the_key(
    stack: Stack, keys: dict[str, str], operation: str
) -> None:
    row = KEYED[operation]
    said = ask(stack, "POST /v1/responses", keys["own"], "")
    name = str(said.json()["id"])
    for who, codes in (
        ("none", (401,)), ("wrong", (401,)), ("revoked", (401,)),
        ("another tenant", row.others), ("another project", row.others), ("bound", row.bound),
        ("own", row.own),
    ):  # fmt: skip
        reply = ask(stack, operation, keys.get(who), name)
        assert reply.status_code in codes, (operation, who, reply.status_code, reply.text[:300])
        if reply.status_code >= 400:
            assert "error" in reply.json(), "in the shape of the API"


def test_open_routes_tell_no_tenant_and_no_key(stack: Stack, keys: dict[str, str]) -> None:
    for path in sorted(OPEN):
        text = web.get(f"{stack.url}{path}", timeout=30).text
        assert not [name for name in ("walk-other", *keys.values()) if name in text], path


# --- control -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("walk")) as made:
        yield made


def test_each_operation_of_the_admin_api_is_refused_to_who_is_unknown(house: Platform) -> None:
    leaver = house.person("acme", "owner")
    assert leaver("DELETE", "/sessions").status_code == 200
    strangers = {
        "none": Caller(house.client, "", ""),
        "wrong": Caller(house.client, "tcs-" + "w" * 43, ""),
        "ended": leaver,
    }
    asked = 0
    for operation, needed in OPERATIONS.items():
        if needed is None:
            continue
        method, _, path = operation.partition(" ")
        for who, caller in strangers.items():
            reply = caller(method, path.replace("{", "").replace("}", ""), {})
            assert reply.status_code == 401, (operation, who, reply.status_code, reply.text)
            asked += 1
    assert asked > 150


def test_control_has_no_other_open_route_than_those_that_are_known() -> None:
    hidden = http_reference.hidden_operations(http_reference.control_app())
    open_ones = {one.path for one in hidden if not one.path.startswith("/internal/")}
    assert open_ones <= {"/", "/livez", "/readyz", "/metrics", "/openapi.json"}
