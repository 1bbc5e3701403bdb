"""Texts that moderation reads: every door, every part; a new kind of part needs a decision."""

from __future__ import annotations

import ast
import base64
import json
from typing import Any

import pytest

from tests.house.tree import SOURCE
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.screened_texts import (
    PARTS,
    AnswerPart,
    PieceKind,
    blocked_reply,
    json_rewritten,
    rewritten,
    texts_of,
)

MARK = "某个要找的词"
_READERS = (
    "anthropic/request_reader.py", "responses_reader.py", "message_bridge.py", "message_rules.py",
    "token_estimate.py", "parameter_bridge.py", "request_checks.py",
)  # fmt: skip
_FILE = "data:text/plain;base64," + base64.b64encode(MARK.encode()).decode()


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content} | more]}


def claude(*blocks: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    first = [] if role == "user" else [{"role": "user", "content": "hello"}]
    messages = [*first, {"role": role, "content": list(blocks)}]
    return {"model": "m", "max_tokens": 9, "messages": messages} | more


_CALL = {
    "id": "c",
    "type": "function",
    "function": {"name": "f", "arguments": json.dumps({"a": MARK})},
}
_USE = {"type": "tool_use", "id": "c", "name": "f", "input": {"deep": [{"data": MARK}]}}
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("user text", "chat/completions", chat(MARK)),
    ("text part", "chat/completions", chat([{"type": "text", "text": MARK}])),
    ("name", "chat/completions", chat("hello", name=MARK)),
    ("file text", "chat/completions", chat([{"type": "file", "file": {"file_data": _FILE, "filename": "a.txt"}}])),
    ("file name", "chat/completions", chat([{"type": "file", "file": {"file_id": "f", "filename": MARK}}])),
    ("picture address", "chat/completions", chat([{"type": "image_url", "image_url": {"url": f"https://x.com/?q={MARK}"}}])),
    ("system", "chat/completions", {"model": "m", "messages": [{"role": "system", "content": MARK}, {"role": "user", "content": "a"}]}),
    ("tool result", "chat/completions", {"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": MARK}]}),
    ("call arguments", "chat/completions", {"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "b"}]}),
    ("reasoning", "chat/completions", {"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": MARK},
        {"role": "user", "content": "c"}]}),
    ("tool description", "chat/completions", chat("a") | {"tools": [
        {"type": "function", "function": {"name": "f", "description": MARK, "parameters": {"type": "object", "properties": {}}}}]}),
    ("schema", "chat/completions", chat("a") | {"tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"p": {"type": "string", "description": MARK}}}}}]}),
    ("response format", "chat/completions", chat("a") | {"response_format": {"type": "json_schema", "json_schema": {
        "name": "n", "schema": {"type": "object", "properties": {"p": {"description": MARK}}}}}}),
    ("unknown field", "chat/completions", chat("a") | {"guided_thoughts": {"note": MARK}}),
    ("prompt", "completions", {"model": "m", "prompt": MARK}),
    ("prompts", "completions", {"model": "m", "prompt": ["a", MARK]}),
    ("suffix", "completions", {"model": "m", "prompt": "a", "suffix": MARK}),
    ("embedding", "embeddings", {"model": "m", "input": ["a", MARK]}),
    ("query", "rerank", {"model": "m", "query": MARK, "documents": ["a"]}),
    ("document", "rerank", {"model": "m", "query": "a", "documents": ["b", {"text": MARK}]}),
    ("anthropic text", "messages", claude({"type": "text", "text": MARK})),
    ("anthropic system", "messages", claude({"type": "text", "text": "a"}, system=[{"type": "text", "text": MARK}])),
    ("anthropic tool use", "messages", claude(_USE, role="assistant")),
    ("anthropic document", "messages", claude({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": MARK}})),
    ("anthropic file", "messages", claude({"type": "document", "source": {
        "type": "base64", "media_type": "text/plain", "data": base64.b64encode(MARK.encode()).decode()}})),
    ("anthropic title", "messages", claude({"type": "document", "title": MARK, "source": {"type": "text", "media_type": "text/plain", "data": "a"}})),
    ("anthropic thinking", "messages", claude({"type": "thinking", "thinking": MARK, "signature": "s"}, {"type": "text", "text": "b"}, role="assistant")),
    ("responses text", "responses", {"model": "m", "input": MARK}),
    ("responses instructions", "responses", {"model": "m", "input": "a", "instructions": MARK}),
    ("responses part", "responses", {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": MARK}]}]}),
    ("responses output", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": MARK}]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("api", "body"), [one[1:] for one in REQUESTS], ids=[one[0] for one in REQUESTS]
)
def test_each_part_of_a_request_at_each_door_is_screened_and_can_be_rewritten(
    api: str, body: dict[str, Any]
) -> None:
    (api_format,) = [one for one in API_FORMATS if one.name == api]
    parsed = api_format.parse(json.dumps(body).encode())
    fields = parsed.fields | (parsed.native.fields if parsed.native is not None else {})
    assert any(MARK in text for text in texts_of(fields).texts), texts_of(fields)
    again = rewritten(fields, lambda text: text.replace(MARK, "*"))
    assert not any(MARK in text for text in texts_of(again).texts)
    assert MARK not in b"".join(map(bytes, again.values())).decode()


def test_each_door_has_a_case() -> None:
    assert {api for _, api, _ in REQUESTS} == {one.name for one in API_FORMATS}


def test_each_kind_of_part_that_the_formats_know_has_a_decision() -> None:
    known: set[str] = set()
    for name in _READERS:
        tree = ast.parse((SOURCE / "core" / "formats" / name).read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Match) and isinstance(node.subject, ast.Name):
                if node.subject.id != "kind":
                    continue
                for case in node.cases:
                    known |= {
                        one.value.value
                        for one in ast.walk(case.pattern)
                        if isinstance(one, ast.MatchValue) and isinstance(one.value, ast.Constant)
                    }
    assert len(known) > 10
    assert known - PARTS.keys() == set(), "decide what moderation does with it"


def test_parts_of_text_are_one_text_and_media_are_told_apart() -> None:
    body = chat([
        {"type": "text", "text": "违规测"}, {"type": "text", "text": "试词"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ])  # fmt: skip
    fields = API_FORMATS[0].parse(json.dumps(body).encode()).fields
    found = texts_of(fields)
    assert any("违规测试词" in text for text in found.texts)
    assert [one.is_picture for one in found.media] == [True, False]


CHUNK: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@pytest.mark.parametrize(
    ("delta", "kind"),
    [
        ({"content": MARK}, PieceKind.FLOWING), ({"reasoning_content": MARK}, PieceKind.FLOWING),
        ({"reasoning": MARK}, PieceKind.FLOWING), ({"refusal": MARK}, PieceKind.FLOWING),
        ({"reasoning_details": [{"type": "thinking", "text": MARK}]}, PieceKind.FLOWING),
        ({"audio": {"transcript": MARK}}, PieceKind.FLOWING),
        ({"tool_calls": [{"index": 0, "function": {"arguments": MARK}}]}, PieceKind.GATHERED),
        ({"tool_calls": [{"index": 0, "custom": {"input": MARK}}]}, PieceKind.GATHERED),
        ({"function_call": {"arguments": MARK}}, PieceKind.GATHERED),
        ({"annotations": [{"url_citation": {"title": MARK, "url": "u"}}]}, PieceKind.COMPLETE),
        ({"something_new": {"note": MARK}}, PieceKind.COMPLETE),
    ],
)  # fmt: skip
def test_each_text_of_an_answer_is_found_and_can_be_changed(
    delta: dict[str, Any], kind: PieceKind
) -> None:
    chunk = CHUNK | {"choices": [{"index": 0, "delta": delta, "logprobs": {"content": []}}]}
    part = AnswerPart(json.dumps(chunk).encode())
    (piece,) = [one for one in part.pieces if one.text == MARK]
    assert piece.kind is kind
    piece.put("*")
    assert MARK.encode() not in part.written()
    whole = CHUNK | {"choices": [{"index": 0, "message": delta, "finish_reason": "stop"}]}
    assert [one.text for one in AnswerPart(json.dumps(whole).encode()).pieces if one.text == MARK]


def test_json_stays_json() -> None:
    text = json.dumps({"电话": ["13800138000", 7, {"a": "b"}]}, ensure_ascii=True)
    made = json_rewritten(text, lambda one: one.replace("138", "***"))
    assert made is not None and json.loads(made) == {"电话": ["***00***000", 7, {"a": "b"}]}
    assert json_rewritten("no json", str) is None and json_rewritten("{broken", str) is None
    assert json_rewritten('{"a":  1}', str) == '{"a":  1}', "as it was written"


def test_a_blocked_reply_says_so_and_nothing_else() -> None:
    whole = CHUNK | {"choices": [{"index": 0, "message": {"role": "assistant", "content": MARK, "reasoning_content": MARK}, "finish_reason": "stop"}]}  # fmt: skip
    reply = json.loads(blocked_reply(json.dumps(whole).encode(), {0: ""}))
    assert reply["choices"][0]["finish_reason"] == "content_filter" and MARK not in str(reply)
