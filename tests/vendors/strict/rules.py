"""Request validation of OpenAI-compatible vendors: rules as data, one small check each.

A check raises `Broken` with the vendor's own words. Sources stand beside each row of `table`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})
CONTENT_KINDS = ("text", "image_url", "input_audio", "file", "video_url", "refusal")


class Broken(Exception):
    """A request that the vendor refuses."""

    def __init__(self, rule: str, message: str, param: str | None = None, status: int = 400):
        super().__init__(f"{rule}: {message}")
        self.rule = rule
        self.message = message
        self.param = param
        self.status = status


class ChatRules(NamedTuple):
    """What one OpenAI-compatible vendor takes; what is not said is not checked."""

    roles: frozenset[str]
    parts: Mapping[str, frozenset[str]]
    """Kinds of content parts by role; a role that is not here takes strings only."""
    fields: frozenset[str] | None = None
    """All it knows of the request; None: unknown ones are ignored."""
    refused: frozenset[str] = frozenset()
    """Fields it refuses by name, or ignores to the caller's harm (another name for a limit)."""
    message_fields: Mapping[str, frozenset[str]] = NOTHING
    part_fields: Mapping[str, frozenset[str]] = NOTHING
    call_fields: frozenset[str] | None = None
    tool_fields: frozenset[str] | None = None
    function_fields: frozenset[str] | None = None
    nullable: frozenset[str] | None = None
    """Fields of messages that may be null; None: all."""
    id_pattern: str = r".{1,256}"
    name_pattern: str = r"[a-zA-Z0-9_-]{1,64}"
    follows: Mapping[str, frozenset[str]] = NOTHING
    """Roles that may come after a role, where that is restricted."""
    last: frozenset[str] = frozenset(
        {"user", "tool", "system", "assistant", "developer", "function"}
    )
    never_empty: frozenset[str] = frozenset()
    """Roles whose messages need content (an assistant: content or tool calls)."""
    empty_parts: bool = True
    """Whether a text part may be empty."""
    temperature: tuple[float, float] = (0.0, 2.0)
    top_p: tuple[float, float] = (0.0, 1.0)
    choices: frozenset[str] = frozenset({"auto", "none", "required"})
    named_choice: bool = True
    allowed_tools: bool = False
    forced_while_thinking: bool = True
    thinking: str = ""
    """The field that switches thinking."""
    thinks_by_default: bool = False
    history: str = "keep"
    """Of `reasoning_content`: keep, return, strip."""
    formats: frozenset[str] = frozenset({"text", "json_object", "json_schema"})
    output_max: Mapping[str, int] = NOTHING
    choices_max: int = 128
    stops_max: int = 4
    text_models: frozenset[str] = frozenset()
    """Models that take no pictures."""
    both_limits: bool = True
    """Whether `max_tokens` may stand beside `max_completion_tokens`."""


