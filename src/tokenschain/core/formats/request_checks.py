"""Request validation: what OpenAI refuses of a chat request beyond the types of its fields.

Error codes and the words of `param` are OpenAI's. Fields that have no rule here pass: vendors
have many of their own (`enable_thinking`, `top_k`).

Source: OpenAI's API reference and its answers to wrong requests, November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import value_of
from tokenschain.core.formats.translation_changes import Loss

ABSENT = Raw(b"")
NAME_LENGTH_MAX = 64
NATIVE_NAME_LENGTH_MAX = 128
"""Of Anthropic's tools, whose names may be longer."""
STOPS_MAX = 4
METADATA_MAX = 16
METADATA_KEY_LENGTH_MAX = 64
METADATA_VALUE_LENGTH_MAX = 512
BIAS_MAX = 100
_SHOWN_MAX = 80

PART_TYPES = frozenset(
    {
        "text", "image_url", "input_audio", "file", "refusal",
        # Of vendors: Qwen, vLLM, Kimi, Doubao, Mistral, and histories of thinking models.
        "video_url", "video", "audio_url", "document_url", "image", "thinking",
        "redacted_thinking", "reference",
    }
)  # fmt: skip
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max", "auto"})
"""OpenAI's, and what Anthropic and Doubao have beside them."""
CHOICE_WORDS = frozenset({"none", "auto", "required", "any"})
"""OpenAI's, and Mistral's `any`."""
FORMATS = frozenset({"text", "json_object", "json_schema"})
_ITEM = re.compile(r"(?:input|messages)\[\d+\](?:\.content\[\d+\])?")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(
    r'"(?!file:)(?:https?://[^\s"]+|data:[^\s"]+|[a-z][a-z0-9+.-]*://?[^\s"]+)"', re.ASCII
)
_BARE_BASE64 = re.compile(r'"[A-Za-z0-9+/=]{64}')
"""GLM takes pictures so."""
_USUAL_SCHEMAS = (b'{"type":"object"', b'{"type": "object"')
_QUOTE, _BRACKET = ord('"'), ord("[")


class ToolCall(Struct):
    """A call in the history, as far as it is looked into."""

    id: Raw = ABSENT


class Message(Struct):
    """One chat message, as far as the platform looks into it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Raw = ABSENT
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    function_call: Raw = ABSENT
    refusal: Raw = ABSENT
    audio: Raw = ABSENT
    reasoning_content: Raw = ABSENT
    reasoning_details: Raw = ABSENT


class TextMessage(Struct, forbid_unknown_fields=True, gc=False):
    """A message that is a text, and nothing beside it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Raw


class Part(Struct):
    """One part of a content that is a list."""

    type: str
    text: Raw = ABSENT
    image_url: Raw = ABSENT


class Function(Struct):
    name: str | None = None
    parameters: Raw = ABSENT


class Tool(Struct):
    type: str
    function: Function | None = None


class JsonSchema(Struct):
    name: str | None = None
    schema: Raw = ABSENT


class ResponseFormat(Struct):
    type: str
    json_schema: JsonSchema | None = None


