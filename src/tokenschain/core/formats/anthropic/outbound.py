"""Anthropic Messages API, outbound: a vendor's replies and streams in the canonical form."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.anthropic.inbound import FINISH_REASONS
from tokenschain.core.formats.canonical import ReasoningDetail

_NO_INPUT = ("{}", "null", "")


class _CacheCreation(Struct):
    ephemeral_1h_input_tokens: int = 0


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


class _Citation(Struct):
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None


class _OutBlock(Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    citations: list[_Citation] | None = None
    citation: _Citation | None = None


class _Reply(Struct):
    type: str = ""
    id: str = ""
    model: str = ""
    content: list[_OutBlock] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None
    error: Raw = Raw(b"")
    message: _Reply | None = None
    index: int = 0
    content_block: _OutBlock | None = None
    delta: _OutBlock | None = None


_read_reply = lenient_json.reader(_Reply)


class _NativeUsage(Struct):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _NativeBlock(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None

    @property
    def whole(self) -> bool:
        """Whether what its type needs is there."""
        match self.type:
            case "text":
                return self.text is not None
            case "thinking":
                return self.thinking is not None
            case "tool_use":
                return bool(self.id and self.name)
        return True


class _Native(Struct):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[_NativeBlock]
    stop_reason: str
    usage: _NativeUsage
    stop_sequence: str | None = None


_decode_native = msgspec.json.Decoder(_Native).decode


def is_native(body: bytes) -> bool:
    """Whether a Message can pass as it came: all that clients rely on is of its type."""
    try:
        found = _decode_native(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    counted = min(found.usage.output_tokens, found.usage.input_tokens) >= 0
    return counted and all(block.whole for block in found.content)


def reply_from(body: bytes, metadata: canon.ReplyMetadata) -> bytes:
    """A Message as a canonical reply; an error stays one.

    Raises:
        ValueError: it is neither.
    """
    reply = _read_reply(body)
    if reply.type == "error":
        return body
    if reply.content is None:
        raise ValueError("not a message")
    message: dict[str, Any] = {"role": "assistant", "content": None}
    details: list[ReasoningDetail] = []
    annotations: list[canon.Annotation] = []
    for block in reply.content:
        match block.type:
            case "text":
                before = message["content"] or ""
                message["content"] = before + (block.text or "")
                ends = (len(before), len(message["content"]))
                annotations += _annotations(block.citations or [], *ends)
            case "thinking":
                before = message.get("reasoning_content", "")
                message["reasoning_content"] = before + (block.thinking or "")
                details.append(ReasoningDetail("thinking", block.thinking, block.signature))
            case "redacted_thinking":
                details.append(ReasoningDetail("redacted_thinking", data=block.data))
            case "tool_use":
                arguments = bytes(block.input).decode("utf-8", "replace")
                function = {"name": block.name, "arguments": arguments}
                call = {"id": block.id, "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
    if details:
        message["reasoning_details"] = details
    if annotations:
        message["annotations"] = annotations
    head = metadata.head(reply.id, reply.model)
    finish = FINISH_REASONS.get(reply.stop_reason or "end_turn", "stop")
    more = _stopped_by(reply)
    return canon.whole(head, message, finish, _usage_in(reply.usage), more)


def _stopped_by(said: _Reply | _OutBlock) -> dict[str, str]:
    """What OpenAI's finish reasons cannot say: which sequence, and that a turn only pauses."""
    if said.stop_reason == "stop_sequence" and said.stop_sequence is not None:
        return {"stop_sequence": said.stop_sequence}
    return {"stop_reason": "pause_turn"} if said.stop_reason == "pause_turn" else {}


def _usage_in(usage: _Usage | None) -> dict[str, Any] | None:
    """Anthropic counts cached tokens apart from `input_tokens`; the canonical form inside.

    None where it did not count what matters.
    """
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    read = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    long = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0
    prompt = (usage.input_tokens or 0) + read + written
    completion = usage.output_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": read,
            "cache_creation_input_tokens": written - long,
            "cache_write_1h_tokens": long,
        },
    }


def _annotations(citations: list[_Citation], start: int, end: int) -> list[canon.Annotation]:
    """Citations of pages; those of the caller's own documents have no name in OpenAI's chat."""
    return [
        canon.Annotation(
            url_citation=canon.UrlCitation(
                found.url, found.title or "", start, end, found.cited_text or ""
            )
        )
        for found in citations
        if found.url is not None
    ]


