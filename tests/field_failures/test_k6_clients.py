"""What clients expect (kind K6): browsers, keys, paths, lists, ids and errors.

Each case names the public report that it comes from, or the client that does it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import anthropic
import httpx2
import jsonschema
import msgspec
import openai
import pytest
import schemathesis
from docs import http_reference

from tests.translation.lab import KEY, Lab
from tokenschain.core.formats import openai_chat
from tokenschain.gateway.api import cors, openapi, routes
from tokenschain.gateway.api.cors import Cors
from tokenschain.wire import sse

CHAT = {"model": "openai", "messages": [{"role": "user", "content": "hi"}]}
PLACEHOLDER = "Bearer sk-placeholder"
ORIGIN = "https://app.example"

# maximhq/bifrost#5874, theopenco/llmgateway#2334, openai/openai-python#2722 (R12)


def test_a_keep_alive_is_no_empty_event_for_clients_that_dispatch_on_any_empty_line() -> None:
    stream = sse.comment(b"keep-alive") + sse.encode(sse.Event(b"{}")) + sse.comment(b"keep-alive")
    events = [block for block in stream.split(b"\n\n")[:-1] if b"data:" not in block]
    assert not events
    assert sse.SseReader().feed(stream) == [sse.Event(b"{}")]


# lidge-jun/opencodex#1773, Wei-Shaw/sub2api#579, LeenHawk/gproxy#238, ollama/ollama#4388 (R30)
OPENAI_JS = "authorization, content-type, x-stainless-arch, x-stainless-lang, x-stainless-os, \
x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, \
x-stainless-runtime-version, x-stainless-timeout"
ANTHROPIC_JS = "anthropic-beta, anthropic-dangerous-direct-browser-access, anthropic-version, \
content-type, x-api-key, x-stainless-helper-method"


@pytest.fixture
def browser_lab(lab: Lab) -> Iterator[Lab]:
    before, lab.gateway._cors = lab.gateway._cors, Cors((ORIGIN,))
    yield lab
    lab.gateway._cors = before


@pytest.mark.parametrize("asked", [OPENAI_JS, ANTHROPIC_JS, "x-of-its-own, baggage"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses/resp_1", "/v1/nope"])
def test_a_browser_may_send_what_its_sdk_sends(browser_lab: Lab, asked: str, path: str) -> None:
    got = browser_lab.ask(
        path, b"", method="OPTIONS", origin=ORIGIN, access_control_request_headers=asked,
        access_control_request_method="POST",
    )  # fmt: skip
    assert got.status == 204
    allowed = got.headers["access-control-allow-headers"].split(",")
    assert {name.strip() for name in asked.split(",")} <= {name.strip() for name in allowed}
    assert "DELETE" in got.headers["access-control-allow-methods"]


def test_headers_that_are_no_names_are_not_sent_back(browser_lab: Lab) -> None:
    got = browser_lab.ask(
        "/v1/models", b"", method="OPTIONS", origin=ORIGIN,
        access_control_request_headers="a b, c\tset-cookie: x",
    )  # fmt: skip
    assert "set-cookie" not in got.headers["access-control-allow-headers"]
    assert "x-stainless-os" in got.headers["access-control-allow-headers"]


def test_a_browser_reads_every_header_of_an_answer(browser_lab: Lab) -> None:
    got = browser_lab.ask("/v1/chat/completions", CHAT, origin=ORIGIN)
    shown = set(got.headers["access-control-expose-headers"].split(", "))
    assert {name.lower() for name in http_reference.ANSWER_HEADERS} <= shown
    assert {name for name in got.headers if name.startswith(("x-tc", "x-req"))} <= shown
    for bad in (browser_lab.ask("/v1/chat/completions", b"{", origin=ORIGIN),
                browser_lab.ask("/v1/nope", b"", origin=ORIGIN)):  # fmt: skip
        assert bad.headers["access-control-allow-origin"] == ORIGIN


def test_a_stranger_is_told_nothing(browser_lab: Lab) -> None:
    got = browser_lab.ask("/v1/models", b"", method="OPTIONS", origin="https://evil.example")
    assert not [name for name in got.headers if name.startswith("access-control")]
    assert set(cors.REQUEST_HEADERS) >= {"api-key", "anthropic-version", "x-stainless-lang"}


# LangChain, Dify, LobeChat, Open WebUI: paths (P01)
SERVED_AS = [
    "/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions",
    "/openai/v1/chat/completions", "/openai/deployments/openai/chat/completions?api-version=1",
]  # fmt: skip
HINTED = ["/chat/completions", "/v1/v1/chat/completions", "/api/v1/chat/completions",
          "/anthropic/chat/completions", "/v1/v1/v1/chat/completions/"]  # fmt: skip


@pytest.mark.parametrize("path", SERVED_AS)
def test_other_ways_to_write_a_path_are_served(lab: Lab, path: str) -> None:
    assert lab.ask(path, CHAT).status == 200


@pytest.mark.parametrize("path", HINTED)
def test_a_base_url_without_or_with_two_versions_is_told_the_right_path(
    lab: Lab, path: str
) -> None:
    got = lab.ask(path, CHAT)
    assert got.status == 404 and "/v1/chat/completions?" in got.error["message"]


@pytest.mark.parametrize("kind", ["chat/completions", "embeddings"])
@pytest.mark.parametrize("given", [None, "another"])
def test_azures_paths_name_the_model(lab: Lab, kind: str, given: str | None) -> None:
    model = "openai" if kind.startswith("chat") else "openai-embed"
    body: dict[str, Any] = {"messages": CHAT["messages"]} if model == "openai" else {"input": "x"}
    if given:
        body["model"] = given
    path = f"/openai/deployments/{model}/{kind}?api-version=2024-10-21"
    got = lab.ask(path, body, authorization="", api_key=KEY.decode())
    assert got.status == 200, got.body
    assert lab.ask(path, b"{", api_key=KEY.decode()).error["code"] == "invalid_json"


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/models/", "/v1/models/openai", "/livez"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_and_the_first_page_are_answered(lab: Lab, path: str, method: str) -> None:
    got = lab.ask(path, b"", method=method)
    assert got.status == 200 and bool(got.body) == (method == "GET")


@pytest.mark.parametrize(
    "path",
    ["assistants", "threads", "threads/t/runs", "realtime/sessions", "videos", "containers",
     "audio/speech", "images/generations", "files", "batches", "messages/batches",
     "conversations", "chat/completions/id/messages", "vector_stores", "complete"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_not_served_is_not_found_so_that_sdks_do_not_try_again(
    lab: Lab, path: str, method: str
) -> None:
    got = lab.ask(f"/v1/{path}", b"{}", method=method)
    assert got.status == 404, got.body


def test_another_method_is_told_which_ones_there_are(lab: Lab) -> None:
    got = lab.ask("/v1/chat/completions", b"", method="GET")
    assert (got.status, got.headers["allow"]) == (405, "POST, OPTIONS")
    assert got.error["code"] == "method_not_allowed"
    got = lab.ask("/v1/responses/resp_1", b"{}", method="POST")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD, DELETE, OPTIONS")


# Many clients: how the key is written (P02)
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {}"}, {"authorization": "bearer {}"},
        {"authorization": "BEARER   {}"}, {"authorization": "{}"},
        {"authorization": "", "x_api_key": "{}"}, {"authorization": "", "api_key": "{}"},
        {"authorization": PLACEHOLDER, "x_api_key": "{}"},
        {"authorization": PLACEHOLDER, "api_key": "{}"},
        {"authorization": "Bearer {}", "x_api_key": "placeholder"},
        {"authorization": "Basic dXNlcjpwYXNz", "api_key": "{}"},
    ],
)  # fmt: skip
def test_a_valid_key_is_found_wherever_it_is(lab: Lab, headers: dict[str, str]) -> None:
    sent = {name: value.format(KEY.decode()) for name, value in headers.items()}
    assert lab.ask("/v1/chat/completions", CHAT, **sent).status == 200
    assert lab.ask("/v1/models", b"", method="GET", **sent).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": PLACEHOLDER}, "invalid_api_key"),
        ({"authorization": PLACEHOLDER, "api_key": "x"}, "invalid_api_key"),
        ({"authorization": "Basic dXNlcjpwYXNz"}, "missing_api_key"),
        ({"authorization": "Bearer"}, "missing_api_key"),
    ],
)
def test_no_key_is_no_key(lab: Lab, headers: dict[str, str], code: str) -> None:
    got = lab.ask("/v1/chat/completions", CHAT, **headers)
    assert (got.status, got.error["code"]) == (401, code)


# OpenAI's and Anthropic's SDKs: models (P03)
@pytest.fixture
def named_lab(lab: Lab) -> Iterator[Lab]:
    snapshot = lab.served.get()
    route = snapshot.models["openai"]
    names = ("field/Model-7B", "通义 千问")
    for name in names:
        snapshot.models[name] = msgspec.structs.replace(route, name=name)
    yield lab
    for name in names:
        del snapshot.models[name]


@pytest.mark.parametrize(
    "path",
    ["field%2FModel-7B", "field%2fModel-7B", "field/Model-7B", quote("通义 千问"),
     quote("field/Model-7B", safe="") + "/"],
)  # fmt: skip
def test_a_model_is_found_by_its_quoted_name(named_lab: Lab, path: str) -> None:
    got = named_lab.ask(f"/v1/models/{path}", b"", method="GET")
    assert got.status == 200, got.body
    assert json.loads(got.body)["id"] == unquote(path).rstrip("/")
    assert json.loads(got.body)["created"] > 0


def test_anthropics_list_of_models_comes_in_pages(lab: Lab) -> None:
    def page(query: str = "") -> dict[str, Any]:
        got = lab.ask(f"/v1/models{query}", b"", method="GET", anthropic_version="2023-06-01")
        assert got.status == 200 and got.headers["request-id"] == got.headers["x-request-id"]
        found: dict[str, Any] = json.loads(got.body)
        return found

    whole = page("?limit=1000")
    names = [model["id"] for model in whole["data"]]
    assert set(whole["data"][0]) == {"type", "id", "display_name", "created_at"}
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (names[0], names[-1], False)
    first = page("?limit=2")
    assert [m["id"] for m in first["data"]] == names[:2] and first["has_more"]
    second = page(f"?limit=2&after_id={first['last_id']}")
    assert [m["id"] for m in second["data"]] == names[2:4]
    back = page(f"?limit=2&before_id={second['first_id']}")
    assert [m["id"] for m in back["data"]] == names[:2] and not back["has_more"]
    assert page(f"?after_id={names[-1]}")["data"] == []
    for bad in ("?limit=0", "?limit=x", "?after_id=none"):
        got = lab.ask(f"/v1/models{bad}", b"", method="GET", anthropic_version="2023-06-01")
        assert got.status == 400 and json.loads(got.body)["type"] == "error"


def test_one_model_in_anthropics_shape(lab: Lab) -> None:
    got = lab.ask("/v1/models/openai", b"", method="GET", anthropic_version="2023-06-01")
    found = json.loads(got.body)
    assert (found["type"], found["id"]) == ("model", "openai") and found["created_at"]
    got = lab.ask("/v1/models/nope", b"", method="GET", anthropic_version="2023-06-01")
    found = json.loads(got.body)
    assert (got.status, found["error"]["type"]) == (404, "not_found_error")
    assert found["request_id"] == got.headers["request-id"]


# Claude Code against /v1/messages (P11); faults 10 to 12 of the official suites
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/messages", 405), ("POST", "/v1/messages/nope", 404), ("POST", "/v1/messages", 400),
     ("GET", "/v1/messages/count_tokens", 405), ("POST", "/v1/messages/count_tokens", 400)],
)  # fmt: skip
def test_errors_below_messages_have_anthropics_shape(
    lab: Lab, method: str, path: str, status: int
) -> None:
    got = lab.ask(f"{path}?beta=true", b"{", method=method)
    found = json.loads(got.body)
    assert (got.status, found["type"]) == (status, "error")
    assert found["request_id"] == got.headers["request-id"] == got.headers["x-request-id"]


def test_the_count_of_a_model_that_is_not_there_is_not_found(lab: Lab) -> None:
    body = {"model": "nope", "messages": [{"role": "user", "content": "x"}]}
    got = lab.ask("/v1/messages/count_tokens", body)
    assert (got.status, got.error["type"]) == (404, "not_found_error")
    assert lab.ask("/v1/messages/count_tokens", body | {"model": "openai"}).status == 200


ASKED = [
    ("POST", "/v1/chat/completions", CHAT, {}, 200),
    ("POST", "/v1/chat/completions", b"{", {}, 400),
    ("POST", "/v1/chat/completions", CHAT, {"authorization": PLACEHOLDER}, 401),
    ("POST", "/v1/chat/completions", CHAT, {"content_encoding": "gzip"}, 415),
    ("POST", "/v1/chat/completions", CHAT, {"content_type": "text/plain"}, 415),
    ("POST", "/v1/messages", CHAT | {"max_tokens": 5}, {}, 200),
    ("GET", "/v1/models", b"", {}, 200),
    ("GET", "/v1/models/nope", b"", {}, 404),
    ("GET", "/v1/responses/resp_1", b"", {}, 404),
    ("POST", "/v1/messages/count_tokens", CHAT, {}, 200),
    ("GET", "/v1/chat/completions", b"", {}, 405),
    ("GET", "/nope", b"", {}, 404),
    ("OPTIONS", "/v1/models", b"", {}, 204),
    ("GET", "/", b"", {}, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), ASKED)
def test_every_answer_has_an_id(
    lab: Lab, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    got = lab.ask(path, body, method=method, **headers)
    assert got.status == status
    assert got.headers["x-request-id"].startswith("req_")
    assert ("request-id" in got.headers) == path.startswith("/v1/messages")


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/chat/completions", b""])
def test_what_the_wire_refuses_has_an_id_too(lab: Lab, path: bytes) -> None:
    lines, body = lab.gateway.refusal(413, "payload_too_large", "The body is too large.", path)
    found = json.loads(body)
    assert lines.startswith(b"x-request-id: req_")
    if path == b"/v1/messages":
        assert found["error"]["type"] == "request_too_large"
        assert b"\r\nrequest-id: %b" % found["request_id"].encode() in lines
    else:
        assert found["error"]["code"] == "payload_too_large"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "a/b+json"]
)
def test_json_goes_by_several_types(lab: Lab, kind: str) -> None:
    assert lab.ask("/v1/chat/completions", CHAT, content_type=kind).status == 200


def test_each_path_knows_its_methods() -> None:
    assert all(routes.methods_of(route).endswith("OPTIONS") for route in routes.ROUTES)


# Requests checked as OpenAI checks them (section 4 of the official suites' cases)
def said(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "openai", "messages": list(messages), **more}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def tool(name: str = "look_up", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | more}


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    ],
}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
WRONG_CHAT: list[tuple[dict[str, Any], str, str]] = [
    (said(user(None)), "invalid_type", "messages[0].content"),
    (said({"role": "user"}), "missing_required_parameter", "messages[0].content"),
    (said(user(5)), "invalid_type", "messages[0].content"),
    (said(user([])), "empty_array", "messages[0].content"),
    (said(user({"text": "x"})), "invalid_type", "messages[0].content"),
    (said({"role": "assistant", "content": None}, user()), "invalid_type", "messages[0].content"),
    (said({"content": "x"}), "missing_required_parameter", "messages[0].role"),
    (said({"role": "robot", "content": "x"}), "invalid_value", "messages[0].role"),
    (said(user(["x"])), "invalid_type", "messages[0].content[0]"),
    (said(user([{"text": "x"}])), "missing_required_parameter", "messages[0].content[0].type"),
    (said(user([{"type": "text"}])), "missing_required_parameter", "messages[0].content[0].text"),
    (said(user([{"type": "text", "text": 5}])), "invalid_type", "messages[0].content[0].text"),
    (said(user([{"type": "hologram"}])), "invalid_value", "messages[0].content[0].type"),
    (said(user([{"type": "image_url"}])), "missing_required_parameter",
     "messages[0].content[0].image_url"),
    (said(user([{"type": "image_url", "image_url": {}}])), "missing_required_parameter",
     "messages[0].content[0].image_url.url"),
    (said(user([{"type": "image_url", "image_url": {"url": "no address"}}])), "invalid_image_url",
     "messages[0].content[0].image_url.url"),
    (said(user(), CALLED, {"role": "tool", "content": "x"}), "missing_required_parameter",
     "messages[2].tool_call_id"),
    (said(user(), {"role": "tool", "tool_call_id": "call_9", "content": "x"}), "invalid_value",
     "messages[1].tool_call_id"),
    (said(), "empty_array", "messages"),
    (said(user()) | {"messages": "hi"}, "invalid_type", "messages"),
    ({"model": "openai"}, "missing_required_parameter", "messages"),
    (said(user(), max_tokens=5, max_completion_tokens=5), "invalid_parameter_combination",
     "max_tokens"),
    (said(user(), max_tokens=0), "integer_below_min_value", "max_tokens"),
    (said(user(), max_tokens="5"), "invalid_type", "max_tokens"),
    (said(user(), max_completion_tokens=-1), "integer_below_min_value", "max_completion_tokens"),
    (said(user(), n=129), "integer_above_max_value", "n"),
    (said(user(), temperature=3), "decimal_above_max_value", "temperature"),
    (said(user(), temperature=-1), "decimal_below_min_value", "temperature"),
    (said(user(), temperature="hot"), "invalid_type", "temperature"),
    (said(user(), top_logprobs=3), "invalid_value", "top_logprobs"),
    (said(user(), top_logprobs=21, logprobs=True), "integer_above_max_value", "top_logprobs"),
    (said(user(), tool_choice="required"), "invalid_value", "tool_choice"),
    (said(user(), tool_choice="auto"), "invalid_value", "tool_choice"),
    (said(user(), tool_choice="sometimes", tools=[tool()]), "invalid_value", "tool_choice"),
    (said(user(), tool_choice=tool("absent"), tools=[tool()]), "invalid_value", "tool_choice"),
    (said(user(), tools=[]), "empty_array", "tools"),
    (said(user(), tools=[{"type": "function"}]), "missing_required_parameter",
     "tools[0].function"),
    (said(user(), tools=[{"function": {"name": "x"}}]), "missing_required_parameter",
     "tools[0].type"),
    (said(user(), tools=[{"type": "function", "function": {}}]), "missing_required_parameter",
     "tools[0].function.name"),
    (said(user(), tools=[tool("x" * 65)]), "string_above_max_length", "tools[0].function.name"),
    (said(user(), tools=[tool("a b")]), "invalid_value", "tools[0].function.name"),
    (said(user(), tools=[tool(parameters={"type": "string"})]), "invalid_function_parameters",
     "tools[0].function.parameters"),
    (said(user(), tools=[tool(parameters="none")]), "invalid_type",
     "tools[0].function.parameters"),
    (said(user(), response_format={"type": "xml"}), "invalid_value", "response_format.type"),
    (said(user(), response_format="json"), "invalid_type", "response_format"),
    (said(user(), response_format={"type": "json_schema"}), "missing_required_parameter",
     "response_format.json_schema"),
    (said(user(), response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
     "missing_required_parameter", "response_format.json_schema.schema"),
    (said(user(), response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
     "missing_required_parameter", "response_format.json_schema.name"),
    (said(user(), logit_bias={"50": 101}), "decimal_above_max_value", "logit_bias.50"),
    (said(user(), logit_bias={"a": 1}), "invalid_value", "logit_bias"),
    (said(user(), stop=["a", "b", "c", "d", "e"]), "array_above_max_length", "stop"),
    (said(user(), stop=5), "invalid_type", "stop"),
    (said(user(), reasoning_effort="frantic"), "invalid_value", "reasoning_effort"),
    (said(user(), metadata={str(n): "x" for n in range(17)}), "object_above_max_properties",
     "metadata"),
    (said(user(), metadata={"a": 5}), "invalid_type", "metadata[...]"),
    (said(user(), metadata={"a": "x" * 513}), "string_above_max_length", "metadata.a"),
    (said(user(), stream="yes"), "invalid_type", "stream"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "param"), WRONG_CHAT)
def test_a_wrong_chat_request_is_refused_in_openais_words(
    lab: Lab, body: dict[str, Any], code: str, param: str
) -> None:
    got = lab.ask("/v1/chat/completions", body)
    assert got.status == 400 and not got.sent
    assert (got.error["code"], got.error["param"]) == (code, param), got.error
    assert got.error["type"] == "invalid_request_error" and f"`{param}" in got.error["message"]


RIGHT_CHAT: list[dict[str, Any]] = [
    said(user(), CALLED, {"role": "tool", "tool_call_id": "call_1", "content": "x"}),
    said(user(""), {"role": "assistant", "content": ""}, user([PICTURE])),
    said(user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])),
    said(user(), enable_thinking=True, top_k=5, repetition_penalty=1.1, thinking_budget=5),
    said(user(), tools=[tool("x" * 64, parameters={})], tool_choice="required"),
    said(user(), tools=[tool()], tool_choice=tool()),
    said(user(), stop=["a", "b", "c", "d"], metadata={}, logit_bias={"5": -100}),
    said(user(), max_completion_tokens=5, max_tokens=None, top_logprobs=0, tools=None),
    said(user(), {"role": "assistant", "content": None, "refusal": "No."}, user()),
    said(user(), {"role": "assistant", "reasoning_content": "Hm."}, user()),
]


@pytest.mark.parametrize("body", RIGHT_CHAT)
def test_what_openai_and_clients_of_vendors_send_passes_the_checks(body: dict[str, Any]) -> None:
    openai_chat.parse(openai_chat.Api.CHAT, json.dumps(body).encode())


OUTPUT = {"type": "function_call_output", "call_id": "call_9", "output": "x"}
FUNCTION = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}
WRONG_RESPONSES: list[tuple[dict[str, Any], str, str]] = [
    ({"input": []}, "empty_array", "input"),
    ({"input": 5}, "invalid_type", "input"),
    ({}, "missing_required_parameter", "input"),
    ({"input": "x", "max_output_tokens": 0}, "integer_below_min_value", "max_output_tokens"),
    ({"input": "x", "max_output_tokens": "5"}, "invalid_type", "max_output_tokens"),
    ({"input": "x", "temperature": 3}, "decimal_above_max_value", "temperature"),
    ({"input": "x", "reasoning": {"effort": "frantic"}}, "invalid_value", "reasoning.effort"),
    ({"input": [OUTPUT]}, "invalid_value", "input[0].call_id"),
    ({"input": "x", "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "no"}},
     "invalid_value", "tool_choice"),
    ({"input": "x", "tool_choice": "required"}, "invalid_value", "tool_choice"),
    ({"input": "x", "tools": [FUNCTION | {"name": "x" * 65}]}, "string_above_max_length",
     "tools[0].name"),
    ({"input": "x", "include": ["everything"]}, "invalid_value", "include[0]"),
    ({"input": "x", "metadata": {str(n): "x" for n in range(17)}}, "object_above_max_properties",
     "metadata"),
    ({"input": "x", "text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
    ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "param"), WRONG_RESPONSES)
def test_a_wrong_responses_request_names_the_callers_own_fields(
    lab: Lab, body: dict[str, Any], code: str, param: str
) -> None:
    got = lab.ask("/v1/responses", {"model": "openai"} | body)
    assert got.status == 400 and not got.sent
    assert (got.error["code"], got.error["param"]) == (code, param), got.error


def test_a_bad_key_has_openais_type(lab: Lab) -> None:
    got = lab.ask("/v1/chat/completions", CHAT, authorization=PLACEHOLDER)
    assert got.error["type"] == "invalid_request_error"
    got = lab.ask("/v1/messages", CHAT, authorization=PLACEHOLDER)
    assert got.error["type"] == "authentication_error"


# No OpenAPI document for /v1 (fault 15)
def _calls_of_the_sdks() -> list[tuple[str, str]]:
    """Method and path of every call of the official SDKs that is served, as they send it."""
    seen: list[tuple[str, str]] = []

    def client(web: Any) -> Any:
        """By the package that the SDK uses."""

        def note(request: Any) -> Any:
            seen.append((request.method, request.url.path))
            return web.Response(200, json={})

        return web.Client(transport=web.MockTransport(note))

    theirs = openai.OpenAI(
        api_key="x", base_url="http://h/v1", http_client=client(httpx2), max_retries=0
    )
    other = anthropic.Anthropic(
        api_key="x", base_url="http://h", http_client=client(httpx2), max_retries=0
    )
    said: Any = [user()]
    theirs.chat.completions.create(model="m", messages=said)
    theirs.completions.create(model="m", prompt="x")
    theirs.embeddings.create(model="m", input="x", encoding_format="float")
    theirs.models.list()
    theirs.models.retrieve("field/m")
    theirs.responses.create(model="m", input="x")
    theirs.responses.retrieve("resp_1")
    theirs.responses.delete("resp_1")
    theirs.responses.cancel("resp_1")
    theirs.responses.compact(model="m", input="x")
    theirs.responses.input_tokens.count(model="m", input="x")
    theirs.responses.input_items.list("resp_1")
    other.messages.create(model="m", max_tokens=5, messages=said)
    other.messages.count_tokens(model="m", messages=said)
    other.models.list()
    other.models.retrieve("m")
    return seen


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/openapi.json"])
def test_the_openapi_document_has_the_paths_of_the_official_sdks(lab: Lab, path: str) -> None:
    got = lab.ask(path, b"", method="GET", authorization="")
    assert got.status == 200 and got.headers["content-type"] == "application/json"
    document = json.loads(got.body)
    called = _calls_of_the_sdks()
    assert len(called) == 16
    for method, called_path in called:
        pattern = next(p for p in document["paths"]
                       if re.fullmatch(re.sub(r"\\\{id\\\}", ".+", re.escape(p)), called_path)
                       and method.lower() in document["paths"][p])  # fmt: skip
        assert document["paths"][pattern][method.lower()]["operationId"]
    assert {route.path for route in routes.ROUTES} == document["paths"].keys()


def test_the_openapi_document_is_one_and_its_schemas_take_requests() -> None:
    document = json.loads(openapi.document())
    schemathesis.openapi.from_dict(document)
    names = [op["operationId"] for ops in document["paths"].values() for op in ops.values()]
    assert len(names) == len(set(names))
    for path, operations in document["paths"].items():
        body = operations.get("post", {}).get("requestBody")
        if body is not None:
            schema = body["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator.check_schema(schema)
            jsonschema.validate(http_reference.GATEWAY_EXAMPLES[path], schema)
    chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    properties = chat["content"]["application/json"]["schema"]["properties"]
    assert properties["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}


@pytest.mark.parametrize("model", ["openai", "anthropic", "deepseek"])
def test_a_tool_in_another_apis_form_is_named_for_what_it_lacks(lab: Lab, model: str) -> None:
    """Not as one that runs on somebody's servers."""
    chat = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    got = lab.ask("/v1/responses", {"model": model, "input": "hi", "tools": [chat]})
    assert (got.status, got.error["param"], got.sent) == (400, "tools[0].name", [])
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    for tool in (chat, {"name": "f", "parameters": {"type": "object"}}):
        got = lab.ask("/v1/messages", body | {"tools": [tool]})
        assert got.status == 400 and not got.sent
        assert "tools[0].input_schema" in got.error["message"]
