"""Continuation of a stream that broke off: the follow-up request, and the splice.

Vendors take the beginning of an answer as a last assistant message, each with a switch of its
own. What comes back is made one stream with what the caller has: same id, no second role, no
repeated beginning.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.formats import openai_chat
from tokenschain.core.pricing.catalog import Usage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_messages = msgspec.json.Decoder(list[Raw]).decode
KEPT_BYTES_MAX = 4_194_304
"""A longer answer cannot be gone on with."""
_UNSAFE = ("response_format", "logprobs", "top_logprobs", "stop", "functions", "logit_bias")


class Prefill(StrEnum):
    """How a vendor is asked to go on; sources in `providers.vendor_table`."""

    LAST = "last"
    """A last message of the assistant is enough."""
    PREFIX = "prefix"
    """`prefix: true` on it."""
    PARTIAL = "partial"
    """`partial: true` on it."""
    TEMPLATE = "template"
    """`continue_final_message: true` and `add_generation_prompt: false` beside it."""


def safe(fields: dict[str, Raw], choices: int) -> bool:
    """Whether an answer to this request may be gone on with: one choice of free text.

    A stop sequence could lie across the seam, a schema or a forced tool cannot be taken up in
    the middle.
    """
    if choices != 1:
        return False
    for name in _UNSAFE:
        raw = bytes(fields.get(name, b"null"))
        if raw not in (b"null", b"false", b"[]", b'{"type":"text"}', b"{}"):
            return False
    choice = bytes(fields.get("tool_choice", b'"auto"'))
    return choice in (b'"auto"', b'"none"', b"null")


def request(fields: dict[str, Raw], said: PartialOutput, prefill: Prefill) -> dict[str, Raw]:
    """The request that asks for the rest."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    made = dict(fields)
    if prefill in (Prefill.PREFIX, Prefill.PARTIAL):
        message[prefill.value] = True
    elif prefill is Prefill.TEMPLATE:
        made["add_generation_prompt"] = Raw(b"false")
        made["continue_final_message"] = Raw(b"true")
    messages = _decode_messages(fields["messages"])
    made["messages"] = Raw(_encode([*messages, Raw(_encode(message))]))
    for name in ("max_tokens", "max_completion_tokens"):
        raw = made.get(name)
        if raw is not None and bytes(raw) != b"null":
            made[name] = Raw(_encode(max(1, _decode(raw) - said.tokens)))
    return made


def said_of(pieces: list[bytes]) -> PartialOutput | None:
    """What canonical chunks have said; None when it is more than text."""
    text: list[str] = []
    head: dict[str, Any] = {}
    for data in pieces:
        chunk = _decode(data)
        head = head or chunk
        for choice in chunk.get("choices") or ():
            if choice.get("finish_reason"):
                return None
            delta = choice.get("delta") or {}
            for name, value in delta.items():
                if name == "content":
                    if value:
                        text.append(value)
                elif name != "role" and value:
                    return None
    return PartialOutput(
        "".join(text),
        str(head.get("id", "")),
        int(head.get("created") or 0),
        str(head.get("model", "")),
        len(text),
    )


def joined(said: PartialOutput, usage: Usage) -> Usage:
    """The usage of the whole answer as if it had come in one: the beginning was sent again as
    a part of the prompt, which is not the caller's business."""
    prompt = max(0, usage.prompt_tokens - said.tokens)
    return msgspec.structs.replace(
        usage,
        prompt_tokens=prompt,
        cached_tokens=min(usage.cached_tokens, prompt),
        completion_tokens=usage.completion_tokens + said.tokens,
        source="estimated",
    )


class Splice:
    """Makes the chunks of the second stream follow those of the first."""

    __slots__ = ("_echo", "_held", "said")

    def __init__(self, said: PartialOutput) -> None:
        self.said = said
        self._echo = said.text
        self._held = ""

    def chunk(self, data: bytes) -> bytes | None:
        """A chunk as the caller gets it; None when nothing of it is new."""
        chunk = _decode(data)
        said = self.said
        chunk["id"], chunk["created"], chunk["model"] = said.id, said.created, said.model
        usage = chunk.get("usage")
        if usage is not None:
            found = openai_chat.usage_of(openai_chat.read_reply(data).usage)
            if found is not None:
                chunk["usage"] = openai_chat.wire_usage(joined(said, found))
        fresh = bool(usage) and not chunk.get("choices")
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta")
            if delta is None:
                continue
            delta.pop("role", None)
            finish = choice.get("finish_reason")
            text = self._new(delta.pop("content", None) or "", bool(finish))
            if text:
                delta["content"] = text
            fresh = fresh or bool(delta) or bool(finish)
        return _encode(chunk) if fresh else None

    def _new(self, text: str, ends: bool) -> str:
        """Text without the beginning, for vendors that repeat it whole (Mistral)."""
        if not self._echo:
            return text
        self._held += text
        if not ends and self._echo.startswith(self._held) and self._held != self._echo:
            return ""
        held, echo = self._held, self._echo
        self._held = self._echo = ""
        return held.removeprefix(echo) if held != "" else text


class PartialOutput(NamedTuple):
    """The part of a broken-off answer that the caller has."""

    text: str
    id: str
    created: int
    model: str
    tokens: int
    """As counted by events."""