class MessagesStreamIn:
    """Anthropic's events to canonical chunks."""

    def __init__(self, metadata: canon.ReplyMetadata) -> None:
        self._metadata = metadata
        self._head = metadata.head("")
        self._usage = _Usage()
        self._calls = -1
        self._numbers: dict[int, int] = {}
        """Calls by the number of their block."""
        self._given: dict[int, str] = {}
        """Arguments that stand at the beginning of a block, until pieces of them come."""
        self._thought: list[str] = []
        self._characters = 0
        self._block_start = 0
        self._citations: list[_Citation] = []

    def event(self, data: bytes) -> list[bytes]:
        """The canonical chunks of one event's data; `[DONE]` after the last.

        Raises:
            ValueError: the data is not Anthropic's.
        """
        event = _read_reply(data)
        match event.type:
            case "message_start" if event.message is not None:
                self._head = self._metadata.head(event.message.id, event.message.model)
                self._count(event.message.usage)
                return [canon.chunk(self._head, {"role": "assistant", "content": ""})]
            case "content_block_start" if event.content_block is not None:
                return self._start(event.content_block, event.index)
            case "content_block_delta" if event.delta is not None:
                return self._piece(event.delta, event.index)
            case "content_block_stop":
                return self._end_of_block(event.index)
            case "message_delta":
                return self._end_of_message(event)
            case "message_stop":
                return [b"[DONE]"]
            case "error":
                return [lenient_json.encode({"error": event.error})]
        return []

    def _end_of_block(self, index: int) -> list[bytes]:
        made: list[bytes] = []
        given = self._given.pop(index, None)
        if given is not None:
            call = {"index": self._numbers[index], "function": {"arguments": given}}
            made.append(canon.chunk(self._head, {"tool_calls": [call]}))
        if self._citations:
            found = _annotations(self._citations, self._block_start, self._characters)
            self._citations = []
            made.append(canon.chunk(self._head, {"annotations": found}))
        return made

    def _end_of_message(self, event: _Reply) -> list[bytes]:
        self._count(event.usage)
        made: list[bytes] = []
        if event.delta is not None and event.delta.stop_reason is not None:
            finish = FINISH_REASONS.get(event.delta.stop_reason, "stop")
            made.append(canon.chunk(self._head, {}, finish, _stopped_by(event.delta)))
        usage = _usage_in(self._usage)
        if usage is not None:
            made.append(canon.usage_chunk(self._head, usage))
        return made

    def _count(self, usage: _Usage | None) -> None:
        """Later counts replace earlier ones, field by field: they are cumulative."""
        for name in usage.__struct_fields__ if usage is not None else ():
            value = getattr(usage, name)
            if value is not None:
                setattr(self._usage, name, value)

    def _start(self, block: _OutBlock, index: int) -> list[bytes]:
        self._block_start = self._characters
        if block.type == "redacted_thinking":
            detail = {"type": "redacted_thinking", "data": block.data}
            return [canon.chunk(self._head, {"reasoning_details": [detail]})]
        if block.type == "thinking":
            self._thought = []
        begun = {"text": ("content", block.text), "thinking": ("reasoning_content", block.thinking)}
        if block.type in begun:
            name, text = begun[block.type]
            return [canon.chunk(self._head, {name: text})] if text else []
        if block.type != "tool_use":
            return []
        self._calls += 1
        self._numbers[index] = self._calls
        given = bytes(block.input).decode("utf-8", "replace")
        if given not in _NO_INPUT:
            self._given[index] = given
        function = {"name": block.name, "arguments": ""}
        call = {"index": self._calls, "id": block.id, "type": "function", "function": function}
        return [canon.chunk(self._head, {"tool_calls": [call]})]

    def _piece(self, delta: _OutBlock, index: int) -> list[bytes]:
        match delta.type:
            case "text_delta":
                self._characters += len(delta.text or "")
                made: dict[str, Any] = {"content": delta.text}
            case "citations_delta" if delta.citation is not None:
                self._citations.append(delta.citation)
                return []
            case "thinking_delta":
                self._thought.append(delta.thinking or "")
                made = {"reasoning_content": delta.thinking}
            case "signature_delta":
                # With its text, since a caller gives back the pair.
                text = "".join(self._thought)
                detail = {"type": "thinking", "text": text, "signature": delta.signature}
                made = {"reasoning_details": [detail]}
            case "input_json_delta":
                self._given.pop(index, None)
                number = self._numbers.get(index, self._calls)
                call = {"index": number, "function": {"arguments": delta.partial_json}}
                made = {"tool_calls": [call]}
            case _:
                return []
        return [canon.chunk(self._head, made)]
