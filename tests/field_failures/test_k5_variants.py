"""Variants of upstreams' HTTP and streams (kind K5), and what clients get of answers (K6, K7).

Whole calls through the gateway in this process. Each case names the public reports that it comes
from.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import time
import zlib
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

from tests.field_failures.answers import (
    APIS,
    DONE,
    Json,
    answers,
    ask,
    call,
    chunk,
    frames,
    heard,
    last_usage,
    message,
)
from tests.translation.answers import events_in
from tests.translation.lab import Lab
from tests.vendors.strict.vendor import Answer
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.snapshot import ModelRoute, Upstream
from tokenschain.providers.openai_compat import body_decoding, targets
from tokenschain.providers.vendor_profile import PLAIN

MODELS = ("openai", "deepseek")
PAGE = b"<html><h1>502 Bad Gateway</h1></html>"


# Growth-Circle/cadis#362, netease-lcap/wave-agent#1326, openclaw/openclaw#52679 (R11)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("empty", [b"data:\n\n", b"data: \n\n", b"data:\n", b"event: ping\n\n",
                                   b"id: 7\n\n", b": keep-alive\n\n", b"retry: 3000\n\n"])  # fmt: skip
def test_r11_events_without_data_are_skipped(lab: Lab, api: str, empty: bytes) -> None:
    parts = [chunk(content="fi"), chunk(content="ne"), chunk("stop"), last_usage()]
    mixed: list[Any] = [empty, empty]
    for part in parts:
        mixed += [part, empty]
    for model in MODELS:
        answers(lab, *frames(*mixed))
        got = ask(lab, api, model, stream=True)
        assert heard(got, api, stream=True).text == "fine"
        assert b"data:\n" not in got.body and b"data: \n" not in got.body


# apache/apisix#13544, envoyproxy/ai-gateway#1927, gadievron/raptor#547 (R14)


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", deflated),
    "unsaid gzip": ("", gzip.compress),
    "said and not": ("gzip", bytes),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("how", PACKERS)
def test_r14_a_compressed_answer_is_read(lab: Lab, api: str, how: str) -> None:
    name, pack = PACKERS[how]
    headers = {"content_encoding": name} if name else {}
    body = pack(json.dumps(message()).encode())
    answers(lab, body, **headers)
    assert heard(ask(lab, api), api).text == "fine"
    stream = pack(b"".join(frames(chunk(content="fine"), chunk("stop"), last_usage())))
    for size in (1, 7, len(stream)):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        answers(lab, *pieces, kind="text/event-stream", **headers)
        assert heard(ask(lab, api, stream=True), api, stream=True).text == "fine"


def test_r14_a_compressed_error_is_understood(lab: Lab) -> None:
    error = {"error": {"message": "This model's maximum context length is 8192", "code": "x"}}
    body = gzip.compress(json.dumps(error).encode())
    answers(lab, body, status=400, content_encoding="gzip")
    got = ask(lab, "chat/completions")
    assert got.status == 400 and "8192" in got.error["message"]


def test_r14_identity_is_asked_for_and_what_nobody_knows_is_refused(lab: Lab) -> None:
    upstream = Upstream("u", "custom", "http://u.example/v1", ())
    head = targets.target_of(upstream, PLAIN, Api.CHAT, None, None, None).keyless_head
    assert b"accept-encoding: identity\r\n" in head
    answers(lab, b"\x0b\x02\x80nonsense", content_encoding="br")
    got = ask(lab, "chat/completions")
    assert got.status == 502 and got.record.error == "upstream_invalid_reply"


def test_r14_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(body_decoding.BadEncoding):
        body_decoding.decoded(bomb, {}, 1_000_000)
    twice = gzip.compress(b"a") + gzip.compress(b"b")
    assert body_decoding.decoded(twice, {}, 1_000) == b"ab"


# diegosouzapw/OmniRoute#3108, openclaw/openclaw#97454, BYK/loreai#605 (R15)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "text/event-stream", "application/octet-stream"]
)
def test_r15_an_answer_comes_in_the_form_that_was_asked_for(
    lab: Lab, api: str, model: str, kind: str
) -> None:
    whole = message(reasoning_content="hmm", finish="tool_calls", tool_calls=[call()])
    parts = [chunk(reasoning_content="hmm"), chunk(content="fine"), chunk(tool_calls=[call()])]
    stream = frames(*parts, chunk("tool_calls"), last_usage())
    for streamed in (False, True):
        for pieces in ((json.dumps(whole).encode(),), stream, (b"\xef\xbb\xbf", *stream)):
            answers(lab, *pieces, kind=kind)
            got = ask(lab, api, model, stream=streamed, tools=True)
            found = heard(got, api, stream=streamed)
            assert (found.text, found.reasoning) == ("fine", "hmm")
            assert [c[1:] for c in found.calls] == [("get_weather", {"city": "Paris"})]
            record = got.record
            assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("ok", 11, 7)


@pytest.mark.parametrize("api", ["chat/completions", "messages"])
def test_r15_at_anthropics_own_protocol(lab: Lab, api: str) -> None:
    block = {"type": "text", "text": "fine"}
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [block],
        "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }  # fmt: skip
    begun = whole | {"content": [], "stop_reason": None}
    events: list[Json] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "fine"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]
    stream = [
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events
    ]
    for streamed in (False, True):
        for pieces in ([json.dumps(whole).encode()], stream):
            answers(lab, *pieces)
            got = ask(lab, api, "anthropic", stream=streamed)
            assert heard(got, api, stream=streamed).text == "fine"
            assert (got.record.prompt_tokens, got.record.completion_tokens) == (11, 7)


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_line_ends_and_cuts_of_any_kind(lab: Lab, ends: bytes) -> None:
    body = b"".join(frames(chunk(content="fi"), chunk(content="ne"), chunk("stop"), last_usage()))
    body = b"\xef\xbb\xbf" + body.replace(b"\n", ends)
    for size in (1, 2, 3, 50, 1_000_000):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        answers(lab, *pieces, kind="text/event-stream")
        for api in APIS:
            assert heard(ask(lab, api, stream=True), api, stream=True).text == "fine"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "odd",
    [{}, {"id": "c-1"}, {"choices": []}, {"choices": {}}, b"data: null\n\n", {"ping": True},
     {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": None}, {"code": 0}],
)  # fmt: skip
def test_chunks_that_say_nothing_disturb_nobody(lab: Lab, api: str, odd: Any) -> None:
    for model in MODELS:
        answers(
            lab, *frames(odd, chunk(content="fi"), chunk(content="ne"), odd, chunk("stop"), odd)
        )
        assert heard(ask(lab, api, model, stream=True), api, stream=True).text == "fine"


# ENTERPILOT/GoModel#947, kortix-ai/suna#4099, HKUDS/nanobot#4288, speakeasy-api/gram#3129 (R32)


NO_ANSWERS: dict[str, bytes | Json] = {
    "page": PAGE,
    "nothing": b"",
    "blank": b"\n\n",
    "choices []": message() | {"choices": []},
    "choices null": message() | {"choices": None},
    "choices missing": {"id": "c-1", "usage": {"prompt_tokens": 11, "completion_tokens": 7}},
    "message null": message() | {"choices": [{"index": 0, "message": None, "finish_reason": None}]},
    "code and msg": {"code": 1001, "msg": "no"},
    "error": {"error": {"message": "no", "code": "internal"}},
    "base_resp": {"base_resp": {"status_code": "1000", "status_msg": "no"}, "choices": None},
    "object": {},
    "list": b"[]",
    "text": b'"fine"',
    "cut": json.dumps(message()).encode()[:-9],
}


@pytest.fixture
def pair(lab: Lab) -> Any:
    """A model that two upstreams serve."""
    before = lab.served.get()
    offers = (*before.models["openai"].offers, *before.models["deepseek"].offers)
    models = before.models | {"pair": ModelRoute("pair", "chat", offers)}
    lab.served.replace(msgspec.structs.replace(before, models=models))
    lab.fresh()
    yield lab
    lab.served.replace(before)
    lab.fresh()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("what", NO_ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
def test_r32_an_empty_success_is_none(pair: Lab, api: str, what: str, stream: bool) -> None:
    found = NO_ANSWERS[what]
    body = found if isinstance(found, bytes) else json.dumps(found).encode()
    kind = "text/event-stream" if stream else "application/json"
    tried = []

    def second(answer: Answer) -> Answer:
        tried.append(answer)
        return answer if len(tried) > 1 else Answer(200, (("content-type", kind),), (body,))

    pair.alter = second
    got = ask(pair, api, "pair", stream=stream)
    assert heard(got, api, stream=stream).text and len(tried) == 2
    answers(pair, body, kind=kind)
    pair.fresh()
    got = ask(pair, api, "pair", stream=stream)
    record: Any = got.record
    assert got.status >= 502 and record.outcome != "ok" and not record.charge_pico
    assert record.fault == "upstream"


@pytest.mark.parametrize("api", ["messages", "chat/completions"])
@pytest.mark.parametrize("model", ["anthropic", "dashscope-native", "hunyuan-native"])
@pytest.mark.parametrize("body", [b"{}", b"[]", b"", PAGE, b'{"Response":{}}', b'{"output":null}'])
def test_r32_at_other_protocols(lab: Lab, api: str, model: str, body: bytes) -> None:
    for stream in (False, True):
        lab.fresh()
        answers(lab, body)
        got = ask(lab, api, model, stream=stream)
        assert got.status == 502 and got.record.outcome != "ok" and not got.record.charge_pico


# own (P10)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("http://u.example/openai/deployments/gpt?api-version=2024-10-21",
         "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"),
        ("http://u.example/v1/?a=1&b=2", "/v1/chat/completions?a=1&b=2"),
        ("http://u.example?key=x", "/chat/completions?key=x"),
        ("http://u.example/v1/", "/v1/chat/completions"),
    ],
)  # fmt: skip
def test_p10_a_query_stays_at_the_end_of_the_path(base: str, path: str) -> None:
    target = targets.target_of(Upstream("u", "custom", base, ()), PLAIN, Api.CHAT, None, None, None)
    assert target.path == path and target.origin.host == "u.example"


# own (P14)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, {7}),
        ({"retry_after": "2.5"}, {3}),
        ({"retry_after": "DATE+30"}, {29, 30}),
        ({"retry_after_ms": "1500"}, {2}),
        ({"retry_after_ms": "20"}, {1}),
        ({"retry_after": "60", "retry_after_ms": "1500"}, {2}),
        ({"x_ratelimit_reset_requests": "1m30s", "x_ratelimit_remaining_requests": "0"}, {90}),
        ({"x_ratelimit_reset_tokens": "250ms", "x_ratelimit_remaining_tokens": "0"}, {1}),
        ({"x_ratelimit_reset": "EPOCH+30"}, {29, 30}),
        ({"x_ratelimit_reset": "12"}, {12}),
        ({"retry_after": "soon"}, {None}),
        ({"retry_after": "-5"}, {None}),
        ({"retry_after": "nan"}, {None}),
    ],
)
def test_p14_how_long_to_wait_is_passed_on_as_whole_seconds(
    lab: Lab, headers: dict[str, str], seconds: set[int | None]
) -> None:
    then = time.time() + 30
    headers = {
        name: formatdate(then, usegmt=True) if value == "DATE+30"
        else str(int(then)) if value == "EPOCH+30" else value
        for name, value in headers.items()
    }  # fmt: skip
    answers(lab, {"error": {"message": "slow down", "code": "x"}}, status=429, **headers)
    got = ask(lab, "chat/completions")
    found = got.headers.get("retry-after")
    assert got.status == 429 and (None if found is None else int(found)) in seconds


# follows P19 (P23)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "error",
    [
        {"code": 1001, "msg": "no"},
        {"code": "Boom", "message": "no"},
        {"error": {"message": "no"}},
        {"error": "no"},
        {"base_resp": {"status_code": 1000, "status_msg": "no"}},
        {"error_code": 7, "error_msg": "no"},
        {"object": "error", "message": "no"},
        {"type": "error"},
        {"detail": "no"},
        b'event: error\ndata: {"text": "no"}\n\n',
    ],
)
def test_p23_a_stream_that_ends_in_an_error_is_no_success(
    lab: Lab, api: str, model: str, error: Json | bytes
) -> None:
    words = [chunk(content=word) for word in ("fi", "ne", ", so")]
    for before in (words, []):
        lab.fresh()
        answers(lab, *frames(*before, error))
        got = ask(lab, api, model, stream=True)
        assert got.record.outcome != "ok" and got.record.fault == "upstream"
        if before:
            assert heard(got, api, stream=True).error is not None
            assert not got.body.endswith(DONE)
        else:
            assert got.status >= 502 and not got.record.charge_pico


# the end that is none (19): an upstream that says `[DONE]` has ended on purpose, whether it said
# why or not; a connection that ends without either has not


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_end_marker_without_a_finish_reason_ends_what_was_said(
    lab: Lab, api: str, model: str, stream: bool
) -> None:
    """What was said is the answer: the finish reason follows from it, and the record says that
    the upstream gave none. Where a whole answer was asked for, too."""
    answers(lab, *frames(chunk(content="fi"), chunk(content="ne"), last_usage()))
    got = ask(lab, api, model, stream=stream)
    said = heard(got, api, stream=stream)
    assert (said.text, said.error, said.finish) == ("fine", None, FINISH[api][0])
    assert (got.record.outcome, got.record.completion_tokens) == ("ok", 7)
    answers(lab, *frames(chunk(content="fine"), chunk(tool_calls=[call(id="c", index=0)])))
    got = ask(lab, api, model, stream=stream, tools=True)
    assert heard(got, api, stream=stream).finish == FINISH[api][1]
    if stream:
        assert got.record.finish_reason == "inferred"
        assert len({d["id"] for _, d in events_in(got.body) if "choices" in d}) <= 1


FINISH = {
    "chat/completions": ("stop", "tool_calls"),
    "messages": ("end_turn", "tool_use"),
    "responses": ("completed", "completed"),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_an_end_marker_within_a_tool_call_is_no_end(lab: Lab, api: str, model: str) -> None:
    """Nor within the reasoning before an answer."""
    cut = call(arguments='{"city":"Pa', id="c", index=0)
    for parts in (
        [chunk(content="fine"), chunk(tool_calls=[cut])], [chunk(tool_calls=[cut])],
        [chunk(reasoning_content="Let"), chunk(reasoning_content=" me")],
        [chunk(reasoning="hm"), last_usage()],
    ):  # fmt: skip
        lab.fresh()
        answers(lab, *frames(*parts))
        got = ask(lab, api, model, stream=True, tools=True)
        assert (got.record.outcome, got.record.error) == ("partial", "upstream_interrupted")


def test_an_end_marker_alone_is_no_answer(lab: Lab) -> None:
    for model in MODELS:
        lab.fresh()
        answers(lab, *frames(chunk(role="assistant", content="")))
        got = ask(lab, "chat/completions", model, stream=True)
        assert got.status >= 502 and got.record.fault == "upstream"


@pytest.mark.parametrize("api", APIS)
def test_anthropics_end_without_a_stop_reason(lab: Lab, api: str) -> None:
    usage = {"input_tokens": 11, "output_tokens": 7}
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    text = {"type": "text_delta", "text": "fine"}
    events: list[Json] = [
        {"type": "message_start", "message": start | {"model": "up-model"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": text},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    answers(lab, *frames(*events, done=False))
    got = ask(lab, api, "anthropic", stream=True)
    assert heard(got, api, stream=True).finish == FINISH[api][0]
    assert (got.record.outcome, got.record.finish_reason) == ("ok", "inferred")
    assert (got.record.prompt_tokens, got.record.completion_tokens) == (11, 7)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", ["thinking", "tool_use"])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("last", ["message_stop", "[DONE]"])
def test_anthropics_end_within_reasoning_or_a_call_is_none(
    lab: Lab, api: str, kind: str, closed: bool, last: str
) -> None:
    if kind == "tool_use" and closed:
        return  # a whole call
    usage = {"input_tokens": 11, "output_tokens": 7}
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    block, delta = {
        "thinking": ({"thinking": "", "signature": ""}, {"thinking": "Let me see."}),
        "tool_use": ({"id": "t1", "name": "get_weather", "input": {}}, {"partial_json": '{"ci'}),
    }[kind]
    piece = {"type": "thinking_delta" if kind == "thinking" else "input_json_delta", **delta}
    events: list[Json] = [
        {"type": "message_start", "message": start | {"model": "up-model"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **block}},
        {"type": "content_block_delta", "index": 0, "delta": piece},
    ]
    events += [{"type": "content_block_stop", "index": 0}] if closed else []
    events += [{"type": "message_stop"}] if last == "message_stop" else []
    answers(lab, *frames(*events, done=last == "[DONE]"))
    got = ask(lab, api, "anthropic", stream=True, tools=True)
    assert b"message_stop" not in got.body and b"response.completed" not in got.body
    assert b"error" in got.body or b"response.failed" in got.body
    assert (got.record.outcome, got.record.error) == ("partial", "upstream_interrupted"), got.body


# router-for-me/CLIProxyAPI#3965, decolua/9router#1311, BerriAI/litellm#22709 (R22)


@pytest.mark.parametrize("api", APIS)
def test_r22_an_answer_names_the_model_that_gave_it(lab: Lab, api: str) -> None:
    """As OpenAI's own do; see the reference."""
    answers(lab, message())
    assert json.loads(ask(lab, api).body)["model"] == "up-model"
    answers(lab, message() | {"model": None})
    assert json.loads(ask(lab, api).body)["model"]


