"""Anthropic Messages API, inbound: requests to canonical form, answers and streams back.

Pure functions between Anthropic's shapes and the canonical form of `core.formats.canonical`.
Source: Anthropic's API reference, version 2023-06-01.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.canonical import Message
from tokenschain.core.formats.openai_chat import (
    Api,
    ParsedRequest,
    WireUsage,
    decode_body,
    usage_of,
)
from tokenschain.core.formats.openai_chat import parse as parse_chat

encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
OUTPUT_TOKENS_DEFAULT = 4_096
"""Anthropic wants `max_tokens`; this is sent where the caller and the catalog say nothing."""
THINKING_TOKENS_MIN = 1_024
EFFORT_TOKENS = {"low": 1_024, "medium": 4_096, "high": 16_384, "max": 32_000}
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# --- what callers send ------------------------------------------------------------


class _Source(Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class _Text(Struct, tag="text"):
    text: str
    cache_control: Raw = canon.ABSENT


class _Image(Struct, tag="image"):
    source: _Source
    cache_control: Raw = canon.ABSENT


class _Document(Struct, tag="document"):
    source: _Source
    title: str | None = None


class _ToolUse(Struct, tag="tool_use"):
    id: str
    name: str
    input: Raw


class _ToolResult(Struct, tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Image] | None = None
    is_error: bool | None = None


class _Thinking(Struct, tag="thinking"):
    thinking: str
    signature: str | None = None


class _Redacted(Struct, tag="redacted_thinking"):
    data: str


_Block = _Text | _Image | _Document | _ToolUse | _ToolResult | _Thinking | _Redacted


class _Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(Struct):
    name: str
    input_schema: Raw = canon.ABSENT
    description: str | None = None
    type: str | None = None


class _Choice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Switch(Struct):
    type: str
    budget_tokens: int | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Output(Struct):
    effort: str | None = None


class _Request(Struct):
    model: str
    messages: list[_Turn]
    max_tokens: int | None = None
    system: str | list[_Text] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool | None = None
    thinking: _Switch | None = None
    metadata: _Metadata | None = None
    output_config: _Output | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


def parse(body: bytes, *, counting: bool = False) -> ParsedRequest:
    """A Messages request as a canonical one.

    Args:
        counting: for `count_tokens`, which needs no `max_tokens`.

    Raises:
        ApiError: with the field to blame.
    """
    asked = decode_body(_decode_request, body)
    if asked.max_tokens is None and not counting:
        raise ApiError(
            "missing_required_parameter", "The field `max_tokens` is required.", param="max_tokens"
        )
    if not asked.messages:
        raise ApiError("invalid_value", "`messages` must not be empty.", param="messages")
    fields: dict[str, Any] = {"model": asked.model, "messages": _messages(asked)}
    plain = {
        "max_tokens": asked.max_tokens,
        "stop": asked.stop_sequences,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "stream": asked.stream,
        "user": asked.metadata and asked.metadata.user_id,
        "reasoning_effort": asked.output_config and asked.output_config.effort,
    }
    fields |= {name: value for name, value in plain.items() if value is not None}
    if asked.thinking is not None:
        fields["thinking"] = {
            "type": asked.thinking.type,
            "budget_tokens": asked.thinking.budget_tokens,
        }
    if asked.tools:
        fields["tools"] = [_tool(tool, at) for at, tool in enumerate(asked.tools)]
    if asked.tool_choice is not None:
        fields |= _tool_choice(asked.tool_choice)
    return parse_chat(Api.CHAT, encode(fields))


def _messages(asked: _Request) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if asked.system:
        made.append({"role": "system", "content": _content(asked.system)})
    for at, turn in enumerate(asked.messages):
        if isinstance(turn.content, str):
            made.append({"role": turn.role, "content": turn.content})
        elif turn.role == "assistant":
            made.append(_assistant(turn.content))
        else:
            made.extend(_user(turn.role, turn.content, f"messages[{at}]"))
    return made


def _content(blocks: str | list[_Text] | list[_Text | _Image]) -> str | list[dict[str, Any]]:
    """Plain text where it says the same, parts where something would be lost."""
    if isinstance(blocks, str):
        return blocks
    if all(isinstance(block, _Text) and not bytes(block.cache_control) for block in blocks):
        return "\n".join(block.text for block in blocks if isinstance(block, _Text))
    return [_part(block) for block in blocks]


def _part(block: _Text | _Image) -> dict[str, Any]:
    if isinstance(block, _Text):
        part: dict[str, Any] = {"type": "text", "text": block.text}
    else:
        source = block.source
        url = source.url or f"data:{source.media_type};base64,{source.data}"
        part = {"type": "image_url", "image_url": {"url": url}}
    if bytes(block.cache_control):
        part["cache_control"] = block.cache_control
    return part


def _assistant(blocks: list[_Block]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    text: list[str] = []
    for block in blocks:
        match block:
            case _Text():
                text.append(block.text)
            case _ToolUse():
                arguments = bytes(block.input).decode()
                function: dict[str, Any] = {"name": block.name, "arguments": arguments}
                call = {"id": block.id, "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
            case _Thinking():
                before = message.get("reasoning_content", "")
                message["reasoning_content"] = before + block.thinking
                detail = {"type": "thinking", "text": block.thinking, "signature": block.signature}
                message.setdefault("reasoning_details", []).append(detail)
            case _Redacted():
                detail = {"type": "redacted_thinking", "data": block.data}
                message.setdefault("reasoning_details", []).append(detail)
            case _:
                raise ApiError("invalid_value", f"An assistant cannot say {type(block).__name__}.")
    if text:
        message["content"] = "".join(text)
    return message


def _user(role: str, blocks: list[_Block], where: str) -> list[dict[str, Any]]:
    """Tool results become messages of their own, before what else the user says."""
    made: list[dict[str, Any]] = []
    rest: list[_Text | _Image] = []
    for at, block in enumerate(blocks):
        match block:
            case _ToolResult():
                content = _content(block.content or "")
                made.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": content})
            case _Text() | _Image():
                rest.append(block)
            case _Document() if block.source.type == "text":
                rest.append(_Text(f"{block.title or 'Document'}:\n{block.source.data or ''}"))
            case _:
                raise ApiError(
                    "unsupported_parameter",
                    "Only text, images, text documents and tool results are translated.",
                    param=f"{where}.content[{at}]",
                )
    if rest:
        made.append({"role": role, "content": _content(rest)})
    return made


def _tool(tool: _Tool, at: int) -> dict[str, Any]:
    if not bytes(tool.input_schema):
        raise ApiError(
            "unsupported_parameter",
            f"The tool type `{tool.type}` runs on Anthropic's servers only.",
            param=f"tools[{at}]",
        )
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: _Choice) -> dict[str, Any]:
    made: dict[str, Any] = {}
    match choice.type:
        case "any":
            made["tool_choice"] = "required"
        case "tool":
            made["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        case "auto" | "none":
            made["tool_choice"] = choice.type
        case _:
            raise ApiError("invalid_value", "No such tool choice.", param="tool_choice.type")
    if choice.disable_parallel_tool_use:
        made["parallel_tool_calls"] = False
    return made


# --- what callers get -------------------------------------------------------------


def reply_of(body: bytes, name: str) -> bytes:
    """A canonical reply as a Message; `name` makes its id."""
    reply = canon.read_reply(body)
    choice = reply.choices[0] if reply.choices else canon.Choice()
    return encode(
        {
            "id": f"msg_{name}",
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": _blocks_of(choice.message or Message()),
            "stop_reason": _STOP_REASONS.get(choice.finish_reason or "stop", "end_turn"),
            "stop_sequence": None,
            "usage": _usage_out(reply.usage),
        }
    )


def _blocks_of(message: Message) -> list[dict[str, Any]]:
    blocks = thinking_blocks(message)
    if message.text:
        block: dict[str, Any] = {"type": "text", "text": message.text}
        if message.citations:
            block["citations"] = [_citation_out(citation) for citation in message.citations]
        blocks.append(block)
    for at, call in enumerate(message.tool_calls or ()):
        blocks.append(
            {
                "type": "tool_use",
                "id": call.id or f"toolu_{at}",
                "name": call.function.name,
                "input": arguments_of(call.function.arguments),
            }
        )
    return blocks


def _citation_out(citation: canon.UrlCitation) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.content,
        "encrypted_index": "",
    }


def thinking_blocks(message: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for detail in message.reasoning_details or ():
        if detail.type == "redacted_thinking":
            blocks.append({"type": "redacted_thinking", "data": detail.data})
        elif detail.signature is not None:
            blocks.append(_thinking_block(detail.text or "", detail.signature))
    if not blocks and message.reasoning_content:
        blocks.append(_thinking_block(message.reasoning_content, ""))
    return blocks


def _thinking_block(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def arguments_of(text: str | None) -> Any:
    """A call's arguments as JSON; what is no JSON is kept under a name of its own."""
    if not text:
        return {}
    try:
        return _decode_any(text)
    except msgspec.DecodeError:
        return {"_invalid_json": text}


