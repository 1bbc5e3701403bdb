"""Anthropic Messages API, inbound: answers, streams and errors for callers who speak it.


Pure functions between Anthropic's shapes and the canonical form of `core.formats.canonical`.
Source: Anthropic's API reference, version 2023-06-01.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.canonical import Message
from tokenschain.core.formats.openai_chat import WireUsage, usage_of

encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
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