def read(raw: bytes) -> dict[str, Any]:
    """The body, as strictly as a vendor reads it: UTF-8, no half characters, no field twice."""
    try:
        text = raw.decode()
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeError:
        raise Broken("unicode", "The request body is not valid JSON: invalid unicode") from None
    except ValueError as error:
        raise Broken("json", f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(found, dict):
        raise Broken("json", "The request body is not an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a field stands there twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def check(body: Mapping[str, Any], rules: ChatRules) -> None:
    """All rules, in the order in which vendors check: shape, then messages, then parameters."""
    for one in CHECKS.values():
        one(body, rules)


def check_names(body: Mapping[str, Any], known: frozenset[str]) -> None:
    """The fields of a request that is no chat."""
    for name in sorted(body.keys() - known):
        raise Broken("fields", f"Unknown parameter: '{name}'.", name)


def messages_of(body: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from enumerate(body["messages"])


def thinks(body: Mapping[str, Any], rules: ChatRules) -> bool:
    value = body.get(rules.thinking)
    match rules.thinking:
        case "enable_thinking":
            return value is True or (value is None and rules.thinks_by_default)
        case "thinking":
            if value is None:
                return rules.thinks_by_default
            return isinstance(value, dict) and value.get("type") in ("enabled", "adaptive", "auto")
        case "reasoning_effort":
            return value not in (None, "none")
    return False


# --- shape ------------------------------------------------------------------------------


def check_fields(body: Mapping[str, Any], rules: ChatRules) -> None:
    for name in sorted(body):
        if rules.fields is not None and name not in rules.fields:
            raise Broken("fields", f"Unknown parameter: '{name}'.", name)
        if name in rules.refused:
            raise Broken("refused", f"Unsupported parameter: '{name}' is not supported.", name)
    for name in ("model", "messages"):
        if name not in body:
            raise Broken("required", f"Missing required parameter: '{name}'.", name)
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise Broken("messages", "[] is too short - 'messages'", "messages")


def check_roles(body: Mapping[str, Any], rules: ChatRules) -> None:
    for at, message in messages_of(body):
        role = message.get("role")
        if role not in rules.roles:
            known = ", ".join(f"`{name}`" for name in sorted(rules.roles))
            raise Broken(
                "roles", f"messages[{at}].role: unknown variant `{role}`, expected one of {known}",
                f"messages[{at}].role",
            )  # fmt: skip


def check_message_fields(body: Mapping[str, Any], rules: ChatRules) -> None:
    for at, message in messages_of(body):
        known = rules.message_fields.get(message["role"])
        for name, value in message.items():
            if known is not None and name not in known:
                where = f"messages[{at}].{name}"
                raise Broken("message_fields", f"Unknown parameter: '{where}'.", where)
            if value is None and rules.nullable is not None and name not in rules.nullable:
                where = f"messages[{at}].{name}"
                raise Broken("null", f"Invalid type for '{where}': got null instead.", where)


def check_content(body: Mapping[str, Any], rules: ChatRules) -> None:
    for at, message in messages_of(body):
        role, content = message["role"], message.get("content")
        where = f"messages[{at}].content"
        if content is None:
            if role != "assistant":
                raise Broken("content", f"Invalid type for '{where}': got null instead.", where)
            continue
        if isinstance(content, str):
            continue
        kinds = rules.parts.get(role)
        if not isinstance(content, list) or kinds is None:
            raise Broken(
                "content", f"messages[{at}]: invalid type: sequence, expected a string", where
            )
        if not content:
            raise Broken("content", f"Invalid '{where}': empty array.", where)
        for number, part in enumerate(content):
            _check_part(part, kinds, f"{where}[{number}]", role, rules)


def _check_part(part: Any, kinds: frozenset[str], where: str, role: str, rules: ChatRules) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url" and kind not in kinds:
        raise Broken(
            "images",
            f"Invalid '{where}'. Image URLs are only allowed for messages with role 'user', but "
            f"this message with role '{role}' contains an image URL.",
            where,
        )
    if kind not in kinds:
        raise Broken("parts", f"Invalid value: '{kind}' at '{where}.type'.", f"{where}.type")
    known = rules.part_fields.get(kind)
    for name in part:
        if known is not None and name not in known:
            raise Broken("part_fields", f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise Broken("parts", f"Invalid type for '{where}.text'.", f"{where}.text")
        if not part["text"] and not rules.empty_parts:
            raise Broken("empty_parts", "Invalid request: text content is empty", where)
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str) or not re.match(r"https?://\S+|data:image/\w+;base64,", url):
            raise Broken("images", f"Invalid image URL at '{where}.image_url'.", where)


def check_text_model(body: Mapping[str, Any], rules: ChatRules) -> None:
    if body["model"] not in rules.text_models:
        return
    for at, message in messages_of(body):
        for part in message.get("content") or ():
            if isinstance(part, dict) and part.get("type") != "text":
                raise Broken(
                    "text_model", f"messages[{at}]: unknown variant `{part.get('type')}`, "
                    "expected `text`",
                )  # fmt: skip


def check_empty(body: Mapping[str, Any], rules: ChatRules) -> None:
    for at, message in messages_of(body):
        role = message["role"]
        if role not in rules.never_empty or message.get("content"):
            continue
        if role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
            continue
        raise Broken(
            "empty",
            f"Invalid request: the message at position {at} with role '{role}' must not be empty",
        )


# --- tools in the history ---------------------------------------------------------------


def check_calls(body: Mapping[str, Any], rules: ChatRules) -> None:
    for at, message in messages_of(body):
        calls = message.get("tool_calls")
        if calls is None:
            continue
        where = f"messages[{at}].tool_calls"
        if message["role"] != "assistant" or not isinstance(calls, list) or not calls:
            raise Broken("calls", f"Invalid '{where}': empty array.", where)
        for number, call in enumerate(calls):
            _check_call(call, f"{where}[{number}]", rules)


def _check_call(call: dict[str, Any], where: str, rules: ChatRules) -> None:
    for name in call:
        if rules.call_fields is not None and name not in rules.call_fields:
            raise Broken("call_fields", f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}")
    if call.get("type") == "custom":
        return
    if call.get("type") != "function":
        raise Broken("calls", f"Missing required parameter: '{where}.type'.", f"{where}.type")
    if not isinstance(call.get("id"), str) or not re.fullmatch(rules.id_pattern, call["id"]):
        raise Broken(
            "ids", f"Tool call id was {call.get('id')} but must match {rules.id_pattern}.",
            f"{where}.id",
        )  # fmt: skip
    function = call.get("function") or {}
    if not isinstance(function.get("arguments"), str):
        raise Broken(
            "arguments", f"Invalid type for '{where}.function.arguments': expected a string.",
            f"{where}.function.arguments",
        )  # fmt: skip
    if not re.fullmatch(rules.name_pattern, str(function.get("name"))):
        raise Broken(
            "names", f"Invalid '{where}.function.name': string does not match pattern.",
            f"{where}.function.name",
        )  # fmt: skip


def check_pairs(body: Mapping[str, Any], rules: ChatRules) -> None:
    """Every call is answered at once, and every tool message answers a call just made."""
    open_calls: list[str] = []
    for at, message in messages_of(body):
        if message["role"] == "tool":
            answered = message.get("tool_call_id")
            if not isinstance(answered, str) or answered not in open_calls:
                raise Broken(
                    "pairs", "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.", f"messages[{at}].role",
                )  # fmt: skip
            open_calls.remove(answered)
            continue
        _all_answered(open_calls, at)
        open_calls = [str(call.get("id")) for call in message.get("tool_calls") or ()]
        if len(set(open_calls)) != len(open_calls):
            raise Broken("pairs", f"Duplicate tool call ids in messages[{at}].")
    _all_answered(open_calls, len(body["messages"]))


def _all_answered(open_calls: list[str], at: int) -> None:
    if open_calls:
        raise Broken(
            "pairs", "An assistant message with 'tool_calls' must be followed by tool messages "
            "responding to each 'tool_call_id'. The following tool_call_ids did not have response "
            f"messages: {', '.join(open_calls)}", f"messages[{at}].role",
        )  # fmt: skip


def check_order(body: Mapping[str, Any], rules: ChatRules) -> None:
    before: str | None = None
    for _, message in messages_of(body):
        role = message["role"]
        allowed = rules.follows.get(before or "")
        if allowed is not None and role not in allowed:
            raise Broken("order", f"Unexpected role '{role}' after role '{before}'")
        before = role
    last = body["messages"][-1]
    if before not in rules.last and not (last.get("prefix") or last.get("partial")):
        raise Broken("order", f"Expected last role User or Tool for serving but got {before}")


def check_history(body: Mapping[str, Any], rules: ChatRules) -> None:
    on = thinks(body, rules)
    for at, message in messages_of(body):
        told = message.get("reasoning_content")
        if rules.history == "strip" and told:
            raise Broken("history", "reasoning_content in messages is not allowed")
        if rules.history == "return" and on and message.get("tool_calls") and not told:
            raise Broken(
                "history",
                "thinking is enabled but reasoning_content is missing in assistant tool call "
                f"message at index {at}",
            )


# --- parameters -------------------------------------------------------------------------


def check_tools(body: Mapping[str, Any], rules: ChatRules) -> None:
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or not tools:
        raise Broken("tools", "Invalid 'tools': empty array.", "tools")
    names = []
    for at, tool in enumerate(tools):
        where = f"tools[{at}]"
        for name in tool:
            if rules.tool_fields is not None and name not in rules.tool_fields:
                raise Broken("tool_fields", f"Unknown parameter: '{where}.{name}'.", where)
        if tool.get("type") == "custom" and "custom" in (rules.tool_fields or ()):
            names.append(tool["custom"]["name"])
            continue
        if tool.get("type") != "function":
            raise Broken("tools", f"Invalid value: '{tool.get('type')}' at '{where}.type'.", where)
        function = tool.get("function") or {}
        for name in function:
            if rules.function_fields is not None and name not in rules.function_fields:
                raise Broken(
                    "function_fields", f"Unknown parameter: '{where}.function.{name}'.", where
                )
        if not re.fullmatch(rules.name_pattern, str(function.get("name"))):
            raise Broken(
                "names", f"Invalid '{where}.function.name': string does not match pattern. Expected"
                f" a string that matches the pattern '{rules.name_pattern}'.", where,
            )  # fmt: skip
        schema = function.get("parameters")
        if schema is not None and (not isinstance(schema, dict) or _not_object(schema)):
            raise Broken(
                "schemas", f"Invalid schema for function '{function['name']}': schema must be a "
                "JSON Schema of 'type: \"object\"'", f"{where}.function.parameters",
            )  # fmt: skip
        names.append(function["name"])
    if len(set(names)) != len(names):
        raise Broken("tools", "Tool names must be unique.", "tools")


def _not_object(schema: dict[str, Any]) -> bool:
    return schema.get("type", "object") != "object"


def check_choice(body: Mapping[str, Any], rules: ChatRules) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if "tools" not in body and choice != "none":
        raise Broken(
            "choice", "'tool_choice' is only allowed when 'tools' are specified.", "tool_choice"
        )
    if isinstance(choice, str):
        if choice not in rules.choices:
            raise Broken("choice", f"Invalid value: '{choice}'.", "tool_choice")
    elif choice.get("type") == "allowed_tools":
        if not rules.allowed_tools:
            raise Broken("choice", "Invalid value: 'allowed_tools'.", "tool_choice.type")
    else:
        name = (choice.get("function") or choice.get("custom") or {}).get("name")
        known = [(t.get("function") or t.get("custom") or {}).get("name") for t in body["tools"]]
        if not rules.named_choice or name not in known:
            raise Broken("choice", f"Tool choice '{name}' not found in 'tools'.", "tool_choice")
    forced = choice not in ("auto", "none")
    if forced and not rules.forced_while_thinking and thinks(body, rules):
        raise Broken("choice", "Thinking mode does not support this tool_choice", "tool_choice")


def check_numbers(body: Mapping[str, Any], rules: ChatRules) -> None:
    for name, (lowest, highest) in (("temperature", rules.temperature), ("top_p", rules.top_p)):
        value = body.get(name)
        if value is not None and not lowest <= value <= highest:
            raise Broken("numbers", f"Invalid {name} value, range [{lowest}, {highest}]", name)
    most = rules.output_max.get(body["model"])
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or value < 1 or (most is not None and value > most):
            raise Broken(
                "output_max", f"Invalid {name} value, the valid range of {name} is [1, {most}]",
                name,
            )  # fmt: skip
    if not rules.both_limits and {"max_tokens", "max_completion_tokens"} <= body.keys():
        raise Broken("numbers", "Setting 'max_tokens' and 'max_completion_tokens' at the same time "
                     "is not supported.", "max_tokens")  # fmt: skip
    if (body.get("n") or 1) > rules.choices_max:
        raise Broken("numbers", "n is out of range", "n")
    stops = body.get("stop")
    if isinstance(stops, list) and not 1 <= len(stops) <= rules.stops_max:
        raise Broken("numbers", "Invalid 'stop': wrong number of sequences.", "stop")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Broken("stream_options", "'stream_options' needs 'stream'.", "stream_options")
    if body.get("parallel_tool_calls") is not None and "tools" not in body:
        raise Broken(
            "choice", "'parallel_tool_calls' is only allowed when 'tools' are specified.",
            "parallel_tool_calls",
        )  # fmt: skip
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise Broken("numbers", "'top_logprobs' needs 'logprobs'.", "top_logprobs")


def check_format(body: Mapping[str, Any], rules: ChatRules) -> None:
    kind = (body.get("response_format") or {}).get("type", "text")
    if kind not in rules.formats:
        raise Broken(
            "formats", f"This response_format type is unavailable now: {kind}", "response_format"
        )
    said = json.dumps(body["messages"], ensure_ascii=False).lower()
    if kind == "json_object" and "json" not in said:
        raise Broken(
            "formats", "'messages' must contain the word 'json' in some form, to use "
            "'response_format' of type 'json_object'.", "messages",
        )  # fmt: skip


Check = Callable[[Mapping[str, Any], ChatRules], None]
CHECKS: dict[str, Check] = {
    "fields": check_fields,
    "roles": check_roles,
    "message fields": check_message_fields,
    "content": check_content,
    "text model": check_text_model,
    "empty": check_empty,
    "calls": check_calls,
    "pairs": check_pairs,
    "order": check_order,
    "history": check_history,
    "tools": check_tools,
    "choice": check_choice,
    "numbers": check_numbers,
    "format": check_format,
}
