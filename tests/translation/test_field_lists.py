"""Every field of the official SDKs' request types, at every API, towards every protocol.

A field must be carried, or said to be adapted, dropped or emulated (`x-tc-adapted`, ...), or
refused with its name. A field that is none of these is lost in silence, and fails here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic.types.message_create_params as anthropic_types
import openai.types.chat.completion_create_params as chat_types
import openai.types.completion_create_params as completion_types
import openai.types.embedding_create_params as embedding_types
import openai.types.responses.response_create_params as responses_types
import pytest

from tests.translation.field_values import MARK, MARK_BASE64, Example, fields_of
from tests.translation.lab import Lab, Result
from tests.vendors.strict.rules import Broken
from tests.vendors.strict.table import VENDORS
from tokenschain.core.steering import STEERING

# One of each kind, where all would be too many.
PROTOCOLS = (
    "openai", "mistral", "deepseek", "anthropic", "dashscope-native", "hunyuan-native",
)  # fmt: skip
Json = dict[str, Any]
FUNCTION = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
ANTHROPIC_TOOLS = [{"name": "look_up", "input_schema": FUNCTION["parameters"]}]
RESPONSES_TOOLS = [{"type": "function", **FUNCTION, "strict": False}]


class Case(NamedTuple):
    """One field with a legal value."""

    name: str
    path: tuple[str, ...]
    body: Json
    without: Json | None


# --- a legal request around each value ----------------------------------------------------


def _chat_messages(value: list[Json]) -> list[Json]:
    """One message in a conversation in which it may stand."""
    message = value[0]
    asks = {"role": "user", "content": "And now?"}
    match message["role"]:
        case "user":
            return [message]
        case "system" | "developer":
            return [message, asks]
        case "tool":
            call = {"id": message["tool_call_id"], "type": "function",
                    "function": {"name": "look_up", "arguments": "{}"}}  # fmt: skip
            return [asks, {"role": "assistant", "content": None, "tool_calls": [call]}, message]
        case "function":
            call = {"name": message["name"], "arguments": "{}"}
            return [asks, {"role": "assistant", "content": None, "function_call": call}, message]
    if not any(message.get(k) for k in ("content", "tool_calls", "function_call", "refusal")):
        message = message | {"content": "Yes."}
    answers = [
        {"role": "tool", "tool_call_id": call["id"], "content": "found"}
        for call in message.get("tool_calls") or ()
    ]
    if message.get("function_call"):
        answers = [
            {"role": "function", "name": message["function_call"]["name"], "content": "found"}
        ]
    return [asks, message, *answers, asks] if not answers else [asks, message, *answers]


def chat_body(field: str, value: Any) -> Json:
    body: Json = {"messages": [{"role": "user", "content": "Say json."}]}
    match field:
        case "messages":
            body["messages"] = _chat_messages(value)
            if any("tool_calls" in m for m in body["messages"]):
                body["tools"] = CHAT_TOOLS
        case "tools":
            body["tools"] = value
        case "tool_choice" | "parallel_tool_calls":
            body |= {"tools": CHAT_TOOLS, field: _named(value, "look_up")}
        case "functions":
            body["functions"] = value
        case "function_call":
            body |= {"functions": [FUNCTION], field: _named(value, "look_up")}
        case "top_logprobs":
            body |= {"logprobs": True, field: value}
        case "stream_options":
            body |= {"stream": True, field: value}
        case "response_format" if "json_schema" in value:
            schema = {"schema": {"type": "object"}} | value["json_schema"]
            body[field] = value | {"json_schema": schema}
        case "audio":
            body |= {"modalities": ["text", "audio"], field: value}
        case _:
            body[field] = value
    return body


def _named(value: Any, name: str) -> Any:
    """A choice of the tool that there is."""
    return json.loads(json.dumps(value).replace(f'"name": "{MARK}"', f'"name": "{name}"')
                      .replace('"name": "plain"', f'"name": "{name}"'))  # fmt: skip


_SERVER_RESULT = re.compile(r"\w+_tool_result")


def _anthropic_messages(value: list[Json]) -> list[Json]:
    turn = value[0]
    asks = {"role": "user", "content": "And now?"}
    blocks = turn["content"] if isinstance(turn["content"], list) else []
    results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
    uses = [b["id"] for b in blocks if b["type"] == "tool_use"]
    if results:
        use = {"type": "tool_use", "id": results[0], "name": "look_up", "input": {}}
        return [asks, {"role": "assistant", "content": [use]}, turn]
    if uses:
        result = {"type": "tool_result", "tool_use_id": uses[0], "content": "found"}
        return [asks, turn, {"role": "user", "content": [result]}]
    return {"user": [turn], "system": [asks, turn, asks]}.get(turn["role"], [asks, turn, asks])


def messages_body(field: str, value: Any) -> Json:
    body: Json = {"max_tokens": 4_000, "messages": [{"role": "user", "content": "Say it."}]}
    match field:
        case "messages":
            body["messages"] = _anthropic_messages(value)
            body["tools"] = ANTHROPIC_TOOLS
        case "tool_choice":
            body |= {"tools": ANTHROPIC_TOOLS, field: _named(value, "look_up")}
        case _:
            body[field] = value
    return body


def _items(value: Any) -> Any:
    """One input item with those before and after it that make it legal."""
    if not isinstance(value, list):
        return value
    item = value[0]
    asks = {"role": "user", "content": "And now?"}
    call = item.get("call_id")
    match item.get("type", "message"):
        case "function_call":
            answer = {"type": "function_call_output", "call_id": call, "output": "found"}
            return [asks, item, answer]
        case "function_call_output":
            made = {"type": "function_call", "call_id": call, "name": "look_up", "arguments": "{}"}
            return [asks, made, item]
        case "custom_tool_call":
            answer = {"type": "custom_tool_call_output", "call_id": call, "output": "found"}
            return [asks, item, answer]
        case "custom_tool_call_output":
            made = {"type": "custom_tool_call", "call_id": call, "name": "patch", "input": "x"}
            return [asks, made, item]
        case "message" if item.get("role") == "user":
            return [item]
    return [asks, item, asks]


def responses_body(field: str, value: Any) -> Json:
    body: Json = {"input": "Say json.", "store": False}
    match field:
        case "input":
            body["input"] = _items(value)
            body["tools"] = [*RESPONSES_TOOLS, {"type": "custom", "name": "patch"}] if (
                "custom_tool" in json.dumps(value)
            ) else RESPONSES_TOOLS  # fmt: skip
        case "tool_choice" | "parallel_tool_calls" | "max_tool_calls":
            body |= {"tools": RESPONSES_TOOLS, field: _named(value, "look_up")}
        case "stream_options":
            body |= {"stream": True, field: value}
        case _:
            body[field] = value
    return body


def completion_body(field: str, value: Any) -> Json:
    body: Json = {"prompt": "Say it."}
    if field == "stream_options":
        body["stream"] = True
    return body | {field: value}


class _More(anthropic_types.MessageCreateParamsBase, total=False):
    """What the API still takes of older models and the newest SDK's types lack."""

    temperature: float
    top_p: float
    top_k: int