# router-for-me/CLIProxyAPI#1700, MadAppGang/claudish#123 (R35)


def test_r35_a_stream_begins_with_the_estimated_input_tokens(lab: Lab) -> None:
    answers(lab, *frames(chunk(content="fine"), chunk("stop"), last_usage()))
    messages = [{"role": "user", "content": "word " * 500}]
    got = ask(lab, "messages", stream=True, messages=messages)
    events = dict(events_in(got.body))
    assert 300 < events["message_start"]["message"]["usage"]["input_tokens"] < 1_000
    assert events["message_delta"]["usage"]["input_tokens"] == 11


# getzep/graphiti#1782, stevereiner/flexible-graphrag#17, openai/openai-dotnet#51 (R21)


VECTOR = [0.25, -0.5, 1.0]
PACKED = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()


def embedding(vector: Any) -> Json:
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "data": data, "model": "m", "usage": usage}


@pytest.mark.parametrize("given", [VECTOR, PACKED])
@pytest.mark.parametrize(
    ("form", "wanted"), [("base64", PACKED), ("float", VECTOR), (None, VECTOR)]
)
def test_r21_embeddings_come_in_the_form_that_was_asked_for(
    lab: Lab, given: Any, form: str | None, wanted: Any
) -> None:
    answers(lab, embedding(given))
    body = {"model": "openai-embed", "input": "hi"} | ({"encoding_format": form} if form else {})
    got = lab.ask("/v1/embeddings", body)
    assert json.loads(got.body)["data"][0]["embedding"] == wanted
    assert got.record.prompt_tokens == 3


