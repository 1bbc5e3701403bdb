"""Leaks: what upstreams say reaches callers without keys and addresses, and faults as a sentence."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.small_server import JsonHandler, serving
from tests.stack import PRICES, Stack
from tests.waiting import until
from tokenschain.core.redaction import ADDRESS, CREDENTIAL

KEY = "sk-UPSTREAM-0123456789abcdef-SECRET"
INSIDE = "10.20.30.40:8443"
HOST = "gpu-7.rack.internal"
BASE64 = base64.b64encode(KEY.encode()).decode()
OF_OTHERS = (
    "AKIAIOSFODNN7EXAMPLE",
    "gsk_abcdefghijklmnop0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl",
)
"""Credentials of services behind the upstream, which are known by their form alone."""
SAID = (
    f"temperature is wrong; got authorization: Bearer {KEY} ({BASE64}) at http://{HOST}/v1, {INSIDE}"
    f"; signed by {', '.join(OF_OTHERS)}"
)
HIDDEN = (KEY, KEY[:12], KEY[-12:], BASE64[:12], INSIDE, HOST, "10.20.30.40", *OF_OTHERS)
REQUESTS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "rerank": {"query": "q", "documents": ["a"]},
    "messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "responses": {"input": "hi"},
}
MODELS = {"embeddings": "e", "rerank": "r"}


class Talkative(JsonHandler):
    """Answers as `answer` says: status, body, and whether the body is a stream."""

    answer: tuple[int, Any, bool] = (400, {}, False)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body, streams = Talkative.answer
        if not streams:
            self._send(status, body)
            return
        self.send_response(status)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in body:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.close_connection = True


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serving(Talkative) as url:
        folder = tmp_path_factory.mktemp("talkative")
        (folder / "key").write_text(KEY)
        (folder / "key").chmod(0o600)
        entries: list[dict[str, Any]] = [
            {"id": "cloud", "models": ["m", "e", "r"], "base_url": f"{url}/v1",
             "kinds": {"e": "embedding", "r": "rerank"}, "credential": f"file:{folder / 'key'}"},
            {"id": "gone", "models": ["gone"], "base_url": "http://127.0.0.1:9/v1"},
            {"id": "keyless", "models": ["keyless"], "base_url": f"{url}/v1",
             "credential": "env:NO_SUCH_VARIABLE_HERE"},
        ]  # fmt: skip
        for entry in entries:
            entry["prices"] = dict.fromkeys(entry["models"], PRICES)
        made = Stack(folder / "s", url, upstreams=entries).start()
        yield made
        made.close()


def ask(stack: Stack, api: str, **more: Any) -> httpx.Response:
    body = {"model": MODELS.get(api, "m"), **REQUESTS[api], **more}
    return web.post(f"{stack.url}/v1/{api}", json=body, headers=stack.headers, timeout=30)


def hides(reply: httpx.Response) -> str:
    everything = reply.text + str(reply.headers)
    for text in HIDDEN:
        assert text not in everything
    return reply.text


@pytest.mark.parametrize("api", REQUESTS)
def test_a_refusal_of_the_request_keeps_its_sentence_and_loses_keys_and_addresses(
    stack: Stack, api: str
) -> None:
    Talkative.answer = 400, {"error": {"message": SAID, "param": f"x {KEY}", "code": KEY}}, False
    text = hides(ask(stack, api))
    assert "temperature is wrong" in text and CREDENTIAL in text and ADDRESS in text
    Talkative.answer = 200, {"error": {"message": SAID, "code": "invalid_request"}}, False
    hides(ask(stack, api))


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 418, 429, 500, 502, 503, 529])
def test_a_fault_of_an_upstream_is_a_plain_sentence_and_the_id_of_the_call(
    stack: Stack, status: int
) -> None:
    Talkative.answer = (
        status,
        {"error": {"message": f"boom {SAID}", "code": f"c{status} {KEY}"}},
        False,
    )
    reply = ask(stack, "chat/completions")
    text = hides(reply)
    assert "boom" not in text and f"c{status}" not in text and "temperature" not in text
    if status != 409 or reply.status_code >= 500:
        assert reply.headers["x-request-id"] in json.loads(text)["error"]["message"]
    assert reply.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("api", ["chat/completions", "messages", "responses"])
def test_errors_in_streams_are_told_alike(stack: Stack, api: str) -> None:
    refusal = {"error": {"message": SAID, "type": "invalid_request_error", "code": "400"}}
    word = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    for events in ([refusal], [word, refusal], [word], [word, {"choices": 7}], []):
        Talkative.answer = 200, events, True
        hides(ask(stack, api, stream=True))
    Talkative.answer = 400, {"error": {"message": SAID}}, False
    hides(ask(stack, api, stream=True))


def test_what_the_caller_is_not_told_is_in_the_log_without_keys(stack: Stack) -> None:
    Talkative.answer = 500, {"error": {"message": f"engine crashed; {SAID}"}}, False
    call = ask(stack, "chat/completions").headers["x-request-id"]
    until(lambda: f'"call": "{call}"' in stack.read_log() or _again(stack))
    log = stack.read_log()
    assert "engine crashed" in log
    for text in (KEY, KEY[-12:], BASE64[:12]):
        assert text not in log


def _again(stack: Stack) -> bool:
    """One line a second passes of each upstream."""
    call = ask(stack, "chat/completions").headers["x-request-id"]
    return f'"call": "{call}"' in stack.read_log()


def test_where_an_upstream_is_and_where_its_key_is_stays_inside(stack: Stack) -> None:
    for model in ("gone", "keyless"):
        reply = ask(stack, "chat/completions", model=model)
        assert reply.status_code in (502, 503)
        for text in ("127.0.0.1", ":9", "refused", "NO_SUCH_VARIABLE", "env:"):
            assert text not in reply.text