def embedding_body(field: str, value: Any) -> Json:
    return {"input": "Say it.", field: value}


Builder = Callable[[str, Any], Json]
APIS: dict[str, tuple[type, Builder]] = {
    "chat/completions": (chat_types.CompletionCreateParamsBase, chat_body),
    "messages": (_More, messages_body),
    "responses": (responses_types.ResponseCreateParamsBase, responses_body),
    "completions": (completion_types.CompletionCreateParamsBase, completion_body),
    "embeddings": (embedding_types.EmbeddingCreateParams, embedding_body),
}


def cases(api: str) -> Iterator[Case]:
    kind, build = APIS[api]
    seen: set[str] = set()
    for field, found in fields_of(kind):
        path = (field, *found.path)
        name = ".".join(path)
        if field == "model" or _says_nothing(path, found):
            continue
        number = sum(1 for one in seen if one == name or one.startswith(f"{name}#"))
        name = f"{name}#{number}" if number else name
        seen.add(name)
        without = None if found.without is None else build(field, found.without)
        if found.without is None and len(path) <= 2 and field not in ("messages", "input"):
            without = _base(api, field, build)
        body = build(field, found.value)
        if _legal(api, body):
            yield Case(name, path, body, without)


def _legal(api: str, body: Json) -> bool:
    """Whether the vendor whose API it is takes the request; the types allow more than it does."""
    vendors = {
        "chat/completions": ["openai", "openai-reasoning"],
        "messages": ["anthropic", "anthropic-adaptive"],
    }
    return api not in vendors or any(_takes(name, body) for name in vendors[api])