def test_r21_an_upstream_that_refuses_base64_is_asked_for_numbers(lab: Lab) -> None:
    asked = []

    def refuses(answer: Answer) -> Answer:
        asked.append(answer)
        if len(asked) == 1:
            error = {"error": {"message": "encoding_format must be float", "code": None}}
            return Answer(
                400, (("content-type", "application/json"),), (json.dumps(error).encode(),)
            )
        return Answer(
            200, (("content-type", "application/json"),), (json.dumps(embedding(VECTOR)).encode(),)
        )

    lab.alter = refuses
    body = {"model": "openai-embed", "input": "hi", "encoding_format": "base64"}
    for _ in range(2):
        got = lab.ask("/v1/embeddings", body)
        assert json.loads(got.body)["data"][0]["embedding"] == PACKED
        assert got.says("x-tc-adapted") == ["encoding_format"]
        assert got.sent[-1]["encoding_format"] == "float"
    assert len(asked) == 3, "it is remembered"


@pytest.mark.parametrize("data", [[], None, [{"index": 0}], [7], {}])
def test_r21_a_reply_without_vectors_is_none(lab: Lab, data: Any) -> None:
    answers(lab, embedding(VECTOR) | {"data": data})
    got = lab.ask("/v1/embeddings", {"model": "openai-embed", "input": "hi"})
    assert got.status == 502 and got.record.outcome != "ok" and not got.record.charge_pico


