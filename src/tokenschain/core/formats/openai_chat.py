"""OpenAI chat, completions and embeddings: requests checked, replies parsed, rest untouched.

A request body is decoded one level deep (`dict[str, Raw]`); only fields with a
rule here are looked into. What has no rule travels on as the bytes it came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import read_body, value_of
from tokenschain.core.formats.request_checks import (
    RULED,
    STOPS_MAX,
    Message,
    ResponseFormat,
    TextMessage,
    Tool,
    check_chat,
    missing,
)
from tokenschain.core.formats.token_estimate import (
    BYTES_PER_TOKEN,
    NO_MEDIA,
    Media,
    may_hold_media,
    media_of,
    text_tokens,
    token_array_length,
)
from tokenschain.core.formats.translation_changes import CallerNames, Loss
from tokenschain.core.pricing.catalog import Usage

CHOICES_MAX = 128
INPUTS_MAX = 2_048
ANSWERS_MAX = 2_048
"""Of one request: choices of all prompts."""
COUNT_MAX = 1_000_000_000
"""Tokens of one answer; a count above is nonsense."""


class Api(StrEnum):
    """The API a call came in by; the value is also the path at the upstream."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"


ABSENT = Raw(b"")
# Looked up once: a member of an enumeration costs more than the comparison with it.
_CHAT = Api.CHAT
_EMPTY = (b"", b'""', b"null", b"[]")


# --- requests --------------------------------------------------------------------


class StreamOptions(Struct):
    include_usage: bool | None = None


class _Document(Struct):
    text: str


_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]

_COMMON: dict[str, Any] = {
    "model": _Name,
    "stream": bool | None,
    "stream_options": StreamOptions | None,
    "n": Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None,
    "max_tokens": _Tokens | None,
    "temperature": Annotated[float, Meta(ge=0, le=2)] | None,
    "top_p": Annotated[float, Meta(ge=0, le=1)] | None,
    "stop": str | list[str] | None,
    "presence_penalty": _Penalty | None,
    "frequency_penalty": _Penalty | None,
    "seed": int | None,
    "user": str | None,
    "logit_bias": dict[str, float] | None,
}
FIELDS: dict[Api, dict[str, Any]] = {
    Api.CHAT: _COMMON
    | {
        "messages": Annotated[list[Message], Meta(min_length=1)],
        "max_completion_tokens": _Tokens | None,
        "logprobs": bool | None,
        "top_logprobs": Annotated[int, Meta(ge=0, le=20)] | None,
        "tools": list[Tool] | None,
        "tool_choice": str | dict[str, Raw] | None,
        "parallel_tool_calls": bool | None,
        "response_format": ResponseFormat | None,
        "reasoning_effort": str | None,
        "metadata": dict[str, str] | None,
    },
    Api.COMPLETIONS: _COMMON
    | {
        "prompt": str | list[str | int | list[int]],
        "logprobs": Annotated[int, Meta(ge=0, le=20)] | None,
        "echo": bool | None,
        "suffix": str | None,
    },
    Api.EMBEDDINGS: {
        "model": _Name,
        "input": str | list[str | int | list[int]],
        "encoding_format": Literal["float", "base64"] | None,
        "dimensions": Annotated[int, Meta(ge=1, le=100_000)] | None,
        "user": str | None,
    },
}
FIELDS[Api.RERANK] = {
    "model": _Name,
    "query": Annotated[str, Meta(min_length=1)],
    "documents": Annotated[list[str | _Document], Meta(min_length=1, max_length=INPUTS_MAX)],
    "top_n": Annotated[int, Meta(ge=1)] | None,
    "return_documents": bool | None,
}
REQUIRED = {
    Api.CHAT: ("model", "messages"),
    Api.COMPLETIONS: ("model", "prompt"),
    Api.EMBEDDINGS: ("model", "input"),
    Api.RERANK: ("model", "query", "documents"),
}
_CHECKS = {
    api: {name: msgspec.json.Decoder(kind).decode for name, kind in fields.items()}
    for api, fields in FIELDS.items()
}
_PROMPT = {
    Api.CHAT: "messages",
    Api.COMPLETIONS: "prompt",
    Api.EMBEDDINGS: "input",
    Api.RERANK: "documents",
}
_TEXTS_FIELDS: dict[str, Any] = {
    name: kind for name, kind in FIELDS[Api.CHAT].items() if name not in RULED
} | {
    "messages": Annotated[list[TextMessage], Meta(min_length=1)],
    "max_completion_tokens": _Tokens | None,
    "stop": str | Annotated[list[str], Meta(max_length=STOPS_MAX)] | None,
}
_BEYOND_TEXTS = RULED - _TEXTS_FIELDS.keys()
"""Fields with rules that a decoder cannot hold."""
_decode_texts = msgspec.json.Decoder(
    msgspec.defstruct(
        "ChatOfTexts",
        [(name, kind) for name, kind in _TEXTS_FIELDS.items() if name in REQUIRED[Api.CHAT]]
        + [(n, kind, None) for n, kind in _TEXTS_FIELDS.items() if n not in REQUIRED[Api.CHAT]],
    )
).decode
_QUOTE = ord('"')
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_WITH_USAGE = Raw(b'{"include_usage":true}')