def _takes(vendor: str, body: Json) -> bool:
    """Whether a vendor takes a request of its own API as it is."""
    if "messages" not in body:
        return True
    try:
        VENDORS[vendor].check(body | {"model": VENDORS[vendor].model})
    except Broken:
        return False
    return True


def _base(api: str, field: str, build: Builder) -> Json | None:
    body = build(field, None)
    return None if field not in body else {k: v for k, v in body.items() if k != field}


# Values that ask nothing of the upstream: what happens without the field as well, or is done here.
NEUTRAL = frozenset(
    {
        "tool_choice.=auto", "function_call.=auto", "service_tier.=auto", "service_tier.=default",
        "truncation.=disabled", "response_format.type.=text", "text.format.type.=text",
        "modalities.=text", "verbosity.=medium", "text.verbosity.=medium", "background",
        "thinking.type.=disabled", "tool_choice.type.=auto", "service_tier.=standard_only",
        "speed.=standard", "stop", "parallel_tool_calls", "reasoning_effort.=medium",
        "reasoning.effort.=medium", "reasoning.summary.=auto", "reasoning.generate_summary.=auto",
        "tools.strict", "store", "include.=reasoning.encrypted_content",
    }
)  # fmt: skip
_TAGS = ("type", "role", "status", "object", "mode")


def _says_nothing(path: tuple[str, ...], found: Example) -> bool:
    """Tags that only name what they stand in, and defaults."""
    if ".".join(path) in NEUTRAL - {"stop", "store", "background", "parallel_tool_calls",
                                    "tools.strict"}:  # fmt: skip
        return True
    if path[0] in ("tool_choice", "function_call") and path[-1] in ("name", "id", "server_label"):
        return True  # the choice of the one tool that there is
    tag = len(path) > 1 and path[-1].startswith("=") and path[-2] in _TAGS
    return tag or path[-1] == "=auto"


# --- the decision -------------------------------------------------------------------------

# What the platform itself does for a caller, so that nothing need go upstream.
OURS: dict[str, frozenset[str]] = {
    "chat/completions": frozenset({"stream_options"}),
    "messages": frozenset(),
    "completions": frozenset({"stream_options"}),
    "embeddings": frozenset(),
    "responses": frozenset(
        {"store", "stream_options", "metadata", "previous_response_id", "input.id"}
    ),
}
RELAYS = frozenset(
    {
        ("chat/completions", "openai"), ("messages", "anthropic"), ("completions", "openai"),
        ("embeddings", "openai"),
    }
)  # fmt: skip
"""In and out by the same protocol: what the vendor takes arrives there."""
_GENERIC_KINDS = frozenset(
    {"text", "function", "object", "string", "message", "input_text", "ephemeral", "tool_use"}
)
_GENERIC = frozenset({"messages", "input", "content", "type", "function", "output", "tools"})