_decode_parts = msgspec.json.Decoder(list[Part]).decode
_decode_image = msgspec.json.Decoder(str | dict[str, Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str | None).decode
_decode_any = msgspec.json.Decoder().decode
Values = Mapping[str, Any]


class Native(Protocol):
    """A request that came by another API, which may have wider limits."""

    @property
    def api(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Raw]: ...

    @property
    def losses(self) -> tuple[Loss, ...]: ...


def check_chat(values: Values, native: Native | None) -> None:
    """Refuse what OpenAI refuses.

    Args:
        values: the fields that were decoded, by name.

    Raises:
        ApiError: 400, with the field to blame.
    """
    # A call whose item has no canonical form is not seen; its answer may be.
    whole = native is None or not any(_ITEM.fullmatch(loss.name) for loss in native.losses)
    _check_messages(values["messages"], set() if whole else None)
    for name in values.keys() & _RULES.keys():
        value = values[name]
        if value is not None:
            _RULES[name](value, values, native)


def missing(path: str) -> ApiError:
    """A field is needed there."""
    return ApiError(
        "missing_required_parameter", f"Missing required parameter: `{path}`.", param=path
    )


def _invalid(path: str, why: str, code: str = "invalid_value") -> ApiError:
    return ApiError(code, f"Invalid value for `{path}`: {why}", param=path)


# --- messages --------------------------------------------------------------------


def _check_messages(messages: list[Message], calls: set[str] | None) -> None:
    """
    Args:
        calls: ids of the calls so far; None where they are not all known.
    """
    for at, message in enumerate(messages):
        content = message.content
        view = memoryview(content)
        first = view[0] if view else 0
        if first == _BRACKET:
            _check_parts(f"messages[{at}].content", content)
        elif first != _QUOTE:
            _check_no_text(at, message, bytes(view))
        if message.tool_calls is not None and message.role == "assistant":
            calls = _with_calls(calls, message.tool_calls)
        elif message.role == "tool":
            _check_answer(at, message, calls)
        elif message.role == "function" and not message.name:
            raise missing(f"messages[{at}].name")


def _check_no_text(at: int, message: Message, content: bytes) -> None:
    """What is neither a text nor parts: nothing, where something else is said instead."""
    path = f"messages[{at}].content"
    if content not in (b"", b"null"):
        raise _invalid(path, "expected a text or a list of parts.", "invalid_type")
    if message.role == "assistant":
        said = (message.function_call, message.refusal, message.audio,
                message.reasoning_content, message.reasoning_details)  # fmt: skip
        if message.tool_calls or any(bytes(raw) not in (b"", b"null") for raw in said):
            return
    if not content:
        raise missing(path)
    raise _invalid(path, "expected a text or a list of parts, but got null.", "invalid_type")


def _check_parts(path: str, content: Raw) -> None:
    parts: list[Part] = value_of(path, content, _decode_parts)
    if not parts:
        raise _invalid(path, "the list is empty.", "empty_array")
    for at, part in enumerate(parts):
        where = f"{path}[{at}]"
        if part.type == "text":
            _check_text(f"{where}.text", bytes(part.text))
        elif part.type == "image_url":
            _check_image(f"{where}.image_url", part.image_url)
        elif part.type not in PART_TYPES:
            shown = part.type[:_SHOWN_MAX]
            raise _invalid(f"{where}.type", f"there are no parts of type `{shown}`.")


def _check_text(path: str, text: bytes) -> None:
    if not text:
        raise missing(path)
    if text[:1] != b'"':
        raise _invalid(path, "expected a text.", "invalid_type")


def _check_image(path: str, raw: Raw) -> None:
    if bytes(memoryview(raw)[:4]) in (b"", b"null"):
        raise missing(path)
    view = memoryview(raw)
    if view[0] != _QUOTE:
        fields = value_of(path, raw, _decode_object)
        path = f"{path}.url"
        if "url" not in fields:
            raise missing(path)
        view = memoryview(fields["url"])
    # A picture may have megabytes: its beginning says whether it is one.
    head = bytes(view[:2_048]).decode("utf-8", "replace").replace("\\/", "/")
    if head[:1] != '"':
        raise _invalid(path, "expected a URL.", "invalid_type")
    if len(view) > len(head) and not head.endswith('"'):
        head += '"'
    if not _URL.match(head) and not _BARE_BASE64.match(head):
        raise _invalid(path, "it is no URL of a picture.", "invalid_image_url")


def _with_calls(calls: set[str] | None, made: list[ToolCall]) -> set[str] | None:
    if calls is None:
        return None
    for call in made:
        try:
            name = _decode_text(call.id)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not name:
            return None
        calls.add(name)
    return calls


def _check_answer(at: int, message: Message, calls: set[str] | None) -> None:
    path = f"messages[{at}].tool_call_id"
    if message.tool_call_id is None:
        raise missing(path)
    if calls is not None and message.tool_call_id not in calls:
        shown = message.tool_call_id[:_SHOWN_MAX]
        raise _invalid(path, f"no call `{shown}` of an assistant stands before it.")


# --- tools -----------------------------------------------------------------------


def _check_tools(tools: list[Tool], values: Values, native: Native | None) -> None:
    if not tools and native is None:
        raise _invalid("tools", "the list is empty.", "empty_array")
    for at, tool in enumerate(tools):
        if tool.type != "function":
            continue  # of vendors: `web_search`, `builtin_function`, `custom`
        path = f"tools[{at}].function"
        if tool.function is None:
            raise missing(path)
        longest = NATIVE_NAME_LENGTH_MAX if _is_anthropic(native) else NAME_LENGTH_MAX
        check_name(f"{path}.name", tool.function.name, longest)
        _check_schema(f"{path}.parameters", tool.function.parameters)


def _is_anthropic(native: Native | None) -> bool:
    return native is not None and native.api == "messages"


def check_name(path: str, name: str | None, longest: int = NAME_LENGTH_MAX) -> None:
    """The name of a tool or a schema.

    Raises:
        ApiError: missing, too long, or with other characters than letters, digits, `_` and `-`.
    """
    if name is None:
        raise missing(path)
    if len(name) > longest:
        why = f"it has {len(name)} characters; the longest may have {longest}."
        raise _invalid(path, why, "string_above_max_length")
    if not _NAME.fullmatch(name):
        raise _invalid(path, "it must be of letters, digits, `_` and `-`.")


def _check_schema(path: str, raw: Raw) -> None:
    head = bytes(memoryview(raw)[:17])
    if head in (b"", b"null") or head.startswith(_USUAL_SCHEMAS):
        return
    try:
        kind = _decode_any(_decode_object(raw).get("type", Raw(b'"object"')))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid(path, "expected a JSON schema.", "invalid_type") from None
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise _invalid(
            path, 'expected a JSON schema of `type: "object"`.', "invalid_function_parameters"
        )


def _check_choice(choice: str | dict[str, Raw], values: Values, native: Native | None) -> None:
    if isinstance(choice, str):
        if choice not in CHOICE_WORDS:
            shown = choice[:_SHOWN_MAX]
            raise _invalid("tool_choice", f"`{shown}` is none of none, auto and required.")
        if native is not None and choice in ("auto", "none"):
            return
    if not values.get("tools"):
        if native is not None and "tools" in native.fields:
            return  # none of them has a canonical form
        raise _invalid("tool_choice", "it is only allowed when `tools` are given.")
    if isinstance(choice, str):
        return
    kind = _text_of(choice.get("type"))
    if kind not in ("function", "custom"):
        return  # of vendors, and `allowed_tools`
    inner = _text_fields(choice.get(kind))
    name = _text_of(inner.get("name")) or _text_of(choice.get("name"))
    if not name:
        raise missing(f"tool_choice.{kind}.name")
    if kind == "function" and name not in {
        tool.function.name for tool in values["tools"] if tool.function is not None
    }:
        shown = name[:_SHOWN_MAX]
        raise _invalid("tool_choice", f"there is no tool `{shown}` in `tools`.")


def _text_of(raw: Raw | None) -> str:
    """A JSON text; nothing where it is none."""
    if raw is None or bytes(memoryview(raw)[:1]) != b'"':
        return ""
    return str(_decode_any(raw))


def _text_fields(raw: Raw | None) -> dict[str, Raw]:
    if raw is None or bytes(memoryview(raw)[:1]) != b"{":
        return {}
    return _decode_object(raw)


# --- settings --------------------------------------------------------------------


def _check_format(given: ResponseFormat, values: Values, native: Native | None) -> None:
    if given.type not in FORMATS:
        shown = given.type[:_SHOWN_MAX]
        raise _invalid("response_format.type", f"`{shown}` is none of {_list_of(FORMATS)}.")
    if given.type != "json_schema":
        return
    path = "response_format.json_schema"
    if given.json_schema is None:
        raise missing(path)
    check_name(f"{path}.name", given.json_schema.name)
    if bytes(memoryview(given.json_schema.schema)[:4]) in (b"", b"null"):
        raise missing(f"{path}.schema")
    if memoryview(given.json_schema.schema)[0] != ord("{"):
        raise _invalid(f"{path}.schema", "expected a JSON schema.", "invalid_type")


def _check_bias(bias: dict[str, float], values: Values, native: Native | None) -> None:
    for token, amount in bias.items():
        if not token.isdecimal():
            shown = token[:_SHOWN_MAX]
            raise _invalid("logit_bias", f"its keys are numbers of tokens, not `{shown}`.")
        if amount > BIAS_MAX:
            why = f"its values are at most {BIAS_MAX}."
            raise _invalid(f"logit_bias.{token}", why, "decimal_above_max_value")
        if amount < -BIAS_MAX:
            why = f"its values are at least {-BIAS_MAX}."
            raise _invalid(f"logit_bias.{token}", why, "decimal_below_min_value")


def _check_stop(stop: str | list[str], values: Values, native: Native | None) -> None:
    if isinstance(stop, list) and len(stop) > STOPS_MAX and native is None:
        why = f"it has {len(stop)} entries; {STOPS_MAX} are allowed."
        raise _invalid("stop", why, "array_above_max_length")


def _check_metadata(metadata: dict[str, str], values: Values, native: Native | None) -> None:
    check_metadata(metadata)


def check_metadata(metadata: dict[str, str]) -> None:
    """Pairs that are kept with an answer.

    Raises:
        ApiError: too many, or too long.
    """
    if len(metadata) > METADATA_MAX:
        why = f"it has {len(metadata)} pairs; {METADATA_MAX} are allowed."
        raise _invalid("metadata", why, "object_above_max_properties")
    for name, value in metadata.items():
        if len(name) > METADATA_KEY_LENGTH_MAX:
            why = f"its names have at most {METADATA_KEY_LENGTH_MAX} characters."
            raise _invalid("metadata", why, "string_above_max_length")
        if len(value) > METADATA_VALUE_LENGTH_MAX:
            why = f"its values have at most {METADATA_VALUE_LENGTH_MAX} characters."
            raise _invalid(f"metadata.{name}", why, "string_above_max_length")


def _check_lengths(tokens: int, values: Values, native: Native | None) -> None:
    if values.get("max_tokens") is not None:
        raise ApiError(
            "invalid_parameter_combination",
            "`max_tokens` and `max_completion_tokens` cannot both be set.",
            param="max_tokens",
        )


def _check_logprobs(count: int, values: Values, native: Native | None) -> None:
    if count and not values.get("logprobs"):
        raise _invalid("top_logprobs", "it is only allowed when `logprobs` is true.")


def _check_effort(effort: str, values: Values, native: Native | None) -> None:
    if effort not in EFFORTS:
        shown = effort[:_SHOWN_MAX]
        raise _invalid("reasoning_effort", f"`{shown}` is none of {_list_of(EFFORTS)}.")


def _list_of(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


_RULES: dict[str, Callable[[Any, Values, Native | None], None]] = {
    "tools": _check_tools,
    "tool_choice": _check_choice,
    "response_format": _check_format,
    "logit_bias": _check_bias,
    "stop": _check_stop,
    "metadata": _check_metadata,
    "max_completion_tokens": _check_lengths,
    "top_logprobs": _check_logprobs,
    "reasoning_effort": _check_effort,
}
RULED = frozenset(_RULES)
"""Fields of a chat that have rules beyond their types."""