class NativeRequest(Struct):
    """A request of another API than OpenAI's chat, as its caller wrote it."""

    api: str
    """`messages` or `responses`."""
    fields: dict[str, Raw]
    names: CallerNames
    """What the caller called the canonical fields."""
    losses: tuple[Loss, ...] = ()
    """What the canonical form does not hold."""
    freeform: frozenset[str] = frozenset()
    """Freeform tools that became functions: calls of them are to be turned back."""
    namespaces: Mapping[str, tuple[str, str]] = {}
    """Namespace and name of tools that the caller declared within one."""


class ParsedRequest(Struct):
    """One checked request."""

    api: Api
    model: str
    fields: dict[str, Raw]
    stream: bool
    wants_usage: bool
    choices: int
    output_tokens_max: int | None
    """The most the caller allows per choice, if it said so."""
    prompt_tokens_estimate: int
    kept_input: bytes = b""
    """What the caller wants kept with the answer, as JSON; nothing when it wants nothing kept."""
    native: NativeRequest | None = None
    """What the caller wrote, where it spoke another API."""
    roles: frozenset[str] = frozenset()
    """Who speaks in the messages of a chat."""
    mended: tuple[str, ...] = ()
    """Fields that were changed before any upstream was chosen: halves of characters replaced by
    U+FFFD, another name of the model resolved."""
    prompts: int = 1
    """Of a text completion: each is answered by itself."""
    pictures: int = 0
    """In the messages, whether as data or by URL."""
    all_text: bool = False
    """Whether the messages are known to be texts and nothing beside them."""

    @property
    def requests(self) -> int:
        """As how many requests it counts: one for each choice of each prompt."""
        return self.choices * self.prompts


UNREAD = ParsedRequest(Api.CHAT, "", {}, False, False, 1, None, 0)
"""What stands in for a body that has not been read."""


def parse(api: Api, body: bytes, native: NativeRequest | None = None) -> ParsedRequest:
    """Check a request body.

    Args:
        native: what the caller wrote, where it spoke another API.

    Raises:
        ApiError: 400 with OpenAI's code, and the field that is to blame in `param`.
    """
    read = read_body(body)
    fields, mended = read.fields, read.mended
    if api is _CHAT and not mended and _BEYOND_TEXTS.isdisjoint(fields):
        texts = _chat_of_texts(fields, body, native)
        if texts is not None:
            return texts
    return _checked(api, fields, body, native, mended)