def decision(case: Case, lab: Lab, api: str, protocol: str) -> str:
    """How a field was decided; empty where it was lost, with why behind a `!`."""
    path = f"/v1/{api}"
    model = f"{protocol}-embed" if api == "embeddings" else protocol
    got = lab.ask(path, case.body | {"model": model})
    if got.faults:
        lab.vendors[protocol].reset()
        return f"! a fault of our own: {got.faults[0]!r}"
    if lab.vendors[protocol].refused:
        broken = lab.vendors[protocol].refused[0]
        lab.vendors[protocol].reset()
        return f"! sent to a vendor that refuses it: {broken}"
    relays = (api, protocol) in RELAYS and _takes(protocol, case.body)
    if got.status in (400, 404):
        return _refusal(case, got, relays)
    if got.status != 200:
        return f"! HTTP {got.status}: {got.body[:200]!r}"
    if case.path[0] in OURS[api] or ".".join(case.path[-2:]) in OURS[api]:
        return "ours"
    said = [e for n in ("adapted", "dropped", "emulated") for e in got.says(f"x-tc-{n}")]
    steers = case.path[0].partition(".")[0] in STEERING
    if any(_names(entry, case) for entry in said) and (steers or not relays):
        return "said"
    sent = json.dumps(got.sent, ensure_ascii=False)
    if MARK in json.dumps(case.body) or MARK_BASE64 in json.dumps(case.body):
        return "carried" if MARK in sent or MARK_BASE64 in sent else f"! lost; said: {said}"
    if case.without is None:
        return "carried"
    plain = lab.ask(path, case.without | {"model": model})
    lab.vendors[protocol].reset()
    return "carried" if plain.sent != got.sent else f"! lost; said: {said}"


def _refusal(case: Case, got: Result, relays: bool) -> str:
    error = got.error
    if relays:
        return f"! refused, though its vendor takes it: {error}"
    text = f"{error.get('param') or ''} {error.get('message', '')}"
    if any(_names(word, case) for word in re.findall(r"[\w.\[\]]+", text)):
        return "refused"
    return f"! refused without its name: {error}"


def _names(entry: str, case: Case) -> bool:
    """Whether an entry as `messages[0].role` or `max_tokens=8192` names a field or its holder."""
    words = re.findall(r"[a-z_]\w*", entry.split("=", maxsplit=1)[0])
    names = [name.lstrip("=") for name in case.path]
    if not words:
        return False
    if "[" in entry and all(word in names for word in words):
        return True
    if words == ["logprobs"] and names[-1] == "top_logprobs":
        return True  # one is nothing without the other
    if words == ["tool_ids"]:
        return names[-1] in ("id", "call_id", "tool_call_id", "tool_use_id")
    if words == ["content"]:
        return names[-1] in ("text", "content", "refusal")
    if words[-1] in _kinds_in(case.body) - _GENERIC_KINDS:
        return True
    return words[-1] in names and (words[-1] not in _GENERIC or words[-1] == names[0])


def _kinds_in(value: Any) -> set[str]:
    """The kinds of items, parts and tools in a request: `input_file`, `web_search`, ..."""
    if isinstance(value, list):
        return {kind for one in value for kind in _kinds_in(one)}
    if not isinstance(value, dict):
        return set()
    own = value.get("type")
    return {kind for one in value.values() for kind in _kinds_in(one)} | (
        {own} if isinstance(own, str) else set()
    )


@pytest.mark.parametrize("protocol", VENDORS)
@pytest.mark.parametrize("api", APIS)
def test_every_field_of_a_request_has_a_decision(lab: Lab, api: str, protocol: str) -> None:
    if api in ("completions", "embeddings") and protocol != "openai":
        pytest.skip("text completions and embeddings are relayed")
    failures = {}
    for case in cases(api):
        lab.vendors[protocol].reset()
        found = decision(case, lab, api, protocol)
        if found.startswith("!"):
            failures[f"{api} {protocol} {case.name}"] = found[2:]
    assert not failures
