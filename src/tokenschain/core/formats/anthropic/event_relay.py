"""Anthropic's events relayed to callers who speak its protocol: as they came, if they are whole.

An event that no client could read (a type of another kind, an index that is missing, a block that
never began) is mended from what the stream has said so far; everything else passes as its bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.formats import lenient_json

_NO_USAGE = Raw(b'{"output_tokens":0}')


class RelayedEvent(NamedTuple):
    """One event: its name and its data."""

    kind: bytes
    data: bytes


class _Start(Struct, tag="message_start"):
    message: dict[str, Raw]


class _Block(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None

    @property
    def whole(self) -> bool:
        """Whether what its type begins with is there."""
        return self.type not in _FILLED or getattr(self, self.type) is not None


class _BlockStart(Struct, tag="content_block_start"):
    index: int
    content_block: _Block


class _Delta(Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None

    @property
    def whole(self) -> bool:
        """Whether it holds what its type says."""
        name = _TEXT_OF.get(self.type)
        return name is None or getattr(self, name) is not None


class _BlockDelta(Struct, tag="content_block_delta"):
    index: int
    delta: _Delta


class _BlockStop(Struct, tag="content_block_stop"):
    index: int


class _Stop(Struct):
    stop_reason: str | None = None


class _MessageDelta(Struct, tag="message_delta"):
    delta: _Stop
    usage: Raw = _NO_USAGE


class _MessageStop(Struct, tag="message_stop"):
    pass


_decode = msgspec.json.Decoder(
    _Start | _BlockStart | _BlockDelta | _BlockStop | _MessageDelta | _MessageStop
).decode
_TEXT_OF = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json",
            "signature_delta": "signature"}  # fmt: skip
_BLOCK_OF = {
    "text_delta": {"type": "text", "text": ""},
    "citations_delta": {"type": "text", "text": ""},
    "thinking_delta": {"type": "thinking", "thinking": "", "signature": ""},
    "signature_delta": {"type": "thinking", "thinking": "", "signature": ""},
}
"""How a block would have begun that a delta belongs to; of a tool nobody knows the name."""
_FILLED = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
_REASONING = frozenset({"thinking", "redacted_thinking"})
_KINDS = frozenset(
    {
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop", "ping", "error",
    }
)  # fmt: skip


class EventRelay:
    """One stream of events."""

    def __init__(self) -> None:
        self._begun = False
        self._open: int | None = None
        self._seen = 0
        """Blocks that have begun."""
        self._called = False
        """Whether one of them calls a tool."""
        self._thinks = False
        """Whether the last of them is reasoning."""
        self._usage = _NO_USAGE
        self._reasoned = False
        """Whether it said why it stopped."""
        self._ended = False
        self.end_inferred = False
        """Whether the upstream ended without a stop reason, and was given the one that follows
        from its blocks."""
        self.cut_off = False
        """Whether none follows: it ended within a call or its reasoning."""

    def events(self, kind: bytes, data: bytes) -> list[RelayedEvent]:
        """What the caller gets of an event.

        Raises:
            ValueError: it is none of Anthropic's.
        """
        try:
            found = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._mended(kind.decode("latin-1"), data)
        name = str(found.__struct_config__.tag)
        if self._fits(found) and (not kind or kind.decode("latin-1") == name):
            return [RelayedEvent(name.encode(), data)]
        return self._mended(name, data)

    def end(self) -> list[RelayedEvent]:
        """What is missing at the end of an answer; nothing where that is `cut_off`."""
        if self._ended:
            return []
        self._ended = True
        made = self._closed()
        if not self._reasoned and self._seen:
            if (made and self._called) or (self._thinks and not self._called):
                self.cut_off = True
                return []
            self.end_inferred = True
            reason = "tool_use" if self._called else "end_turn"
            delta = {"stop_reason": reason, "stop_sequence": None}
            made.append(_event("message_delta", {"delta": delta, "usage": self._usage}))
        return [*made, _event("message_stop", {})]

    def _fits(self, found: Struct) -> bool:
        """Whether an event may come now; if so, it has."""
        match found:
            case _Start():
                fits, self._begun = not self._begun, True
                self._usage = found.message.get("usage", _NO_USAGE)
                return fits
            case _BlockStart():
                if self._open is not None or found.index != self._seen or not self._begun:
                    return False
                if not found.content_block.whole:
                    return False
                self._begin(found.content_block.type)
                return True
            case _BlockDelta():
                return found.index == self._open and found.delta.whole
            case _BlockStop():
                if self._open is None or found.index != self._open:
                    return False
                self._open = None
                return True
            case _MessageDelta():
                if self._open is not None:
                    return False
                self._reasoned = self._reasoned or bool(found.delta.stop_reason)
                self._usage = found.usage
                return True
            case _MessageStop():
                if self._open is not None or self._ended or not self._reasoned:
                    return False
                self._ended = True
                return True
        return False

    def _begin(self, kind: str) -> None:
        """A block of a type begins."""
        self._open, self._seen = self._seen, self._seen + 1
        self._called = self._called or kind == "tool_use"
        self._thinks = kind in _REASONING

    # --- what does not fit ---------------------------------------------------------------------

    def _mended(self, name: str, data: bytes) -> list[RelayedEvent]:
        fields = lenient_json.patiently(data)
        if not isinstance(fields, dict):
            raise ValueError("not an event")
        kind = fields.get("type")
        if isinstance(kind, str) and kind in _KINDS:
            name = kind
        elif name not in _KINDS:
            # An event of a newer protocol passes; what has no name at all is an error.
            if isinstance(kind, str) and kind:
                return [RelayedEvent(kind.encode(), data)]
            return [_event("error", {"error": fields.get("error") or fields})]
        fields["type"] = name
        match name:
            case "message_start":
                return self._mended_start(fields)
            case "content_block_start":
                return self._mended_block(fields)
            case "content_block_delta":
                return self._mended_delta(fields)
            case "content_block_stop":
                return self._closed()
            case "message_delta":
                delta = fields.get("delta")
                fields["delta"] = delta if isinstance(delta, dict) else {}
                reason = fields["delta"].get("stop_reason")
                fields["delta"]["stop_reason"] = reason if isinstance(reason, str) else None
                self._reasoned = self._reasoned or bool(fields["delta"]["stop_reason"])
                if isinstance(fields.get("usage"), dict):
                    self._usage = fields["usage"]
                return [*self._closed(), _event(name, fields)]
            case "message_stop":
                return self.end()
        return [_event(name, fields)]

    def _mended_start(self, fields: dict[str, Any]) -> list[RelayedEvent]:
        if self._begun:
            return []
        self._begun = True
        message = fields.get("message")
        usage = {"input_tokens": 0, "output_tokens": 0}
        plain = {"type": "message", "role": "assistant", "content": [], "usage": usage}
        fields["message"] = plain | (message if isinstance(message, dict) else {})
        return [_event("message_start", fields)]

    def _mended_block(self, fields: dict[str, Any]) -> list[RelayedEvent]:
        index = fields.get("index")
        if isinstance(index, int) and self._open == index:
            return []  # the same once more
        block = fields.get("content_block")
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return []  # the next delta says what it was
        for field, empty in _FILLED.get(block["type"], {}).items():
            if not isinstance(block.get(field), str):
                block[field] = empty
        return [*self._started(), *self._closed(), self._block(fields, block)]

    def _block(self, fields: dict[str, Any], block: dict[str, Any]) -> RelayedEvent:
        self._begin(block["type"])
        made = {**fields, "index": self._open, "content_block": block}
        return _event("content_block_start", made)

    def _mended_delta(self, fields: dict[str, Any]) -> list[RelayedEvent]:
        delta = fields.get("delta")
        if not isinstance(delta, dict):
            return []
        kind = delta.get("type")
        if not isinstance(kind, str):
            kind = next((k for k, text in _TEXT_OF.items() if isinstance(delta.get(text), str)), "")
            delta["type"] = kind
        text = _TEXT_OF.get(kind)
        if not kind or (text is not None and not isinstance(delta.get(text), str)):
            return []
        made: list[RelayedEvent] = []
        if self._open is None:
            if kind not in _BLOCK_OF:
                raise ValueError("a piece of no block")
            made = [*self._started(), self._block({}, dict(_BLOCK_OF[kind]))]
        return [*made, _event("content_block_delta", {**fields, "index": self._open})]

    def _started(self) -> list[RelayedEvent]:
        return [] if self._begun else self._mended_start({})

    def _closed(self) -> list[RelayedEvent]:
        if self._open is None:
            return []
        index, self._open = self._open, None
        return [_event("content_block_stop", {"index": index})]


def _event(kind: str, fields: dict[str, Any]) -> RelayedEvent:
    return RelayedEvent(kind.encode(), lenient_json.encode({**fields, "type": kind}))