def _usage_out(wire: WireUsage | None) -> dict[str, int]:
    usage = usage_of(wire)
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def error_of(error: ApiError, request_id: str) -> bytes:
    """An error in Anthropic's shape."""
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else _ERROR_TYPES[400])
    return encode(
        {
            "type": "error",
            "error": {"type": kind, "message": error.message},
            "request_id": request_id,
        }
    )


class MessagesStreamOut:
    """Canonical chunks to Anthropic's events; messages are not kept.

    Blocks follow one another there, so tool calls that come interleaved are put in order: the
    first one flows, the others follow when it is complete.
    """

    def __init__(self, model: str, name: str) -> None:
        self._model = model
        self._name = name
        self.final = b""
        self._begun = False
        self._open = ""
        self._blocks = -1
        self._tool: int | None = None
        self._waiting: dict[int, tuple[str | None, str | None, list[str]]] = {}
        self._finish = "end_turn"
        self._usage: WireUsage | None = None

    def event(self, data: bytes) -> bytes:
        """What one canonical chunk adds."""
        chunk = canon.read_reply(data)
        out: list[bytes] = []
        if not self._begun:
            self._begin(chunk, out)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices[:1]:
            delta = choice.delta or Message()
            if delta.reasoning_content:
                piece = {"type": "thinking_delta", "thinking": delta.reasoning_content}
                self._piece(out, "thinking", {"thinking": "", "signature": ""}, piece)
            for detail in delta.reasoning_details or ():
                if detail.signature:
                    piece = {"type": "signature_delta", "signature": detail.signature}
                    self._piece(out, "thinking", {"thinking": "", "signature": ""}, piece)
            if delta.text:
                self._piece(out, "text", {"text": ""}, {"type": "text_delta", "text": delta.text})
            for citation in delta.citations:
                cited = {"type": "citations_delta", "citation": _citation_out(citation)}
                self._piece(out, "text", {"text": ""}, cited)
            for call in delta.tool_calls or ():
                self._call(out, call)
            if choice.finish_reason:
                self._finish = _STOP_REASONS.get(choice.finish_reason, "end_turn")
        return b"".join(out)

    def end(self) -> bytes:
        """The stream is complete."""
        out: list[bytes] = []
        if not self._begun:
            self._begin(canon.ChatReply(), out)
        self._close(out)
        for index in sorted(self._waiting):
            name, call_id, pieces = self._waiting[index]
            self._start_tool(out, index, call_id, name)
            self._piece_of_tool(out, "".join(pieces))
            self._close(out)
        stop = {"stop_reason": self._finish, "stop_sequence": None}
        usage = _usage_out(self._usage)
        out.append(_event("message_delta", {"delta": stop, "usage": usage}))
        out.append(_event("message_stop", {}))
        return b"".join(out)

    def error(self, error: ApiError) -> bytes:
        """The stream broke off."""
        return b"event: error\ndata: " + error_of(error, self._name) + b"\n\n"

    def _begin(self, chunk: canon.ChatReply, out: list[bytes]) -> None:
        self._begun = True
        message: dict[str, Any] = {
            "id": f"msg_{self._name}",
            "type": "message",
            "role": "assistant",
            "model": chunk.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        out.append(_event("message_start", {"message": message}))

    def _piece(
        self, out: list[bytes], kind: str, empty: dict[str, Any], piece: dict[str, Any]
    ) -> None:
        if self._open != kind:
            self._close(out)
            self._start(out, kind, {"type": kind, **empty})
        self._delta(out, piece)

    def _call(self, out: list[bytes], call: canon.ToolCall) -> None:
        index = call.index or 0
        name, pieces = call.function.name, call.function.arguments or ""
        if self._tool is None:
            self._close(out)
            self._start_tool(out, index, call.id, name)
        if index == self._tool:
            if pieces:
                self._piece_of_tool(out, pieces)
            return
        had_name, had_id, had = self._waiting.get(index, (None, None, []))
        had.append(pieces)
        self._waiting[index] = (had_name or name, had_id or call.id, had)

    def _start_tool(
        self, out: list[bytes], index: int, call_id: str | None, name: str | None
    ) -> None:
        self._tool = index
        block: dict[str, Any] = {"type": "tool_use", "id": call_id or f"toolu_{index}"}
        block |= {"name": name, "input": {}}
        self._start(out, "tool_use", block)

    def _piece_of_tool(self, out: list[bytes], text: str) -> None:
        self._delta(out, {"type": "input_json_delta", "partial_json": text})

    def _start(self, out: list[bytes], kind: str, block: dict[str, Any]) -> None:
        self._open = kind
        self._blocks += 1
        out.append(_event("content_block_start", {"index": self._blocks, "content_block": block}))

    def _delta(self, out: list[bytes], piece: dict[str, Any]) -> None:
        out.append(_event("content_block_delta", {"index": self._blocks, "delta": piece}))

    def _close(self, out: list[bytes]) -> None:
        if self._open:
            self._open = ""
            out.append(_event("content_block_stop", {"index": self._blocks}))


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


# --- as a vendor's protocol ---------------------------------------------------------
