"""Texts that moderation reads: every door, every part; a new kind of part needs a decision."""

from __future__ import annotations

import ast
import base64
import json
from typing import Any

import pytest
from msgspec import Raw

from tests.house.tree import SOURCE
from tokenschain.core.formats import responses_reader
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.request_checks import PART_TYPES
from tokenschain.core.formats.screened_texts import (
    PARTS,
    TOKENS,
    AnswerPart,
    PartDecision,
    PieceKind,
    RequestTexts,
    blocked_reply,
    json_rewritten,
    rewritten,
    texts_of,
)
from tokenschain.providers.vendor_table import VENDORS

MARK = "某个要找的词"
_NO_READERS = {"screened_texts.py", "outbound.py", "openai_responses.py"}
"""Files of `core.formats` that read answers only, and what is tested here."""
_NO_PARTS = {
    "adaptive", "enabled", "disabled", "any", "auto", "none", "tool", "allowed_tools",
    "json_schema", "object", "grammar", "content", "url",
}  # fmt: skip
"""Kinds of what is no part of a message: switches, choices, formats, sources."""
_SOUND = "data:audio/wav;base64,AAAA"
_SCRIPT = "data:application/x-sh;base64," + base64.b64encode(f"echo {MARK}".encode()).decode()
_GBK = "data:text/plain;base64," + base64.b64encode(MARK.encode("gbk")).decode()
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
    ("file of another type", "chat/completions", chat([{"type": "file", "file": {"file_data": _SCRIPT}}])),
    ("file without a type", "chat/completions", chat([{"type": "file", "file": {"file_data": _SCRIPT.partition(",")[2]}}])),
    ("file in GBK", "chat/completions", chat([{"type": "file", "file": {"file_data": _GBK}}])),
    ("video as a list", "chat/completions", chat([{"type": "video", "video": [f"https://x.com/?q={MARK}"]}])),
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
    ("user", "chat/completions", chat("a") | {"user": MARK}),
    ("metadata", "chat/completions", chat("a") | {"metadata": {"note": MARK}}),
    ("name in metadata", "chat/completions", chat("a") | {"metadata": {MARK: "note"}}),
    ("stop", "chat/completions", chat("a") | {"stop": ["b", MARK]}),
    ("property", "chat/completions", chat("a") | {"tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {MARK: {"type": "string"}}}}}]}),
    ("id of a call", "chat/completions", {"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [
            {"id": MARK, "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": MARK, "content": "b"}]}),
    ("picture of text", "chat/completions", chat([{"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64," + base64.b64encode(f"<svg>{MARK}</svg>".encode()).decode()}}])),
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
    ("responses file", "responses", {"model": "m", "input": [{"role": "user", "content": [{"type": "input_file", "file_data": _FILE, "filename": "a"}]}]}),
    ("responses call", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"a": MARK})},
        {"type": "function_call_output", "call_id": "c", "output": "b"}]}),
    ("responses custom call", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": MARK},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "b"}]}),
    ("responses shell call", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "shell_call", "call_id": "c", "action": {"commands": [MARK]}},
        {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "b", "stderr": ""}]}]}),
    ("responses shell output", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["b"]}},
        {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": MARK, "stderr": ""}]}]}),
    ("responses reasoning", "responses", {"model": "m", "input": [
        {"role": "user", "content": "a"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": MARK}]},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}),
    ("responses tool", "responses", {"model": "m", "input": "a", "tools": [
        {"type": "function", "name": "f", "description": MARK, "parameters": {"type": "object", "properties": {}}}]}),
    ("anthropic tool result", "messages", {"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": MARK}]}]}]}),
    ("anthropic search result", "messages", claude({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": MARK}]})),
    ("anthropic tool", "messages", claude({"type": "text", "text": "a"}, tools=[{"name": "f", "description": MARK, "input_schema": {"type": "object"}}])),
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
    known = {*PART_TYPES, *responses_reader._OUTPUTS, *responses_reader._CLIENT_ITEMS}
    known |= responses_reader._ESSENTIAL_ITEMS
    for rules in (vendor.dialect.messages for vendor in VENDORS.values()):
        known |= {*(rules.parts or ()), rules.files_as} - {""}
    for path in sorted((SOURCE / "core" / "formats").rglob("*.py")):
        if path.name not in _NO_READERS:
            known |= _kinds_compared(ast.parse(path.read_text("utf-8")))
    assert len(known) > 40
    assert known - PARTS.keys() == _NO_PARTS, "decide what moderation does with it"


def _kinds_compared(tree: ast.AST) -> set[str]:
    """The words that anything named `kind` or `type` is compared with."""
    found: set[str] = set()
    for node in ast.walk(tree):
        compared: list[ast.AST] = []
        if isinstance(node, ast.Match) and _is_kind(node.subject):
            compared = [case.pattern for case in node.cases]
        elif isinstance(node, ast.Compare) and any(map(_is_kind, (node.left, *node.comparators))):
            compared = [node]
        found |= {
            one.value
            for part in compared
            for one in ast.walk(part)
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        }
    return found - {"type"}


def _is_kind(node: ast.AST) -> bool:
    match node:
        case ast.Name("kind") | ast.Attribute(attr="type") | ast.Call(ast.Name("_kind")):
            return True
        case ast.Subscript(slice=ast.Constant("type")):
            return True
        case ast.Call(ast.Attribute(attr="get"), [ast.Constant("type"), *_]):
            return True
        case ast.Call(ast.Name("_text"), [inner, *_]):
            return _is_kind(inner)
    return False


@pytest.mark.parametrize("kind", sorted(PARTS))
def test_each_kind_of_part_is_treated_as_it_was_decided(kind: str) -> None:
    decision = PARTS[kind]
    if decision is PartDecision.SCREENED:
        found = _found_in({"type": kind, "text": MARK})
        assert any(MARK in text for text in found.texts)
    elif decision is PartDecision.MEDIA:
        for part in (
            {"type": kind, kind: {"url": _SOUND}}, {"type": kind, kind: {"data": "AAAA"}},
            {"type": kind, "source": {"type": "base64", "media_type": "x/y", "data": "AAAA"}},
            {"type": kind, "file_id": "f"}, {"type": kind, kind: {"file_id": "f"}},
        ):  # fmt: skip
            assert len(_found_in(part).media) == 1, part
    else:
        assert not _found_in({"type": kind, "data": "AAAA", "encrypted_content": "x"}).texts


def _found_in(part: dict[str, Any]) -> RequestTexts:
    return texts_of({"messages": Raw(json.dumps([{"content": [part]}]).encode())})


def test_media_are_counted_however_a_vendor_writes_them() -> None:
    for part, pictures in (
        ({"type": "image", "image": "https://x.com/a.png"}, [True]),
        ({"type": "video", "video": ["https://x.com/a.png", "https://x.com/b.png"]}, [False] * 2),
        ({"type": "document_url", "document_url": "https://x.com/a.pdf"}, [False]),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, [False]),
        ({"type": "file", "file": {"file_data": _SCRIPT}}, [False]),
    ):
        assert [one.is_picture for one in _found_in(part).media] == pictures, part


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


def test_a_prompt_of_tokens_counts_as_what_nobody_can_screen() -> None:
    for api, body in (
        ("completions", {"prompt": [5, 6, 7]}), ("embeddings", {"input": [[5, 6], [7]]}),
    ):  # fmt: skip
        (api_format,) = [one for one in API_FORMATS if one.name == api]
        fields = api_format.parse(json.dumps({"model": "m"} | body).encode()).fields
        assert {one.url for one in texts_of(fields).media} == {TOKENS}, api


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
