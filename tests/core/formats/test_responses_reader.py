"""Responses requests: the short way for texts gives what the long one does."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import responses_reader
from tokenschain.core.formats.json_body import read_body
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.formats.openai_responses import ResponsesStreamOut, reply_of
from tokenschain.core.formats.responses_reader import parse

TEXT = 'Say "hello", \\ please.\n你好 🙂\t'
BODIES: list[dict[str, Any]] = [
    {"model": "m", "input": TEXT},
    {"model": "m", "input": ""},
    {"model": "m", "input": TEXT, "instructions": "Be kind.", "store": False},
    {"model": "m", "input": "x", "instructions": "", "store": None, "temperature": 0.5},
    {"model": "m", "input": "x", "instructions": None, "store": True, "max_output_tokens": 9},
    {"model": "m", "input": "x", "stream": True, "user": None, "top_p": 1, "user_": 1},
    {"model": "m", "input": "x", "prompt_cache_key": "k", "service_tier": "auto"},
]


def read(body: bytes, monkeypatch: pytest.MonkeyPatch, *, the_long_way: bool) -> Any:
    """What is read of a body, as values that can be compared; or the error."""
    with monkeypatch.context() as patch:
        if the_long_way:
            patch.setattr(responses_reader, "_of_texts", lambda read: None)
        try:
            parsed = parse(body)
        except ApiError as error:
            return error.code, error.param, error.message
    assert parsed.native is not None
    plain = {name: json.loads(bytes(raw)) for name, raw in parsed.fields.items()}
    kept = json.loads(parsed.kept_input) if parsed.kept_input else None
    rest = {
        name: getattr(parsed, name)
        for name in parsed.__struct_fields__
        if name not in ("fields", "native", "kept_input")
    }
    native = {n: getattr(parsed.native, n) for n in parsed.native.__struct_fields__[2:]}
    return plain, kept, rest, native


@pytest.mark.parametrize("ask", BODIES, ids="-".join)
def test_texts_are_read_as_any_input_is(
    ask: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(ask, ensure_ascii=False, separators=(",", ":")).encode()
    assert (responses_reader._of_texts(read_body(body)) is None) is ("user_" in ask)
    short = read(body, monkeypatch, the_long_way=False)
    assert short == read(body, monkeypatch, the_long_way=True)
    escaped = json.dumps(ask).encode()
    assert read(escaped, monkeypatch, the_long_way=False) == short


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": "x"}, {"model": "m"}, {"model": 1, "input": "x"}, {"model": "m", "input": 1},
        {"model": "m", "input": "x", "instructions": 1}, {"model": "m", "input": "x", "store": 1},
        {"model": "m", "input": "x", "temperature": "hot"}, {"model": "m", "input": []},
        {"model": "m", "input": "x", "max_output_tokens": 0}, {"model": "", "input": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said_alike(
    wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(wrong).encode()
    said = read(body, monkeypatch, the_long_way=False)
    assert said == read(body, monkeypatch, the_long_way=True)


def asked(**more: Any) -> ParsedRequest:
    return parse(json.dumps({"model": "m", "input": "x", **more}, indent=2).encode())


def test_a_request_that_is_laid_out_over_lines_breaks_no_event() -> None:
    stream = ResponsesStreamOut(asked(metadata={"a": "b"}, instructions="i", tools=[]), "1")
    chunk = b'{"id":"c","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}'
    events = (stream.event(chunk) + stream.end()).decode()
    for event in events.removesuffix("\n\n").split("\n\n"):
        kind, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {told['type']}"
        if "response" in told:
            assert told["response"]["metadata"] == {"a": "b"}
            assert told["response"]["instructions"] == "i" and told["response"]["tools"] == []
    assert json.loads(stream.final)["status"] == "completed"


def test_a_whole_answer_repeats_the_request_last() -> None:
    reply = msgspec.json.encode(
        {
            "created": 1, "model": "m2", "usage": {"prompt_tokens": 1, "completion_tokens": 2},
            "choices": [
                {"index": 0, "finish_reason": "length", "message": {"content": "hi"}}
            ],
        }
    )  # fmt: skip
    answer = reply_of(reply, "1", asked(store=False, text={"verbosity": "low"}, user="u"))
    told = json.loads(answer)
    assert told["incomplete_details"] == {"reason": "max_output_tokens"}
    assert told["text"] == {"format": {"type": "text"}, "verbosity": "low"} and told["user"] == "u"
    assert told["temperature"] == 1.0 and told["error"] is None and told["model"] == "m2"
    assert answer.endswith(b'"store":false}') and list(told)[-1] == "store"