# sdk faults 4 and 13, P12


def test_sdk4_refusals_are_shown_at_each_api(lab: Lab) -> None:
    for stream in (False, True):
        if stream:
            answers(lab, *frames(chunk(refusal="I will "), chunk(refusal="not."), chunk("stop")))
        else:
            answers(lab, message(None, refusal="I will not."))
        for api in ("chat/completions", "responses"):
            found = heard(ask(lab, api, stream=stream), api, stream=stream)
            assert (found.refusal, found.text) == ("I will not.", "")
        found = heard(ask(lab, "messages", stream=stream), "messages", stream=stream)
        assert (found.text, found.finish) == ("I will not.", "refusal")


@pytest.mark.parametrize("reasoning", [{"summary": "auto"}, {"summary": None}, None])
def test_sdk13_reasoning_comes_as_a_summary_where_one_was_asked_for(
    lab: Lab, reasoning: Json | None
) -> None:
    more = {} if reasoning is None else {"reasoning": reasoning}
    summary = bool(reasoning and reasoning["summary"])
    answers(lab, message(reasoning_content="hmm"))
    item = json.loads(ask(lab, "responses", **more).body)["output"][0]
    assert [p["text"] for p in item["summary"]] == (["hmm"] if summary else [])
    assert bool(item.get("content")) is not summary
    answers(
        lab, *frames(chunk(reasoning="h"), chunk(reasoning="mm"), chunk(content="a"), chunk("stop"))
    )
    kinds = [kind for kind, _ in events_in(ask(lab, "responses", stream=True, **more).body)]
    wanted = [
        "response.output_item.added",
        *(["response.reasoning_summary_part.added"] if summary else []),
        *([f"response.reasoning_{'summary_' if summary else ''}text.delta"] * 2),
    ]
    assert kinds[2 : 2 + len(wanted)] == wanted
    assert (f"response.reasoning_{'summary_' if summary else ''}text.done") in kinds


