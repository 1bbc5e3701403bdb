"""OpenAI Responses API, outbound: answers in its items and events.

Requests are read in `core.formats.responses_reader`.

Source: OpenAI's API reference for /v1/responses, as its Python SDK 2.x types it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.encrypted_content import seal_reasoning
from tokenschain.core.formats.openai_chat import ParsedRequest, WireUsage, usage_of
from tokenschain.core.formats.response_echo import echo_of
from tokenschain.core.formats.responses_reader import ENCRYPTED

_encode = msgspec.json.Encoder().encode


def reply_of(body: bytes, name: str, asked: ParsedRequest) -> bytes:
    """A canonical reply as a response; `name` makes its id."""
    reply = canon.read_reply(body)
    choice = reply.choices[0] if reply.choices else canon.Choice()
    message = choice.said
    output: list[dict[str, Any]] = []
    text, details = message.reasoning_content or "", message.reasoning_details or []
    encrypts = _wants_encrypted(asked)
    if text or (details and encrypts):
        item = _reasoning_item(f"rs_{name}", text, _wants_summary(asked))
        output.append(_with_encrypted(item, text, details) if encrypts else item)
    parts: list[dict[str, Any]] = []
    if message.words or not (message.tool_calls or message.refusal):
        parts.append(_text_part(message.words, message.citations, _logprobs_of(choice)))
    if message.refusal:
        parts.append(_refusal_part(message.refusal))
    if parts:
        output.append(_message_item(f"msg_{name}", parts))
    for at, call in enumerate(message.tool_calls or ()):
        output.append(_call_item(f"{_call_prefix(call)}_{name}_{at}", call, _spaces_of(asked)))
    return _response(
        name,
        reply.model or asked.model,
        output,
        choice.finish_reason,
        reply.usage,
        reply.created,
        echo_of(asked),
    )


def _wants_summary(asked: ParsedRequest) -> bool:
    """Whether reasoning was asked for as a summary: the form that most clients read."""
    raw = asked.native.fields.get("reasoning") if asked.native is not None else None
    if raw is None or b'"summary"' not in bytes(raw):
        return False
    reasoning = msgspec.json.decode(raw)
    return isinstance(reasoning, dict) and reasoning.get("summary") not in (None, "none")


def _wants_encrypted(asked: ParsedRequest) -> bool:
    """Whether reasoning is to come in a form that can be given back whole."""
    raw = asked.native.fields.get("include") if asked.native is not None else None
    return raw is not None and b'"%b"' % ENCRYPTED.encode() in bytes(raw)


def _with_encrypted(
    item: dict[str, Any], text: str, details: list[canon.ReasoningDetail]
) -> dict[str, Any]:
    return {**item, "encrypted_content": seal_reasoning(text, details)}


def _logprobs_of(choice: canon.Choice) -> list[Raw]:
    return (choice.logprobs.content if choice.logprobs is not None else None) or []


_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _response(
    name: str,
    model: str,
    output: list[dict[str, Any]],
    finish: str | None,
    usage: WireUsage | None,
    created: int,
    echo: bytes,
    status: str | None = None,
    error: ApiError | None = None,
) -> bytes:
    """
    Args:
        echo: what it says of its request; see `echo_of`.
    """
    reason = _REASONS.get(finish or "")
    made = _encode(
        {
            "id": f"resp_{name}",
            "object": "response",
            "created_at": created,
            "status": status or _status(finish),
            "error": None if error is None else {"code": error.code, "message": error.message},
            "incomplete_details": {"reason": reason} if reason else None,
            "model": model,
            "output": output,
            "usage": usage_out(usage),
        }
    )
    return b"%b,%b}" % (made[:-1], echo)


def _status(finish: str | None) -> str:
    return "incomplete" if finish in _REASONS else "completed"


def usage_out(wire: WireUsage | None) -> dict[str, Any] | None:
    """A usage in the words of this API."""
    usage = usage_of(wire)
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _reasoning_item(name: str, text: str, as_summary: bool) -> dict[str, Any]:
    """What a model thought, as a summary where one was asked for."""
    if as_summary:
        summary = [{"type": "summary_text", "text": text}] if text else []
        return {"id": name, "type": "reasoning", "summary": summary}
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": name, "type": "reasoning", "summary": [], "content": content}


def _message_item(
    name: str, content: list[dict[str, Any]], status: str = "completed"
) -> dict[str, Any]:
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _text_part(
    text: str, citations: list[canon.UrlCitation], logprobs: list[Raw]
) -> dict[str, Any]:
    annotations = [_annotation(citation) for citation in citations]
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def _refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


def _annotation(citation: canon.UrlCitation) -> dict[str, Any]:
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title,
        "start_index": citation.start_index,
        "end_index": citation.end_index,
    }


def _call_prefix(call: canon.ToolCall) -> str:
    return "fc" if call.custom is None else "ctc"


_Spaces = Mapping[str, tuple[str, str]]
"""Namespace and name of tools, by their name upstream."""


def _spaces_of(asked: ParsedRequest) -> _Spaces:
    return asked.native.namespaces if asked.native is not None else {}


def _call_item(
    name: str, call: canon.ToolCall, spaces: _Spaces, status: str = "completed"
) -> dict[str, Any]:
    made: dict[str, Any] = {"id": name, "call_id": call.id or name, "status": status}
    called = call.function.name if call.custom is None else call.custom.name
    space = spaces.get(called or "")
    tool = {"name": called} if space is None else {"namespace": space[0], "name": space[1]}
    if call.custom is not None:
        return {**made, "type": "custom_tool_call", **tool, "input": call.custom.input or ""}
    return {**made, "type": "function_call", **tool, "arguments": call.function.arguments or ""}


_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc", "custom_tool_call": "ctc"}


class _Open:
    """An output item that is being streamed."""

    def __init__(
        self, index: int, name: str, kind: str, as_summary: bool, encrypts: bool, spaces: _Spaces
    ) -> None:
        self.index = index
        self.encrypts = encrypts
        self.spaces = spaces
        self.details: list[canon.ReasoningDetail] = []
        self.name = name
        self.kind = kind
        self.as_summary = as_summary
        self.pieces: list[str] = []
        self.refusal: list[str] = []
        self.parts: list[str] = []
        """Kinds of its parts, in their order."""
        self.citations: list[canon.UrlCitation] = []
        self.logprobs: list[Raw] = []
        self.call = canon.ToolCall()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self, kind: str, *, begun: bool = False) -> dict[str, Any]:
        """One part of its content, or how that begins."""
        if kind == "refusal":
            return _refusal_part("" if begun else "".join(self.refusal))
        if begun:
            return _text_part("", [], [])
        return _text_part(self.text, self.citations, self.logprobs)

    def item(self, status: str = "completed") -> dict[str, Any]:
        if self.kind == "reasoning":
            item = _reasoning_item(self.name, self.text, self.as_summary)
            return _with_encrypted(item, self.text, self.details) if self.encrypts else item
        if self.kind == "message":
            parts = [self.part(kind) for kind in self.parts] if status != "in_progress" else []
            return _message_item(self.name, parts, status)
        call = self.call
        if call.custom is not None:
            said = canon.ToolCall(id=call.id, custom=canon.CustomCall(call.custom.name, self.text))
        else:
            said = canon.ToolCall(canon.Function(call.function.name, self.text), call.id)
        return _call_item(self.name, said, self.spaces, status)


OUTPUT_CHARACTERS_MAX = 16_777_216
"""Of a streamed response: all of it is held until its end, which repeats it four times."""
CHUNKS_BYTES_MAX = 134_217_728
"""Of all its chunks: what else they bring is held as well."""


class ResponsesStreamOut:
    """Canonical chunks to the events of a response; items may be open side by side."""

    def __init__(self, asked: ParsedRequest, name: str) -> None:
        self._model = asked.model
        self._as_summary = _wants_summary(asked)
        self._encrypts = _wants_encrypted(asked)
        self._spaces = _spaces_of(asked)
        self._echo = echo_of(asked)
        self._id = name
        self._created = 0
        self.final = b""
        """The whole response, once the stream has ended well."""
        self._begun = False
        self._number = 0
        self._bytes = self._characters = 0
        self._items: dict[str, _Open] = {}
        self._finish: str | None = None
        self._usage: WireUsage | None = None

    def event(self, data: bytes) -> bytes:
        """What one canonical chunk adds.

        Raises:
            ApiError: `upstream_invalid_reply`: the answer is longer than any model's.
        """
        self._bytes += len(data)
        if self._bytes > CHUNKS_BYTES_MAX:
            raise _too_long()
        chunk = canon.read_reply(data)
        out: list[bytes] = []
        self._begin(chunk, out)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices[:1]:
            self._say(choice, out)
            self._finish = choice.finish_reason or self._finish
        return b"".join(out)

    def _say(self, choice: canon.Choice, out: list[bytes]) -> None:
        delta = choice.said
        if delta.reasoning_content:
            item = self._item(out, "reasoning", "reasoning")
            kind = "reasoning_summary_text" if self._as_summary else "reasoning_text"
            self._piece(out, item, kind, delta.reasoning_content)
        if delta.reasoning_details and self._encrypts:
            self._item(out, "reasoning", "reasoning").details += delta.reasoning_details
        if delta.words:
            item = self._part(out, "output_text")
            logprobs = _logprobs_of(choice)
            item.logprobs += logprobs
            self._piece(out, item, "output_text", delta.words, logprobs)
        if delta.refusal:
            item = self._part(out, "refusal")
            self._hold(delta.refusal)
            item.refusal.append(delta.refusal)
            fields = {**self._at(item), "content_index": item.parts.index("refusal")}
            out.append(self._event("response.refusal.delta", fields | {"delta": delta.refusal}))
        for citation in delta.citations:
            self._cite(out, self._part(out, "output_text"), citation)
        for call in delta.tool_calls or ():
            kind = "function_call" if call.custom is None else "custom_tool_call"
            item = self._item(out, f"call {call.index or 0}", kind, call)
            said = call.function.arguments if call.custom is None else call.custom.input
            if said:
                name = f"{kind}_arguments" if call.custom is None else f"{kind}_input"
                self._piece(out, item, name, said)

    def end(self) -> bytes:
        """The stream is complete."""
        out: list[bytes] = []
        self._begin(canon.ChatReply(), out)
        for item in self._items.values():
            self._close(out, item)
        output = [item.item() for item in self._items.values()]
        self.final = _response(
            self._id, self._model, output, self._finish, self._usage, self._created, self._echo
        )
        kind = f"response.{_status(self._finish)}"
        out.append(self._event(kind, {"response": Raw(self.final)}))
        return b"".join(out)

    def error(self, error: ApiError) -> bytes:
        """The stream broke off."""
        output = [item.item("incomplete") for item in self._items.values()]
        response = _response(
            self._id, self._model, output, None, self._usage, self._created, self._echo, "failed",
            error,
        )  # fmt: skip
        return self._event("response.failed", {"response": Raw(response)})

    def _begin(self, chunk: canon.ChatReply, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        self._created = chunk.created
        self._model = chunk.model or self._model
        response = _response(
            self._id, self._model, [], None, None, self._created, self._echo, "in_progress"
        )
        for kind in ("response.created", "response.in_progress"):
            out.append(self._event(kind, {"response": Raw(response)}))

    def _item(
        self, out: list[bytes], key: str, kind: str, call: canon.ToolCall | None = None
    ) -> _Open:
        item = self._items.get(key)
        if item is not None:
            return item
        index = len(self._items)
        name = f"{_PREFIXES[kind]}_{self._id}_{index}"
        item = self._items[key] = _Open(
            index, name, kind, self._as_summary, self._encrypts, self._spaces
        )
        if call is not None:
            item.call = call
        added = {"output_index": index, "item": item.item("in_progress")}
        if kind == "reasoning":
            added["item"] = _reasoning_item(name, "", self._as_summary) | {"status": "in_progress"}
        out.append(self._event("response.output_item.added", added))
        if kind == "reasoning" and self._as_summary:
            part = {"summary_index": 0, "part": {"type": "summary_text", "text": ""}}
            fields = {**self._at(item), **part}
            out.append(self._event("response.reasoning_summary_part.added", fields))
        return item

    def _part(self, out: list[bytes], kind: str) -> _Open:
        """The message, with a part of that kind begun."""
        item = self._item(out, "message", "message")
        if kind not in item.parts:
            item.parts.append(kind)
            at = {**self._at(item), "content_index": len(item.parts) - 1}
            fields = {**at, "part": item.part(kind, begun=True)}
            out.append(self._event("response.content_part.added", fields))
        return item

    def _piece(
        self,
        out: list[bytes],
        item: _Open,
        kind: str,
        text: str,
        logprobs: list[Raw] | None = None,
    ) -> None:
        self._hold(text)
        item.pieces.append(text)
        fields = {**self._at(item), "delta": text}
        if kind == "reasoning_summary_text":
            fields["summary_index"] = 0
        elif kind == "reasoning_text":
            fields["content_index"] = 0
        elif kind == "output_text":
            fields["content_index"] = item.parts.index(kind)
            fields["logprobs"] = logprobs or []
        out.append(self._event(f"response.{kind}.delta", fields))

    def _hold(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > OUTPUT_CHARACTERS_MAX:
            raise _too_long()

    def _cite(self, out: list[bytes], item: _Open, citation: canon.UrlCitation) -> None:
        fields = {
            **self._at(item),
            "content_index": item.parts.index("output_text"),
            "annotation_index": len(item.citations),
            "annotation": _annotation(citation),
        }
        item.citations.append(citation)
        out.append(self._event("response.output_text.annotation.added", fields))

    def _close(self, out: list[bytes], item: _Open) -> None:
        at = self._at(item)
        text = item.text
        match item.kind:
            case "message":
                for index, kind in enumerate(item.parts):
                    self._close_part(out, item, index, kind)
            case "reasoning" if self._as_summary:
                done = {**at, "summary_index": 0, "text": text}
                out.append(self._event("response.reasoning_summary_text.done", done))
                part = {"summary_index": 0, "part": {"type": "summary_text", "text": text}}
                out.append(self._event("response.reasoning_summary_part.done", {**at, **part}))
            case "reasoning":
                done = {**at, "content_index": 0, "text": text}
                out.append(self._event("response.reasoning_text.done", done))
            case "custom_tool_call":
                done = {**at, "input": text}
                out.append(self._event("response.custom_tool_call_input.done", done))
            case _:
                done = {**at, "arguments": text, "name": item.item()["name"]}
                out.append(self._event("response.function_call_arguments.done", done))
        finished = {"output_index": item.index, "item": item.item()}
        out.append(self._event("response.output_item.done", finished))

    def _close_part(self, out: list[bytes], item: _Open, index: int, kind: str) -> None:
        at = {**self._at(item), "content_index": index}
        if kind == "refusal":
            done = {**at, "refusal": "".join(item.refusal)}
        else:
            done = {**at, "text": item.text, "logprobs": item.logprobs}
        out.append(self._event(f"response.{kind}.done", done))
        part = {**at, "part": item.part(kind)}
        out.append(self._event("response.content_part.done", part))

    def _at(self, item: _Open) -> dict[str, Any]:
        return {"item_id": item.name, "output_index": item.index}

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _too_long() -> ApiError:
    return ApiError("upstream_invalid_reply", "The upstream's answer is longer than any may be.")
