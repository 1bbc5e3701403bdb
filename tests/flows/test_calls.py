"""Whole calls through real processes, as callers make them."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests import web
from tests.stack import START_MAX_S, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until


def events_of(text: str) -> list[dict]:
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(data) for data in found if data != "[DONE]"]


def text_of(events: list[dict]) -> str:
    return "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])


def test_a_call_is_answered_metered_and_priced(stack: Stack) -> None:
    reply = stack.chat()
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"] == "word0 word1 word2 word3 "
    assert reply.headers["x-tc-upstream"] == "sim"
    assert reply.headers["x-request-id"].startswith("req_")
    row = stack.row_of(reply)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 4)
    # 10 tokens at 1 CNY/1M and 4 at 2 CNY/1M, in pico-yuan.
    assert row["cost_pico"] == 10 * 1_000_000 + 4 * 2_000_000
    assert reply.headers["x-tc-cost"] == "0.000018 CNY"
    assert (row["outcome"], row["usage_source"], row["tenant"]) == ("ok", "provider", "default")
    assert row["event_id"] == reply.headers["x-request-id"]


def test_unknown_fields_travel_untouched(stack: Stack, upstream: UpstreamSimulator) -> None:
    odd = {"deep": [1, 2.50, None, {"中文": "✓"}], "big": 12345678901234567890}
    stack.chat(enable_thinking=True, vendor_option=odd)
    sent = upstream.requests[-1]
    assert sent["vendor_option"] == odd and sent["enable_thinking"] is True


def test_usage_is_recorded_but_stripped_when_not_asked_for(stack: Stack) -> None:
    plain = stack.chat(stream=True)
    assert all("usage" not in event for event in events_of(plain.text))
    asked = stack.chat(stream=True, stream_options={"include_usage": True})
    assert events_of(asked.text)[-1]["usage"]["completion_tokens"] == 4
    rows = [stack.row_of(plain), stack.row_of(asked)]
    assert [row["completion_tokens"] for row in rows] == [4, 4]
    assert all(row["usage_source"] == "provider" and row["streamed"] for row in rows)


@pytest.mark.parametrize("mode", ["cumulative", "twice", "final"])
def test_usage_counts_once_however_it_comes(stack: Stack, mode: str) -> None:
    reply = stack.chat(stream=True, x_sim={"usage": mode, "tokens": 6})
    assert text_of(events_of(reply.text)) == "".join(f"word{i} " for i in range(6))
    row = stack.row_of(reply)
    assert (row["completion_tokens"], row["usage_source"]) == (6, "provider")


def test_a_missing_end_marker_is_supplied(stack: Stack) -> None:
    reply = stack.chat(stream=True, x_sim={"done": False})
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'{"model":"sim-chat"}', "missing_required_parameter", "messages"),
        (b'{"model":"sim-chat","messages":[]}', "empty_array", "messages"),
        (b'{"model":"sim-chat","messages":[{"role":"x"}]}', "invalid_value", "messages[0].role"),
        (b'{"model":7,"messages":[{"role":"user"}]}', "invalid_type", "model"),
        (
            b'{"model":"sim-chat","messages":[{"role":"user"}],"temperature":9}',
            "decimal_above_max_value",
            "temperature",
        ),
        (b'{"model":"sim-chat","messages":' + b"[" * 50_000, "invalid_json", None),
    ],
)
def test_bad_bodies_are_refused_with_the_field_to_blame(
    stack: Stack, upstream: UpstreamSimulator, body: bytes, code: str, param: str | None
) -> None:
    seen = len(upstream.requests)
    reply = web.post(f"{stack.url}/v1/chat/completions", content=body, headers=stack.headers)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert len(upstream.requests) == seen


def test_model_errors_say_what_to_do(stack: Stack) -> None:
    missing = stack.chat(model="nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    wrong = stack.chat(model="sim-embed")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "model")


def test_embeddings_and_models(stack: Stack) -> None:
    reply = web.post(
        f"{stack.url}/v1/embeddings",
        json={"model": "sim-embed", "input": ["a", "b"]},
        headers={"x-api-key": stack.key},
    )
    assert [d["index"] for d in reply.json()["data"]] == [0, 1]
    empty = web.post(
        f"{stack.url}/v1/embeddings",
        json={"model": "sim-embed", "input": ["a", ""]},
        headers=stack.headers,
    )
    assert empty.json()["error"]["param"] == "input[1]"
    listed = web.get(f"{stack.url}/v1/models", headers=stack.headers).json()["data"]
    assert {m["id"] for m in listed} == {"sim-chat", "sim-embed", "other-chat"}
    one = web.get(f"{stack.url}/v1/models/sim-chat", headers=stack.headers).json()
    assert one["id"] == "sim-chat"


@pytest.mark.parametrize(
    ("status", "seen", "code"),
    [
        (400, 400, "invalid_request"),
        (422, 422, "invalid_request"),
        (401, 502, "upstream_rejected_credentials"),
        (402, 503, "upstream_out_of_funds"),
        (403, 502, "upstream_access_denied"),
        (404, 502, "upstream_model_not_found"),
        (451, 400, "content_filter"),
        (429, 429, "upstream_rate_limited"),
        (500, 502, "upstream_failed"),
        (503, 503, "upstream_overloaded"),
    ],
)
def test_upstream_errors_are_told_apart(stack: Stack, status: int, seen: int, code: str) -> None:
    sim = {"status": status, "error": {"message": "CANARY-detail"}, "headers": {"retry-after": 7}}
    reply = stack.chat(x_sim=sim)
    assert (reply.status_code, reply.json()["error"]["code"]) == (seen, code)
    # The upstream's words are passed on only when they are about the caller's request.
    assert ("CANARY" in reply.text) == (code in ("invalid_request", "content_filter"))
    if status == 429:
        assert reply.headers["retry-after"] == "7"
    row = stack.row_of(reply)
    assert (row["outcome"], row["cost_pico"], row["usage_source"]) == (code, 0, "none")


@pytest.mark.parametrize("wrong", ["json", "http"])
def test_nonsense_from_an_upstream_is_not_passed_on(stack: Stack, wrong: str) -> None:
    reply = stack.chat(x_sim={"wrong": wrong})
    assert reply.json()["error"]["code"] == "upstream_invalid_reply"


def test_a_context_overflow_has_its_own_code(stack: Stack) -> None:
    text = "This model's maximum context length is 4096 tokens."
    reply = stack.chat(x_sim={"status": 400, "error": {"message": text}})
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_limits_name_the_phase_that_ran_out(stack: Stack) -> None:
    late = stack.chat(x_sim={"hang": True})
    assert late.status_code == 504 and "first byte within 2 s" in late.text
    silent = stack.chat(stream=True, x_sim={"silence_s": 3})
    assert events_of(silent.text)[-1]["error"]["code"] == "upstream_timeout"
    assert "next event within 1.5 s" in silent.text and "[DONE]" not in silent.text
    endless = stack.chat(stream=True, x_sim={"tokens": 100, "pause_s": 0.2})
    assert "end within 6 s" in endless.text


def test_an_unreachable_upstream_is_said_so(own_stack) -> None:
    stack = own_stack(limits={"base_url": "http://127.0.0.1:1/v1"}).start()
    reply = stack.chat()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_unreachable")


def test_a_revoked_key_is_refused_within_a_second(stack: Stack) -> None:
    took: list[float] = []
    for _ in range(3):
        made = stack.admin("POST", "/api/v1/keys", json={"name": "x"}).json()
        stack.until_known(made["key"])
        stack.admin("DELETE", f"/api/v1/keys/{made['id']}")
        began = time.monotonic()
        stack.until_known(made["key"], known=False)
        took.append(time.monotonic() - began)
    assert sorted(took)[1] < 1, "a machine that stands still for a moment may spoil one"
    headers = {"authorization": f"Bearer {made['key']}"}
    found = web.get(f"{stack.url}/v1/models", headers=headers)
    assert found.json()["error"]["code"] == "api_key_revoked"


def test_a_key_sees_only_its_models(stack: Stack) -> None:
    headers = {"authorization": f"Bearer {stack.new_key(models=['other-chat'])}"}
    listed = web.get(f"{stack.url}/v1/models", headers=headers).json()["data"]
    assert [m["id"] for m in listed] == ["other-chat"]
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]}
    reply = web.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/responses/compact"),
    ("POST", "/api/v1/routes/explain"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("GET", "/v1/responses/resp_1/input_items"),
    ("POST", "/v1/responses/resp_1/cancel"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/sim-chat"),
]


def test_every_registered_route_is_in_the_isolation_table() -> None:
    from tokenschain.core.formats.formats import API_FORMATS

    posts = {path for method, path in ROUTES if method == "POST"}
    small = {
        "/v1/messages/count_tokens",
        "/v1/responses/resp_1/cancel",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/api/v1/routes/explain",
    }
    assert posts - small == {f"/v1/{api_format.name}" for api_format in API_FORMATS}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer tc-guess"}, "invalid_api_key"),
        ({"authorization": "Basic dGM6eA=="}, "missing_api_key"),
        ({"x-api-key": "tc-guess"}, "invalid_api_key"),
    ],
)
def test_no_route_answers_without_a_key(
    stack: Stack, upstream: UpstreamSimulator, method: str, path: str, headers: dict, code: str
) -> None:
    seen = len(upstream.requests)
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}], "input": "x"}
    content = json.dumps(body) if method == "POST" else None
    reply = web.request(method, stack.url + path, headers=headers, content=content)
    error = reply.json()["error"]
    kind = "authentication_error" if path.startswith("/v1/messages") else "invalid_request_error"
    assert (reply.status_code, error["type"]) == (401, kind)
    assert error.get("code", code) == code  # Anthropic's errors have no code
    assert len(upstream.requests) == seen


def test_small_routes(stack: Stack) -> None:
    assert web.get(f"{stack.url}/livez").text == "ok\n"
    assert web.get(f"{stack.url}/readyz").json()["ready"] is True
    assert 'tokenschain_calls_total{api="chat/completions"' in stack.metrics()
    assert httpx.head(f"{stack.url}/livez").status_code == 200
    assert web.get(f"{stack.url}/nope").json()["error"]["code"] == "not_found"
    wrong = web.get(f"{stack.url}/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    later = web.post(f"{stack.url}/v1/threads")
    assert later.status_code == 404
    packed = web.post(
        f"{stack.url}/v1/chat/completions", headers=stack.headers | {"content-encoding": "gzip"}
    )
    assert packed.status_code == 415


def test_secrets_are_in_no_log_and_no_error(stack: Stack) -> None:
    stack.chat(x_sim={"status": 401})
    web.get(f"{stack.url}/v1/models", headers={"authorization": "Bearer tc-CANARY-guess"})
    log = stack.read_log()
    assert stack.key not in log and stack.admin_token not in log and "CANARY-guess" not in log


def test_the_gateway_drains_on_sigterm(own_stack, upstream: UpstreamSimulator) -> None:
    import threading

    stack = own_stack().start()
    found: list[httpx.Response] = []
    body = {"stream": True, "x_sim": {"tokens": 10, "pause_s": 0.1}}
    caller = threading.Thread(target=lambda: found.append(stack.chat(**body)))
    before = len(upstream.requests)
    caller.start()
    until(lambda: len(upstream.requests) > before)
    stack.stop("gateway")
    caller.join()
    assert found[0].text.endswith("data: [DONE]\n\n")
    assert len(stack.settled(1)) == 1


def test_browsers_are_let_in_by_setting(stack: Stack, own_stack) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    url = "/v1/chat/completions"
    assert (
        "access-control-allow-origin" not in httpx.options(stack.url + url, headers=asked).headers
    )
    open_to = own_stack(server={"cors_origins": ["https://app.example"]}).start()
    before = httpx.options(open_to.url + url, headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == "https://app.example"
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]}
    for stream in (False, True):
        reply = web.post(
            open_to.url + url, json=body | {"stream": stream}, headers=open_to.headers | asked
        )
        assert reply.headers["access-control-allow-origin"] == "https://app.example"
    stranger = httpx.options(open_to.url + url, headers=asked | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def _listening_workers(stack) -> int:
    """Control says that it listens, too."""
    lines = stack.read_log().splitlines()
    return sum('"listening"' in line and '"gateway-' in line for line in lines)


def test_workers_share_a_port_and_any_of_them_answers_for_all(own_stack) -> None:
    stack = own_stack(server={"workers": 2})
    stack.spawn("control")
    stack.wait_ready("control")
    stack.spawn("workers")
    stack.wait_ready("gateway")
    # Whoever has the port can serve: the other worker joins it when it can, too.
    calls = 1
    assert stack.chat().status_code == 200
    deadline = time.monotonic() + START_MAX_S
    while _listening_workers(stack) < 2 and time.monotonic() < deadline:
        assert stack.chat().status_code == 200
        calls += 1
    for _ in range(30):
        assert stack.chat().status_code == 200
    until(lambda: stack.counted() == calls + 30)
    text = stack.metrics()
    counts = [li for li in text.splitlines() if li.startswith("tokenschain_calls_total")]
    assert {li.split('worker="')[1][0] for li in counts} == {"0", "1"}
    assert sum(float(li.split()[-1]) for li in counts) == calls + 30
    assert len(stack.settled(calls + 30)) == calls + 30


def test_who_asks_for_a_receipt_finds_the_call_in_the_sealed_log_by_it(stack: Stack) -> None:
    def post(**body: object) -> httpx.Response:
        sent = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}], **body}
        headers = stack.headers | {"x-tc-audit-receipt": "1"}
        return web.post(f"{stack.url}/v1/chat/completions", json=sent, headers=headers)

    whole, streamed, refused = post(), post(stream=True), post(model="none")
    assert "x-tc-audit-receipt" not in stack.chat().headers
    comment = next(line for line in streamed.text.split("\n") if line.startswith(": x-tc"))
    given = {
        whole.headers["x-request-id"]: whole.headers["x-tc-audit-receipt"],
        streamed.headers["x-request-id"]: comment.rpartition(": ")[2].strip(),
        refused.headers["x-request-id"]: refused.headers["x-tc-audit-receipt"],
    }
    assert streamed.text.rstrip().endswith("data: [DONE]")

    def state_of(receipt: str) -> str:
        found = stack.admin("GET", f"/api/v1/audit-log/receipts/{receipt}").json()
        assert given[found["call"]] == receipt
        return str(found["state"])

    until(lambda: {state_of(one) for one in given.values()} == {"sealed"})