def _chat_of_texts(
    fields: dict[str, Raw], body: bytes, native: NativeRequest | None = None
) -> ParsedRequest | None:
    """The usual chat: messages that are a role and a text, and fields that a type alone can
    check. One typed decode sees all of it; None where anything else or anything wrong is in it,
    which `_checked` looks at field by field.
    """
    try:
        chat: Any = _decode_texts(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    most, stream, options = chat.max_completion_tokens, chat.stream, chat.stream_options
    if most is None:
        most = chat.max_tokens
    elif chat.max_tokens is not None:
        return None
    if options is not None and not stream:
        return None
    roles = set()
    for message in chat.messages:
        if memoryview(message.content)[0] != _QUOTE:
            return None
        roles.add(message.role)
    return ParsedRequest(
        _CHAT,
        chat.model,
        fields,
        stream or False,
        options is not None and bool(options.include_usage),
        chat.n or 1,
        most,
        # `text_tokens`: texts hold no media, and nothing but texts is in them.
        len(fields["messages"]) // BYTES_PER_TOKEN + 1,
        native=native,
        roles=frozenset(roles),
        all_text=True,
    )


def _checked(
    api: Api,
    fields: dict[str, Raw],
    body: bytes,
    native: NativeRequest | None,
    mended: tuple[str, ...],
) -> ParsedRequest:
    checks = _CHECKS[api]
    values: dict[str, Any] = {}
    for name, raw in fields.items():
        check = checks.get(name)
        if check is not None:
            values[name] = value_of(name, raw, check)
    for name in REQUIRED[api]:
        if name not in values:
            raise missing(name)
    if api is Api.CHAT:
        check_chat(values, native)
    elif api is not Api.RERANK:
        _check_inputs(_PROMPT[api], values[_PROMPT[api]])
    stream = values.get("stream") or False
    options = values.get("stream_options")
    if options is not None and not stream:
        raise ApiError(
            "invalid_value",
            "`stream_options` is only allowed when `stream` is true.",
            param="stream_options",
        )
    prompts = 1
    if api is Api.COMPLETIONS:
        prompts = _prompts_in(values["prompt"])
        if prompts * (values.get("n") or 1) > ANSWERS_MAX:
            raise ApiError(
                "invalid_value", f"`n` times the prompts is {ANSWERS_MAX} at most.", param="n"
            )
    media = media_of(bytes(fields[_PROMPT[api]])) if may_hold_media(body) else NO_MEDIA
    return ParsedRequest(
        api=api,
        model=values["model"],
        fields=fields,
        stream=stream,
        wants_usage=options is not None and bool(options.include_usage),
        choices=values.get("n") or 1,
        output_tokens_max=values.get("max_completion_tokens") or values.get("max_tokens"),
        prompt_tokens_estimate=_estimate_prompt(api, fields, values[_PROMPT[api]], media),
        roles=frozenset([message.role for message in values.get("messages", ())]),
        native=native,
        mended=mended,
        prompts=prompts,
        pictures=media.pictures,
    )


def parse_as(
    api: Api, fields: dict[str, Any], native: NativeRequest, mended: tuple[str, ...]
) -> ParsedRequest:
    """The canonical request that another API's one became, checked.

    Args:
        fields: JSON as it is, or what is to be written as JSON.

    Raises:
        ApiError: see `parse`, naming the field as the caller wrote it.
    """
    raws = {
        name: value if type(value) is Raw else Raw(_encode(value)) for name, value in fields.items()
    }
    if api is _CHAT and not mended and _BEYOND_TEXTS.isdisjoint(raws):
        # What any API may ask of texts is within what OpenAI's may: nothing else is to be checked.
        texts = _chat_of_texts(raws, _encode(raws), native)
        if texts is not None:
            return texts
    try:
        return _checked(api, raws, bytes(raws[_PROMPT[api]]), native, mended)
    except ApiError as error:
        if error.param is None:
            raise
        own = native.names.of(error.param)
        for word, theirs in _OWN_WORDS[native.api].items():
            own = own.replace(word, theirs)
        message = error.message.replace(f"`{error.param}`", f"`{own}`")
        raise ApiError(error.code, message, param=own) from None


_OWN_WORDS = {
    "messages": {
        ".tool_call_id": ".tool_use_id", ".function.parameters": ".input_schema",
        ".function": "", ".json_schema": "",
    },
    "responses": {".tool_call_id": ".call_id", ".function": "", ".json_schema": ""},
}  # fmt: skip
"""Words of canonical paths, and what they are called at other APIs."""


def _check_inputs(name: str, value: str | list[str | int | list[int]]) -> None:
    """A text, texts, one token array or token arrays; none of them empty."""
    entries = value if isinstance(value, list) else [value]
    tokens = bool(entries) and isinstance(entries[0], int)
    if not entries:
        raise ApiError("empty_array", f"`{name}` must hold 1 entry at least.", param=name)
    if len(entries) > INPUTS_MAX and not tokens:
        raise ApiError(
            "array_above_max_length", f"`{name}` must hold {INPUTS_MAX} entries at most.",
            param=name,
        )  # fmt: skip
    if len({type(entry) for entry in entries}) > 1:
        raise ApiError("invalid_value", f"`{name}` mixes kinds of entries.", param=name)
    for index, entry in enumerate(entries):
        if entry in ("", []):
            where = f"{name}[{index}]" if isinstance(value, list) else name
            code = "empty_string" if entry == "" else "empty_array"
            raise ApiError(code, f"`{where}` must not be empty.", param=where)


def _estimate_prompt(api: Api, fields: dict[str, Raw], prompt: object, media: Media) -> int:
    """About how many tokens a prompt has; see `core.formats.token_estimate`."""
    counted = None if api is _CHAT else token_array_length(prompt)
    if counted is not None:
        return counted
    size = memoryview(fields[_PROMPT[api]]).nbytes
    tools = fields.get("tools")
    if tools is not None:
        size += memoryview(tools).nbytes
    return text_tokens(size - media.base64_bytes) + media.tokens


def _prompts_in(prompt: object) -> int:
    """How many prompts there are; an array of numbers is one."""
    if not isinstance(prompt, list) or isinstance(prompt[0], int):
        return 1
    return len(prompt)


def encode_for(
    parsed: ParsedRequest, fields: dict[str, Raw], model: str, *, stream_usage: bool = True
) -> bytes:
    """The body for an upstream: its own model name, usage asked for where that is known.

    Built from the decoded fields, so that a repeated field name cannot mean one
    thing here and another thing upstream.
    """
    fields["model"] = Raw(_encode(model))
    if not stream_usage:
        fields.pop("stream_options", None)
    elif parsed.stream and not parsed.wants_usage:
        options = fields.get("stream_options")
        if options is None or bytes(options) == b"null":
            fields["stream_options"] = _WITH_USAGE
        else:
            merged = _decode_fields(options)
            merged["include_usage"] = Raw(b"true")
            fields["stream_options"] = Raw(_encode(merged))
    return _encode(fields)


# --- replies ---------------------------------------------------------------------


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class WireUsage(Struct, gc=False):
    """OpenAI's usage object, with the places where vendors put the same counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek."""
    cached_tokens: int | None = None
    """Kimi."""


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: Raw = ABSENT
    reasoning_details: Raw = ABSENT
    tool_calls: Raw = ABSENT
    function_call: Raw = ABSENT
    annotations: Raw = ABSENT
    refusal: str | None = None

    @property
    def simple(self) -> bool:
        """Whether it holds nothing but text: all else is looked at more closely."""
        return (
            self.reasoning is ABSENT
            and self.tool_calls is ABSENT
            and self.function_call is ABSENT
            and self.reasoning_details is ABSENT
            and self.annotations is ABSENT
        )


class _Choice(Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    usage: Raw = ABSENT
    """An older Kimi's place for it."""


class _BaseResp(Struct):
    status_code: int = 0


_NO_CODE = (*_EMPTY, b"0", b'"0"', b"200", b'"200"')


class WireReply(Struct, gc=False):
    """What the platform reads of a reply or of one chunk of a stream.

    Strict: what does not fit is mended first, see `core.formats.normalization`.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Raw = ABSENT
    base_resp: _BaseResp | None = None
    code: Raw = ABSENT
    error_code: Raw = ABSENT

    @property
    def is_error(self) -> bool:
        """Whether it is an error instead of an answer, in any of the forms that come
        with HTTP 200: `error`, MiniMax's `base_resp`, a `code` or `error_code` but 0."""
        if self.base_resp is not None and self.base_resp.status_code != 0:
            return True
        if self.choices:
            return False
        return bytes(self.error) not in _EMPTY or any(
            bytes(code) not in _NO_CODE for code in (self.code, self.error_code)
        )

    def finish_reason(self) -> str:
        """The last finish reason in it, or an empty string."""
        choices = self.choices or ()
        if len(choices) == 1:
            return choices[0].finish_reason or ""
        for choice in reversed(choices):
            if choice.finish_reason:
                return choice.finish_reason
        return ""

    def output_bytes(self) -> int:
        """Bytes of generated text: content, reasoning, tool calls, refusal; more than 0 when
        there is a token in it."""
        return sum(_output_bytes(choice) for choice in self.choices or ())


def _output_bytes(choice: _Choice) -> int:
    part = choice.delta or choice.message
    size = len(choice.text.encode()) if choice.text else 0
    if part is None:
        return size
    if part.content:
        size += len(part.content.encode())
    if part.reasoning_content:
        size += len(part.reasoning_content.encode())
    if part.refusal:
        size += len(part.refusal.encode())
    if not part.simple:
        for raw in (part.reasoning, part.tool_calls, part.function_call):
            said = bytes(raw)
            size += len(said) - 2 if said not in _EMPTY else 0
    return size


read_reply = msgspec.json.Decoder(WireReply).decode
"""A reply or a chunk; a ValueError where it is not JSON, or not of OpenAI's shape."""


def usage_of(wire: WireUsage | None) -> Usage | None:
    """The usage as the platform counts, or None when it is absent or contradicts itself."""
    if wire is None:
        return None
    prompt = wire.prompt_tokens
    if prompt is None and wire.completion_tokens is None:
        prompt = wire.total_tokens  # all that rerankers say
    if prompt is None:
        return None
    completion = wire.completion_tokens or 0
    inside, outside = wire.prompt_tokens_details, wire.completion_tokens_details
    cached = wire.prompt_cache_hit_tokens or wire.cached_tokens or 0
    if inside is None and outside is None:
        if not 0 <= cached <= prompt <= COUNT_MAX or not 0 <= completion <= COUNT_MAX:
            return None
        return Usage(prompt, completion, cached, 0, "provider")
    written = written_1h = audio = image = 0
    if inside is not None:
        cached = inside.cached_tokens or cached
        written = inside.cache_creation_input_tokens or 0
        written_1h = inside.cache_write_1h_tokens or 0
        audio, image = inside.audio_tokens or 0, inside.image_tokens or 0
    reasoning = spoken = 0
    if outside is not None:
        reasoning, spoken = outside.reasoning_tokens or 0, outside.audio_tokens or 0
    counts = (prompt, completion, cached, written, written_1h, audio, image, reasoning, spoken)
    if min(counts) < 0 or prompt > COUNT_MAX or completion > COUNT_MAX:
        return None
    if cached + written + written_1h > prompt or spoken > completion:
        return None
    # Audio and images may be cached too; then they are counted as cached, once.
    fresh = prompt - cached - written - written_1h
    audio = min(audio, fresh)
    return Usage(
        prompt,
        completion,
        cached,
        min(reasoning, completion - spoken),
        "provider",
        cache_write_tokens=written,
        cache_write_1h_tokens=written_1h,
        audio_prompt_tokens=audio,
        image_prompt_tokens=min(image, fresh - audio),
        audio_completion_tokens=spoken,
    )


def add_usage(left: Usage, right: Usage) -> Usage:
    """The sum of two usages; an estimate in it makes the sum one."""
    sums = {
        name: getattr(left, name) + getattr(right, name)
        for name in Usage.__struct_fields__
        if name != "source"
    }
    source = "estimated" if "estimated" in (left.source, right.source) else right.source
    return Usage(source=source, **sums)


def join_choices(replies: list[bytes], usage: Usage) -> bytes:
    """Whole replies to the same question as one reply with several choices."""
    decoded = [_decode_fields(reply) for reply in replies]
    joined = decoded[0]
    choices: list[dict[str, Raw]] = []
    for reply in decoded:
        for choice in _decode_choices(reply["choices"]):
            choice["index"] = Raw(_encode(len(choices)))
            choices.append(choice)
    joined["choices"] = Raw(_encode(choices))
    joined["usage"] = Raw(_encode(wire_usage(usage)))
    return _encode(joined)


def wire_usage(usage: Usage) -> dict[str, Any]:
    """A usage as OpenAI writes it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def with_usage(body: bytes, usage: Usage) -> bytes:
    """A reply with its usage said."""
    fields = _decode_fields(body)
    fields["usage"] = Raw(_encode(wire_usage(usage)))
    return _encode(fields)


def renumbered(chunk: bytes, number: int) -> bytes | None:
    """A chunk of one choice as that of a choice with a number, without its usage; None when
    nothing else was in it."""
    fields = _decode_fields(chunk)
    fields.pop("usage", None)
    choices = _decode_choices(fields.get("choices", Raw(b"[]")))
    if not choices:
        return None
    for choice in choices:
        choice["index"] = Raw(_encode(number))
    fields["choices"] = Raw(_encode(choices))
    return _encode(fields)


_decode_choices = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def without_usage(data: bytes) -> bytes:
    """A stream chunk as the caller expects it who did not ask for usage."""
    fields = _decode_fields(data)
    fields.pop("usage", None)
    return _encode(fields)
