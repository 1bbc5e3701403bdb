"""Normalization of vendors' replies to OpenAI's shape with `reasoning_content`.

Reasoning comes as `reasoning_content`, as `reasoning`, inside `<think>` tags of the content or
in `reasoning_details`; finish reasons have names of their own. Only vendors that differ are
read this way, all others pass as bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_OPEN, _CLOSE = "<think>", "</think>"
_FINISH = {
    "sensitive": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "null": None,
}
FAILED_FINISHES = frozenset({"network_error", "insufficient_system_resource", "error"})
"""Finish reasons that mean the upstream broke off."""


class Normalization(StrEnum):
    """Where a vendor puts reasoning."""

    CANONICAL = "reasoning_content"
    REASONING = "reasoning"
    TAGS = "think_tags"
    DETAILS = "reasoning_details"


class ReplyNormalizer:
    """Makes one reply canonical, whole or chunk by chunk; keeps state between chunks."""

    __slots__ = ("_normalization", "_splitters")

    def __init__(self, normalization: Normalization) -> None:
        self._normalization = normalization
        self._splitters: dict[int, _TagSplitter] = {}

    def whole(self, body: bytes) -> bytes:
        """A whole reply.

        Raises:
            msgspec.DecodeError: not JSON.
        """
        return self._read(body, whole=True)

    def chunk(self, data: bytes) -> bytes:
        """One chunk of a stream.

        Raises:
            msgspec.DecodeError: not JSON.
        """
        return self._read(data, whole=False)

    def _read(self, data: bytes, *, whole: bool) -> bytes:
        reply: Any = _decode(data)
        if not isinstance(reply, dict):
            return data
        for choice in reply.get("choices") or ():
            part = choice.get("message") or choice.get("delta")
            finish = choice.get("finish_reason")
            usage = choice.pop("usage", None)  # an older Kimi's place for it
            if usage is not None:
                reply.setdefault("usage", usage)
            if isinstance(finish, str):
                choice["finish_reason"] = _FINISH.get(finish, finish)
            if isinstance(part, dict):
                self._reason(part, choice.get("index") or 0, ended=whole or finish is not None)
        return _encode(reply)

    def _reason(self, part: dict[str, Any], index: int, *, ended: bool) -> None:
        if self._normalization is Normalization.TAGS and isinstance(part.get("content"), str):
            splitter = self._splitters.setdefault(index, _TagSplitter())
            reasoning, content = splitter.feed(part["content"], ended=ended)
            part["content"] = content
            if reasoning:
                part["reasoning_content"] = (part.get("reasoning_content") or "") + reasoning
            return
        if self._normalization is Normalization.DETAILS:
            details = part.get("reasoning_details")
            text = "".join(d.get("text") or "" for d in details or () if isinstance(d, dict))
            if text:
                part["reasoning_content"] = text
            return
        other = part.pop("reasoning", None)
        if other is not None:
            part.setdefault("reasoning_content", other)


class _TagSplitter:
    """Content with a leading `<think>` part, cut anywhere, into reasoning and answer."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = "before"
        self._held = ""

    def feed(self, text: str, *, ended: bool) -> tuple[str, str]:
        """Returns what of the text is reasoning and what is answer, as far as is certain."""
        text = self._held + text
        self._held = ""
        reasoning = ""
        if self._state == "before":
            stripped = text.lstrip()
            if stripped.startswith(_OPEN):
                self._state = "inside"
                text = stripped[len(_OPEN) :]
            elif _OPEN.startswith(stripped) and not ended:
                self._held = text
                return "", ""
            else:
                self._state = "after"
        if self._state == "inside":
            at = text.find(_CLOSE)
            if at < 0:
                keep = 0 if ended else _overlap(text, _CLOSE)
                self._held = text[len(text) - keep :]
                return text[: len(text) - keep], ""
            reasoning, text = text[:at], text[at + len(_CLOSE) :]
            self._state = "between"
        if self._state == "between":
            # The newlines that part the two belong to neither.
            text = text.lstrip("\n")
            if text:
                self._state = "after"
        return reasoning, text


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of the text may be the beginning of the tag."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0
