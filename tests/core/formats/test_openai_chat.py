"""The quick way through a request's checks gives what the way field by field gives."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.formats.stored_responses import previous_of
from tokenschain.gateway.api.paths import with_model

_TEXT = {"role": "user", "content": "hi"}
_PICTURE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
_MESSAGES: list[Any] = [
    [_TEXT],
    [{"role": "system", "content": "天地\n\"玄\" 'image_url' base64,"}, _TEXT],
    [_TEXT, {"role": "assistant", "content": ""}, _TEXT],
    [{"role": "user", "content": "data:image/png;base64,AAAA"}],
    [{"role": "user", "content": [_PICTURE]}],
    [{"role": "user", "content": [_PICTURE, {"type": "text", "text": "what is it?"}]}],
    [{"role": "user", "content": "hi", "image_url": "https://a.example/b.png"}],
    [{"role": "user", "content": "hi", "name": "Ann"}],
    [{"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}}],
    [{"role": "assistant", "content": None, "refusal": "no"}, _TEXT],
    [{"role": "tool", "content": "4", "tool_call_id": "call_1"}],
    [{"role": "function", "content": "4"}],
    [{"role": "robot", "content": "hi"}],
    [{"role": "user"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": 5}],
    ["hi"],
    [],
    None,
    "hi",
]
_FIELDS: list[dict[str, Any]] = [
    {},
    {"max_tokens": 5},
    {"max_completion_tokens": 5},
    {"max_tokens": 5, "max_completion_tokens": 6},
    {"max_tokens": None, "max_completion_tokens": 6, "stop": None},
    {"max_tokens": 0},
    {"max_tokens": "5"},
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": {"include_usage": None}},
    {"stream": False, "stream_options": {"include_usage": True}},
    {"stream_options": None, "n": 3},
    {"n": 0},
    {"n": 1_000},
    {"temperature": 3},
    {"temperature": 0, "top_p": 1, "seed": 7, "user": "u", "presence_penalty": -2.5},
    {"stop": "a"},
    {"stop": ["a", "b"]},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"stop": 5},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tool_choice": "auto"},
    {"response_format": {"type": "json_object"}},
    {"reasoning_effort": "much"},
    {"metadata": {"k": "v"}},
    {"enable_thinking": True, "top_k": 5, "x": {"model": 5}},
    {"model": ""},
    {"model": None},
]


def _outcome(body: bytes) -> ParsedRequest | tuple[str, str, str | None, int]:
    try:
        return openai_chat.parse(Api.CHAT, body)
    except ApiError as error:
        return error.code, error.message, error.param, error.status


def _bodies() -> list[bytes]:
    made = []
    for messages, fields in itertools.product(_MESSAGES, _FIELDS):
        asked = {"model": "m", "messages": messages} | fields
        made.append(json.dumps(asked).encode())
        made.append(json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode())
    plain = json.dumps({"model": "m", "messages": [_TEXT]})
    made += [
        plain.replace('"m",', '"m", "model": 5, "model": "k",').encode(),
        plain.replace('"m",', '"m", "messages": 5,').encode(),
        plain.replace('"messages"', '"messages": [{"role": "x"}], "messages"').encode(),
        plain.replace("hi", "\\ud83d").encode(),
        plain.replace("hi", "hé").encode("latin-1"),
        plain.replace("hi", "a\x01b").encode(),
        plain.replace('"hi"', "[" * 3_000).encode(),
        plain.encode()[:-1],
        b'{"messages": [{"role": "user", "content": "hi"}]}',
        b'{"model": "m"}',
        b"[]",
        b"",
    ]
    return made


def test_a_mark_of_utf8_before_a_body_is_passed_over() -> None:
    """As RFC 8259 (8.1) allows: editors and PowerShell write it."""
    plain = json.dumps({"model": "m", "previous_response_id": "resp_1", "messages": [_TEXT]})
    for text in (plain, plain.replace("hi", "h\u00e9"), plain.replace("hi", "\\ud83d")):
        body = text.encode("utf-8-sig")
        read = openai_chat.parse(Api.CHAT, body)
        assert read.fields == openai_chat.parse(Api.CHAT, text.encode()).fields
    body = plain.encode("utf-8-sig")
    assert previous_of(body) == "resp_1"
    assert b'"model":"deployed"' in with_model(body, b"deployed")
    for twice in (b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2 + plain.encode()):
        with pytest.raises(ApiError, match="JSON"):
            openai_chat.parse(Api.CHAT, twice)


def test_the_quick_way_changes_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = _bodies()
    quick = [_outcome(body) for body in bodies]
    taken = [openai_chat._chat_of_texts(openai_chat.read_body(body).fields, body)
             for body in bodies[: len(_FIELDS) * 2]]  # fmt: skip
    assert sum(found is not None for found in taken) > len(_FIELDS)
    monkeypatch.setattr(openai_chat, "_chat_of_texts", lambda *_: None)
    for body, found in zip(bodies, quick, strict=True):
        if isinstance(found, ParsedRequest):
            found.all_text = False  # what the slow way does not say
        assert _outcome(body) == found, body