def test_a_freeform_tool_is_called_as_one(lab: Lab) -> None:
    """decolua/9router#1007, diegosouzapw/OmniRoute#4862 (R25): Codex's apply_patch."""
    tools = [{"type": "custom", "name": "apply_patch", "description": "d"}]
    patch = call("apply_patch", json.dumps({"input": "*** Begin"}), id="call_1")
    answers(lab, message(None, "tool_calls", tool_calls=[patch]))
    got = lab.ask(
        "/v1/responses", {"model": "deepseek", "input": "hi", "tools": tools, "store": False}
    )
    item = json.loads(got.body)["output"][-1]
    assert (item["type"], item["name"], item["input"]) == (
        "custom_tool_call",
        "apply_patch",
        "*** Begin",
    )
    pieces = [call("apply_patch", "", id="call_1", index=0), call(None, '{"input":"*** Be', index=0),
              call(None, 'gin"}', index=0)]  # fmt: skip
    answers(lab, *frames(*(chunk(tool_calls=[piece]) for piece in pieces), chunk("tool_calls")))
    got = lab.ask(
        "/v1/responses",
        {"model": "deepseek", "input": "hi", "tools": tools, "store": False, "stream": True},
    )
    events = list(events_in(got.body))
    said = "".join(d["delta"] for k, d in events if k == "response.custom_tool_call_input.delta")
    assert said == "*** Begin"
    item = events[-1][1]["response"]["output"][-1]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin")


