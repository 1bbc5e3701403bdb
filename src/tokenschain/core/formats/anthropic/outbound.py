"""Anthropic Messages API, outbound: a vendor's replies and streams in the canonical form."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.anthropic.inbound import (
    FINISH_REASONS,
    encode,
)
from tokenschain.core.formats.canonical import ReasoningDetail


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
    citations: list[_Citation] | None = None
    citation: _Citation | None = None


class _Reply(Struct):
    type: str = ""
    id: str = ""
    model: str = ""
    content: list[_OutBlock] = []
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: Raw = Raw(b"")
    message: _Reply | None = None
    index: int = 0
    content_block: _OutBlock | None = None
    delta: _OutBlock | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode


def reply_from(body: bytes, metadata: canon.ReplyMetadata) -> bytes:
    """A Message as a canonical reply; an error stays one.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    reply = _decode_reply(body)
    if reply.type == "error":
        return body
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
                function = {"name": block.name, "arguments": bytes(block.input).decode()}
                call = {"id": block.id, "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
    if details:
        message["reasoning_details"] = details
    if annotations:
        message["annotations"] = annotations
    head = metadata.head(reply.id, reply.model)
    finish = FINISH_REASONS.get(reply.stop_reason or "end_turn", "stop")
    return canon.whole(head, message, finish, _usage_in(reply.usage or _Usage()))


def _usage_in(usage: _Usage) -> dict[str, Any]:
    """Anthropic counts cached tokens apart from `input_tokens`; the canonical form inside."""
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
        self._characters = 0
        self._block_start = 0
        self._citations: list[_Citation] = []

    def event(self, data: bytes) -> list[bytes]:
        """The canonical chunks of one event's data; `[DONE]` after the last.

        Raises:
            msgspec.DecodeError: the data is not Anthropic's.
        """
        event = _decode_reply(data)
        match event.type:
            case "message_start" if event.message is not None:
                self._head = self._metadata.head(event.message.id, event.message.model)
                self._count(event.message.usage)
                return [canon.chunk(self._head, {"role": "assistant", "content": ""})]
            case "content_block_start" if event.content_block is not None:
                return self._start(event.content_block)
            case "content_block_delta" if event.delta is not None:
                return self._piece(event.delta)
            case "content_block_stop" if self._citations:
                found = _annotations(self._citations, self._block_start, self._characters)
                self._citations = []
                return [canon.chunk(self._head, {"annotations": found})]
            case "message_delta":
                self._count(event.usage)
                reason = event.delta.stop_reason if event.delta else None
                finish = FINISH_REASONS.get(reason or "end_turn", "stop")
                usage = canon.usage_chunk(self._head, _usage_in(self._usage))
                return [canon.chunk(self._head, {}, finish), usage]
            case "message_stop":
                return [b"[DONE]"]
            case "error":
                return [encode({"error": event.error})]
        return []

    def _count(self, usage: _Usage | None) -> None:
        """Later counts replace earlier ones, field by field: they are cumulative."""
        for name in usage.__struct_fields__ if usage is not None else ():
            value = getattr(usage, name)
            if value is not None:
                setattr(self._usage, name, value)

    def _start(self, block: _OutBlock) -> list[bytes]:
        self._block_start = self._characters
        if block.type == "redacted_thinking":
            detail = {"type": "redacted_thinking", "data": block.data}
            return [canon.chunk(self._head, {"reasoning_details": [detail]})]
        if block.type != "tool_use":
            return []
        self._calls += 1
        function = {"name": block.name, "arguments": ""}
        call = {"index": self._calls, "id": block.id, "type": "function", "function": function}
        return [canon.chunk(self._head, {"tool_calls": [call]})]

    def _piece(self, delta: _OutBlock) -> list[bytes]:
        match delta.type:
            case "text_delta":
                self._characters += len(delta.text or "")
                made: dict[str, Any] = {"content": delta.text}
            case "citations_delta" if delta.citation is not None:
                self._citations.append(delta.citation)
                return []
            case "thinking_delta":
                made = {"reasoning_content": delta.thinking}
            case "signature_delta":
                detail = {"type": "thinking", "signature": delta.signature}
                made = {"reasoning_details": [detail]}
            case "input_json_delta":
                call = {"index": self._calls, "function": {"arguments": delta.partial_json}}
                made = {"tool_calls": [call]}
            case _:
                return []
        return [canon.chunk(self._head, made)]
