"""A cached response replayed to another caller: whole, or as a stream."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.formats.openai_chat import Api

PIECE_CHARS = 12
"""Characters of one event; about what an engine sends in a few tokens."""
_decode_raw = msgspec.json.Decoder(dict[str, Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_JOINS = ("\u200d", "\ufe0f")


class ReplayTarget(NamedTuple):
    """The call that gets a cached response: what its copy must show of it."""

    call_id: str
    created_s: int
    """Unix seconds."""
    api: Api
    wants_usage: bool
    """Whether a stream's last chunk carries the usage."""

    @property
    def id(self) -> str:
        """The reply's own id."""
        return f"chatcmpl-{self.call_id}" if self.api is Api.CHAT else f"cmpl-{self.call_id}"


class ReplyTemplate:
    """A whole reply with places for another call's id and time: made once, filled for each call.

    Embeddings and ranks have neither.
    """

    __slots__ = ("_after", "_body")

    def __init__(self, body: bytes) -> None:
        self._body = body
        fields = _decode_raw(body)
        for name in ("id", "created"):
            fields.pop(name, None)
        rest = _encode(fields)
        self._after = b"," + rest[1:] if fields else b"}"

    def fill(self, call_id: str, created_s: int, api: Api) -> bytes:
        """The reply to another call; its time in Unix seconds."""
        if api is Api.CHAT:
            return b'{"id":"chatcmpl-%b","created":%d%b' % (
                call_id.encode(), created_s, self._after,
            )  # fmt: skip
        if api is Api.COMPLETIONS:
            return b'{"id":"cmpl-%b","created":%d%b' % (call_id.encode(), created_s, self._after)
        return self._body


def as_new(body: bytes, target: ReplayTarget) -> bytes:
    """A reply under another call's id and time."""
    return ReplyTemplate(body).fill(target.call_id, target.created_s, target.api)


def chunks(body: bytes, target: ReplayTarget) -> Iterator[tuple[int, bytes]]:
    """A reply as canonical chunks, each with how many characters it shows."""
    reply: dict[str, Any] = _decode(body)
    text = target.api is Api.COMPLETIONS
    head = {
        "id": target.id,
        "object": "text_completion" if text else "chat.completion.chunk",
        "created": target.created_s,
        "model": reply.get("model", ""),
    }

    def chunk(part: dict[str, Any], finish: str | None = None) -> bytes:
        body = part if text else {"delta": part}
        choice = {"index": 0, **body, "finish_reason": finish}
        return _encode({**head, "choices": [choice]})

    choice = reply["choices"][0]
    if text:
        for piece in pieces(choice.get("text") or ""):
            yield len(piece), chunk({"text": piece})
        yield 0, chunk({"text": ""}, choice.get("finish_reason"))
    else:
        message = choice["message"]
        yield 0, chunk({"role": "assistant", "content": ""})
        for name in ("reasoning_content", "content", "refusal"):
            for piece in pieces(message.get(name) or ""):
                yield len(piece), chunk({name: piece})
        for at, made in enumerate(message.get("tool_calls") or ()):
            yield 0, chunk({"tool_calls": [{"index": at, **made}]})
        for name in ("reasoning_details", "annotations", "function_call", "audio"):
            if message.get(name):
                yield 0, chunk({name: message[name]})
        yield 0, chunk({}, choice.get("finish_reason"))
    if reply.get("usage") and target.wants_usage:
        yield 0, _encode({**head, "choices": [], "usage": reply["usage"]})


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of `PIECE_CHARS`, of any script; nothing that is drawn as one is cut."""
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE_CHARS)
        while end < len(text) and (
            text[end] in _JOINS or text[end - 1] == _JOINS[0] or unicodedata.combining(text[end])
        ):
            end += 1
        yield text[start:end]
        start = end
