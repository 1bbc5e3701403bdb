"""Anthropic Messages API, inbound: answers, streams and errors for callers who speak it.


Pure functions between Anthropic's shapes and the canonical form of `core.formats.canonical`.
Source: Anthropic's API reference, version 2023-06-01.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.canonical import Message
from tokenschain.core.formats.openai_chat import ParsedRequest, WireUsage, usage_of
from tokenschain.core.formats.tool_calls import is_json

encode = msgspec.json.Encoder().encode
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


def reply_of(body: bytes, name: str, asked: ParsedRequest) -> bytes:
    """A canonical reply as a Message; `name` makes its id."""
    reply = canon.read_reply(body)
    choice = reply.choices[0] if reply.choices else canon.Choice()
    return encode(
        {
            "id": f"msg_{name}",
            "type": "message",
            "role": "assistant",
            "model": reply.model or asked.model,
            "content": _blocks_of(choice.said),
            "usage": _usage_out(reply.usage),
            **_stop_of(choice, refused=bool(choice.said.refusal)),
        }
    )


def _stop_of(choice: canon.Choice, *, refused: bool) -> dict[str, str | None]:
    sequence = choice.stopped_by
    reason = _STOP_REASONS.get(choice.finish_reason or "stop", "end_turn")
    if choice.pauses:
        reason = canon.PAUSE
    elif reason == "end_turn" and refused:
        reason = "refusal"
    elif reason == "end_turn" and sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    return {"stop_reason": reason, "stop_sequence": None}


def _blocks_of(message: canon.ReplyMessage) -> list[dict[str, Any]]:
    blocks = thinking_blocks(message)
    text = message.words + (message.refusal or "")
    if text:
        block: dict[str, Any] = {"type": "text", "text": text}
        if message.citations:
            block["citations"] = [_citation_out(citation) for citation in message.citations]
        blocks.append(block)
    for at, call in enumerate(message.tool_calls or ()):
        name, arguments = _called(call)
        block = {"type": "tool_use", "id": call.id or f"toolu_{at}", "name": name}
        blocks.append(block | {"input": arguments_of(arguments)})
    return blocks


def _called(call: canon.ToolCall) -> tuple[str | None, str | None]:
    """Name and arguments of a call; a freeform tool's text stands in an object here."""
    if call.custom is None:
        return call.function.name, call.function.arguments
    return call.custom.name, encode({"input": call.custom.input or ""}).decode()


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
        return lenient_json.encodable(lenient_json.patiently(text.encode()))
    except ValueError:
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


_NO_THINKING = {"thinking": "", "signature": ""}


class _WaitingCall(NamedTuple):
    """A call that comes while another one is being told."""

    pieces: list[str]
    name: str | None = None
    id: str | None = None


class MessagesStreamOut:
    """Canonical chunks to Anthropic's events; messages are not kept.

    Blocks follow one another there, so tool calls that come interleaved are put in order: the
    first one flows, the others follow when it is complete, and text that comes in between them
    follows at the end.
    """

    def __init__(self, asked: ParsedRequest, name: str) -> None:
        self._asked = asked
        self._name = name
        self.final = b""
        self._begun = False
        self._open = ""
        self._blocks = -1
        self._tool: int | None = None
        self._arguments: list[str] = []
        self._complete = False
        self._waiting: dict[int, _WaitingCall] = {}
        self._told: set[int] = set()
        """Calls that are complete: no more than blanks can follow of them."""
        self._later: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self._stop: dict[str, str | None] = {"stop_reason": "end_turn", "stop_sequence": None}
        self._refused = False
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
            self._say(choice.said, out)
            if choice.finish_reason:
                self._stop = _stop_of(choice, refused=self._refused)
        return b"".join(out)

    def _say(self, delta: canon.ReplyMessage, out: list[bytes]) -> None:
        if delta.reasoning_content:
            piece = {"type": "thinking_delta", "thinking": delta.reasoning_content}
            self._piece(out, "thinking", _NO_THINKING, piece)
        for detail in delta.reasoning_details or ():
            if detail.type == "redacted_thinking":
                self._close(out)
                self._start(out, "redacted", {"type": "redacted_thinking", "data": detail.data})
                self._close(out)
            elif detail.signature:
                piece = {"type": "signature_delta", "signature": detail.signature}
                self._piece(out, "thinking", _NO_THINKING, piece)
        if delta.refusal:
            self._refused = True
        text = delta.words + (delta.refusal or "")
        if text:
            self._piece(out, "text", {"text": ""}, {"type": "text_delta", "text": text})
        for citation in delta.citations:
            cited = {"type": "citations_delta", "citation": _citation_out(citation)}
            self._piece(out, "text", {"text": ""}, cited)
        for call in delta.tool_calls or ():
            self._call(out, call)

    def end(self) -> bytes:
        """The stream is complete."""
        out: list[bytes] = []
        if not self._begun:
            self._begin(canon.ChatReply(), out)
        self._close(out)
        for index in sorted(self._waiting):
            self._tool = index
            self._release(out)
            self._close(out)
        self._tool = None
        self._say_later(out)
        self._close(out)
        usage = _usage_out(self._usage)
        out.append(_event("message_delta", {"delta": self._stop, "usage": usage}))
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
            "model": chunk.model or self._asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # Clients show how full the context is from this: the estimate, until it is counted.
            "usage": {"input_tokens": self._asked.prompt_tokens_estimate, "output_tokens": 0},
        }
        out.append(_event("message_start", {"message": message}))

    def _piece(
        self, out: list[bytes], kind: str, empty: dict[str, Any], piece: dict[str, Any]
    ) -> None:
        if self._tool is not None and not self._tool_complete():
            self._later.append((kind, empty, piece))
            return
        if self._later:
            self._say_later(out)
        if self._open != kind:
            self._close(out)
            self._start(out, kind, {"type": kind, **empty})
        self._delta(out, piece)

    def _say_later(self, out: list[bytes]) -> None:
        """What came between the pieces of a call, now that it is complete."""
        later, self._later = self._later, []
        for kind, empty, piece in later:
            self._piece(out, kind, empty, piece)

    def _call(self, out: list[bytes], call: canon.ToolCall) -> None:
        index = call.index or 0
        name, piece = _called(call)
        if index in self._told:
            return
        if index != self._tool:
            waiting = self._waiting.setdefault(index, _WaitingCall([]))
            waiting.pieces.append(piece or "")
            self._waiting[index] = waiting._replace(
                name=waiting.name or name, id=waiting.id or call.id
            )
            if self._tool is None or self._tool_complete():
                self._say_later(out)
                self._close(out)
                if self._tool is not None:
                    self._told.add(self._tool)
                self._tool = min(self._waiting)
                self._release(out)
        elif piece:
            self._arguments.append(piece)
            if self._open == "tool_use":
                self._piece_of_tool(out, piece)

    def _tool_complete(self) -> bool:
        self._complete = self._complete or is_json("".join(self._arguments))
        return self._complete

    def _release(self, out: list[bytes]) -> None:
        """Begin the block of the call whose turn it is, with all that has come of it."""
        index = self._tool or 0
        waiting = self._waiting.pop(index)
        block = {"type": "tool_use", "id": waiting.id or f"toolu_{index}", "name": waiting.name}
        self._start(out, "tool_use", block | {"input": {}})
        self._arguments, self._complete = waiting.pieces, False
        text = "".join(waiting.pieces)
        if text:
            self._piece_of_tool(out, text)

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