def test_logprobs_and_stops_and_sound_are_not_lost(lab: Lab) -> None:
    logprobs = {"content": [{"token": "fine", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    answer = message()
    answer["choices"][0]["logprobs"] = logprobs
    answers(lab, answer)
    part = json.loads(ask(lab, "responses").body)["output"][0]["content"][0]
    assert part["logprobs"] == logprobs["content"]
    answer = message()
    answer["choices"][0]["stop_reason"] = "END"  # vLLM
    answers(lab, answer)
    made = json.loads(ask(lab, "messages").body)
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "END")
    answers(lab, message(None, audio={"id": "a", "data": "AAAA", "transcript": "spoken"}))
    assert heard(ask(lab, "messages"), "messages").text == "spoken"


def test_p12_what_anthropic_says_comes_back_to_its_callers(lab: Lab) -> None:
    """Server tools, citations and stops of the same protocol, whole: as they came."""
    blocks = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {
            "type": "text",
            "text": "fine",
            "citations": [{"type": "char_location", "cited_text": "f"}],
        },
    ]
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": blocks,
        "stop_reason": "pause_turn", "stop_sequence": None, "container": {"id": "c"},
        "usage": {"input_tokens": 11, "output_tokens": 7, "service_tier": "standard"},
    }  # fmt: skip
    answers(lab, whole)
    got = ask(lab, "messages", "anthropic")
    assert json.loads(got.body) == whole
    assert got.record.completion_tokens == 7
    ended = whole | {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    answers(lab, ended)
    made = json.loads(ask(lab, "chat/completions", "anthropic").body)["choices"][0]
    assert (made["finish_reason"], made["stop_sequence"]) == ("stop", "END")
