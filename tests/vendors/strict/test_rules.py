"""Each rule of a strict vendor refuses what it is about, and takes a good request."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.vendors.strict.anthropic import SIGNATURE
from tests.vendors.strict.rules import Broken, read
from tests.vendors.strict.table import VENDORS
from tests.vendors.strict.vendor import Strict

Body = dict[str, Any]
Change = Callable[[Body], object]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks it up.",
        "parameters": {"type": "object", "properties": {"of": {"type": "string"}}},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def chat(vendor: str) -> Body:
    """A conversation with a tool, as every OpenAI-compatible vendor takes it."""
    id = "abcdefgh1"
    call = {"id": id, "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    asked: Body = {"role": "assistant", "content": "I look.", "tool_calls": [call]}
    if vendor in ("deepseek", "moonshot"):
        asked["reasoning_content"] = "hm"
    body: Body = {
        "model": VENDORS[vendor].model,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "What is it?"},
            asked,
            {"role": "tool", "tool_call_id": id, "content": "a cat"},
        ],
        "tools": [copy.deepcopy(TOOL)],
        "temperature": 0.5,
    }
    return body


def messages(_: str) -> Body:
    return {
        "model": "claude-haiku-4-5",
        "max_tokens": 4_000,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "What is it?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
                    {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a cat"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [{"name": "look_up", "input_schema": {"type": "object", "properties": {}}}],
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
    }


def hunyuan(_: str) -> Body:
    call = {"Id": "c1", "Type": "function", "Function": {"Name": "look_up", "Arguments": "{}"}}
    return {
        "Model": "hunyuan-turbos-latest",
        "Stream": False,
        "Messages": [
            {"Role": "system", "Content": "Be kind."},
            {"Role": "user", "Content": "What is it?"},
            {"Role": "assistant", "Content": "", "ToolCalls": [call]},
            {"Role": "tool", "Content": "a cat", "ToolCallId": "c1"},
        ],
        "Tools": [
            {"Type": "function", "Function": {"Name": "look_up", "Parameters": "{}"}},
        ],
    }


def dashscope(_: str) -> Body:
    inner = chat("alibaba")
    return {
        "model": "qwen-plus",
        "input": {"messages": inner["messages"]},
        "parameters": {"result_format": "message", "tools": inner["tools"], "max_tokens": 5},
    }


GOOD = {"anthropic": messages, "hunyuan": hunyuan, "dashscope": dashscope, "openai": chat}


def good(vendor: str) -> Body:
    return GOOD[VENDORS[vendor].wire](vendor)


def put(path: str, value: Any) -> Change:
    """Set a value at a dotted path; `+` as the last part appends."""

    def change(body: Body) -> None:
        *parts, last = path.split(".")
        at: Any = body
        for part in parts:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if last == "+":
            at.append(value)
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return change


def drop(path: str) -> Change:
    def change(body: Body) -> None:
        *parts, last = path.split(".")
        at: Any = body
        for part in parts:
            at = at[int(part)] if isinstance(at, list) else at[part]
        del at[int(last) if isinstance(at, list) else last]

    return change


OPENAI_LIKE = [name for name, vendor in VENDORS.items() if vendor.wire == "openai"]
_PARTS = [{"type": "text", "text": "hi"}]
_SECOND = {"role": "user", "content": "And now?"}
_CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
CHAT: list[tuple[str, str, Change]] = [
    # vendors, the rule that must refuse, what is changed
    ("all but openai", "roles", put("messages.0.role", "developer")),
    ("all", "content", put("messages.1.content", None)),
    ("all", "content", put("messages.1.content", 7)),
    ("all", "pairs", drop("messages.3")),
    ("all", "pairs", put("messages.3.tool_call_id", "abcdefgh2")),
    ("all", "pairs", put("messages.2.tool_calls.+", _CALL)),
    ("all", "arguments", put("messages.2.tool_calls.0.function.arguments", {})),
    ("all", "calls", put("messages.2.tool_calls.0.type", "")),
    ("all", "calls", put("messages.2.tool_calls", [])),
    ("all", "names", put("tools.0.function.name", "look up")),
    ("all", "tools", put("tools", [])),
    ("all", "tools", put("tools.+", TOOL)),
    ("all", "schemas", put("tools.0.function.parameters", {"type": "string"})),
    ("all", "choice", put("tool_choice", "sometimes")),
    ("all", "choice", put("tool_choice", {"type": "function", "function": {"name": "x"}})),
    ("all", "numbers", put("temperature", 2.5)),
    ("all", "output_max", put("max_tokens", 0)),
    ("all", "formats", put("response_format", {"type": "json_object"})),
    ("all", "stream_options", put("stream_options", {"include_usage": True})),
    ("deepseek alibaba zhipu", "content", put("messages.0.content", _PARTS)),
    ("deepseek alibaba zhipu moonshot volcengine-ark", "content", put("messages.3.content", _PARTS)),
    ("deepseek", "content", put("messages.1.content", _PARTS)),
    ("openai mistral", "images", put("messages.3.content", [IMAGE])),
    ("alibaba-small", "text_model", put("messages.1.content", [IMAGE])),
    ("openai", "images", put("messages.1.content", [{"type": "image_url", "image_url": {"url": "x"}}])),
    ("openai", "message_fields", put("messages.1.cache_control", {"type": "ephemeral"})),
    ("openai mistral", "message_fields", put("messages.2.reasoning_content", "hm")),
    ("openai mistral", "part_fields",
     put("messages.1.content", [_PARTS[0] | {"cache_control": {"type": "ephemeral"}}])),
    ("openai mistral", "fields", put("enable_thinking", True)),
    ("openai mistral", "function_fields", put("tools.0.function.cache_control", {})),
    ("openai mistral", "tool_fields", put("tools.0.name", "x")),
    ("openai", "ids", put("messages.2.tool_calls.0.id", "x" * 65)),
    ("openai", "null", put("messages.1.name", None)),
    ("openai", "both", put("max_completion_tokens", 5)),
    ("openai-reasoning", "refused", put("max_tokens", 5)),
    ("mistral", "ids", put("messages.2.tool_calls.0.id", "call_1")),
    ("mistral", "fields", put("stream_options", {"include_usage": True})),
    ("mistral", "message_fields", put("messages.1.name", "Ann")),
    ("mistral", "order", put("messages.+", _SECOND)),
    ("mistral", "order", put("messages.+", {"role": "assistant", "content": "It"})),
    ("mistral moonshot", "empty",
     lambda body: body["messages"].insert(2, {"role": "assistant", "content": ""})),
    ("deepseek moonshot", "history", drop("messages.2.reasoning_content")),
    ("deepseek alibaba moonshot", "choice", lambda body: body.update(
        tool_choice={"type": "function", "function": {"name": "look_up"}},
        thinking={"type": "enabled"}, enable_thinking=True)),
    ("zhipu volcengine-ark moonshot", "choice", put("tool_choice", "required")),
    ("deepseek", "formats", put("response_format", {"type": "json_schema"})),
    ("zhipu", "numbers", put("temperature", 0)),
    ("alibaba-small", "output_max", put("max_tokens", 8_193)),
    ("volcengine-ark", "output_max", put("max_tokens", 32_001)),
    ("moonshot", "names", put("tools.0.function.name", "1look")),
    ("moonshot", "empty_parts", put("messages.1.content", [{"type": "text", "text": ""}])),
    ("zhipu moonshot volcengine-ark alibaba deepseek", "refused", put("max_completion_tokens", 5)),
]  # fmt: skip
MESSAGES: list[tuple[str, Change]] = [
    ("fields", put("user", "x")),
    ("required", drop("max_tokens")),
    ("null", put("system", None)),
    ("system", put("system.0.type", "image")),
    ("blank", put("system.0.text", "")),
    ("blank", put("messages.0.content", [{"type": "text", "text": " \n"}])),
    ("empty", put("messages.0.content", "")),
    ("roles", put("messages.0.role", "system")),
    ("roles", drop("messages.0")),
    ("message_fields", put("messages.0.name", "x")),
    ("extra", put("messages.2.content.1.id", "x")),
    ("extra", put("messages.1.content.1.text", "x")),
    ("ids", put("messages.1.content.1.id", "call:1")),
    ("input", put("messages.1.content.1.input", "{}")),
    ("signature", put("messages.1.content.0.signature", "other")),
    ("source", put("messages.0.content", [
        {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "x"}}])),
    ("blocks", put("messages.0.content", [{"type": "input_text", "text": "x"}])),
    ("pairs", put("messages.2.content.0.tool_use_id", "toolu_2")),
    ("pairs", drop("messages.2.content.0")),
    ("pairs", lambda body: body["messages"][2]["content"].reverse()),
    ("cache_control", put("messages.0.content", [
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 4)),
    ("cache_control", put("system.0.cache_control", {"type": "ephemeral", "scope": "x"})),
    ("history tools", drop("tools")),
    ("tools", put("tools.0.parameters", {})),
    ("names", put("tools.0.name", "look up")),
    ("schemas", put("tools.0.input_schema", {"properties": {}})),
    ("choice", put("tool_choice", {"type": "any"})),
    ("choice", put("tool_choice", {"type": "tool", "name": "other"})),
    ("budget", put("thinking.budget_tokens", 1_000)),
    ("budget", put("thinking.budget_tokens", 4_000)),
    ("thinking", put("thinking", {"type": "adaptive"})),
    ("thinking", put("model", "claude-opus-4-8")),
    ("numbers", put("temperature", 0.5)),
    ("numbers", put("top_k", 5)),
    ("thinking history", drop("messages.1.content.0")),
    ("output_max", put("max_tokens", 64_001)),
    ("samplers", lambda body: body.update(temperature=1, top_p=0.99)),
    ("prefill", lambda body: body.update(
        thinking={"type": "disabled"},
        messages=[*body["messages"], {"role": "assistant", "content": "It "}])),
    ("stops", put("stop_sequences", [" "])),
    ("extra", put("metadata", {"user": "x"})),
    ("effort", put("output_config", {"effort": "minimal"})),
]  # fmt: skip
HUNYUAN: list[tuple[str, Change]] = [
    ("fields", put("MaxTokens", 5)),
    ("roles", put("Messages.0.Role", "developer")),
    ("order", put("Messages.+", {"Role": "user", "Content": "And now?"})),
    ("order", put("Messages.1", {"Role": "system", "Content": "x"})),
    ("order", lambda body: body["Messages"].insert(1, {"Role": "user", "Content": "x"})),
    ("empty", put("Messages.1.Content", "")),
    ("content", put("Messages.1.Content", [{"type": "text", "text": "x"}])),
    ("message_fields", put("Messages.1.ReasoningContent", "x")),
    ("pairs", put("Messages.3.ToolCallId", "c2")),
    ("tools", put("Tools.0.Function.Parameters", {})),
    ("choice", put("ToolChoice", "required")),
    ("numbers", put("TopP", 1.5)),
]  # fmt: skip
DASHSCOPE: list[tuple[str, Change]] = [
    ("fields", put("stream", True)),
    ("fields", put("parameters.n_best", 2)),
    ("roles", put("input.messages.0.role", "developer")),
    ("content", put("input.messages.1.content", _PARTS)),
    ("pairs", drop("input.messages.3")),
    ("output_max", put("parameters.max_tokens", 32_769)),
    ("choice", put("parameters.tool_choice", "required")),
]  # fmt: skip


def _cases() -> list[Any]:
    made = []
    for names, rule, change in CHAT:
        vendors = OPENAI_LIKE if names.startswith("all") else names.split()
        for vendor in vendors:
            if names == "all but openai" and vendor.startswith("openai"):
                continue
            made.append((vendor, rule, change))
    rows = {"anthropic": MESSAGES, "hunyuan-native": HUNYUAN, "dashscope-native": DASHSCOPE}
    for vendor, changes in rows.items():
        made += [(vendor, rule, change) for rule, change in changes]
    return [
        pytest.param(*case, id=f"{case[0]}-{case[1]}-{number}") for number, case in enumerate(made)
    ]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_good_request_is_taken(vendor: str) -> None:
    body = good(vendor)
    if vendor == "anthropic-adaptive":
        body |= {"model": "claude-opus-4-8", "thinking": {"type": "adaptive"}}
    VENDORS[vendor].check(body)


@pytest.mark.parametrize(("vendor", "rule", "change"), _cases())
def test_what_the_vendor_refuses_is_refused(vendor: str, rule: str, change: Change) -> None:
    body = good(vendor)
    if rule == "both":
        body["max_tokens"] = 5
        rule = "numbers" if vendor == "openai" else "refused"
    if rule == "stream_options" and vendor == "mistral":
        rule = "fields"
    if rule == "output_max" and vendor == "openai-reasoning" and "max_tokens" not in body:
        rule = "refused"
    change(body)
    with pytest.raises(Broken) as found:
        VENDORS[vendor].check(body)
    assert found.value.rule == rule, found.value


@pytest.mark.parametrize(
    "raw",
    [b'{"a": "\xff"}', b'{"a": "\\ud83d"}', b'{"a": 1, "a": 2}', b'{"a": NaN}', b"[1]", b"{"],
)
def test_a_body_that_is_no_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Broken):
        read(raw)


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_answer_is_counted_and_a_refusal_is_not(vendor: str) -> None:
    strict = Strict(vendor, VENDORS[vendor])
    body = good(vendor)
    if vendor == "anthropic-adaptive":
        body |= {"model": "claude-opus-4-8", "thinking": {"type": "adaptive"}}
    assert strict.answer({}, json.dumps(body).encode()).status == 200
    assert len(strict.counted) == 1
    refused = strict.answer({}, b'{"model": "x"}')
    assert refused.status == (200 if vendor == "hunyuan-native" else 400)
    assert len(strict.counted) == 1 and len(strict.refused) == 1
