"""Stream aggregation: a stream put together as one whole answer, and the other way round."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenschain.core.formats.tool_calls import ToolCalls

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_TEXTS = ("content", "reasoning_content", "refusal")
_LISTS = ("annotations", "reasoning_details")
_STOPS = ("stop_sequence", "stop_reason")
_ELSEWHERE = ("message", "finish_reason", "index", *_STOPS)
_LOGPROBS = ("content", "refusal")


def whole_of(chunks: list[bytes]) -> bytes:
    """Canonical chunks of one answer as a canonical whole reply."""
    head: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    usage: Any = None
    for data in chunks:
        chunk = _decode(data)
        head = head or chunk
        usage = chunk.get("usage") or usage
        for part in chunk.get("choices") or ():
            index = part.get("index") or 0
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = _Choice(index)
            choice.add(part)
    made = {k: v for k, v in head.items() if k not in ("choices", "usage", "object")}
    whole = [choices[at].whole() for at in sorted(choices)]
    text = any("text" in choice for choice in whole)
    made |= {"object": "text_completion" if text else "chat.completion", "choices": whole}
    if usage is not None:
        made["usage"] = usage
    return _encode(made)


class _Choice:
    """One choice, as far as it has come."""

    def __init__(self, index: int) -> None:
        self._made: dict[str, Any] = {"index": index, "finish_reason": None}
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._calls = ToolCalls("")
        self._entries: dict[int, dict[str, Any]] = {}
        self._texts: list[str] | None = None

    def add(self, part: dict[str, Any]) -> None:
        made = self._made
        made["finish_reason"] = part.get("finish_reason") or made["finish_reason"]
        for name in _STOPS:
            if part.get(name) is not None:
                made[name] = part[name]
        if isinstance(part.get("text"), str):
            self._texts = self._texts or []
            self._texts.append(part["text"])
        self._delta(part.get("delta") or {})
        logprobs = part.get("logprobs")
        if isinstance(logprobs, dict):
            for name in _LOGPROBS:
                if logprobs.get(name):
                    known = made.setdefault("logprobs", {})
                    known.setdefault(name, []).extend(logprobs[name])

    def whole(self) -> dict[str, Any]:
        if self._texts is not None:
            return {"text": "".join(self._texts), "logprobs": None, **self._made}
        self._take(self._calls.finish())
        if self._entries:
            calls = [self._entries[at] for at in sorted(self._entries)]
            for call in calls:
                call.pop("index", None)
            self._message["tool_calls"] = calls
        return {"message": self._message, **self._made}

    def _delta(self, delta: dict[str, Any]) -> None:
        message = self._message
        for name in _TEXTS:
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for name in _LISTS:
            if delta.get(name):
                message.setdefault(name, []).extend(delta[name])
        if isinstance(delta.get("audio"), dict):
            message["audio"] = _joined_audio(message.get("audio") or {}, delta["audio"])
        if isinstance(delta.get("function_call"), dict):
            known = message.setdefault("function_call", {"name": "", "arguments": ""})
            for name in known:
                known[name] += delta["function_call"].get(name) or ""
        if delta.get("tool_calls"):
            self._take(self._calls.take(delta["tool_calls"]))

    def _take(self, pieces: list[dict[str, Any]]) -> None:
        for piece in pieces:
            known = self._entries.setdefault(piece["index"], piece)
            if known is piece:
                continue
            for kind, said in (("function", "arguments"), ("custom", "input")):
                if kind in piece:
                    known[kind][said] += piece[kind].get(said) or ""
            known |= {k: v for k, v in piece.items() if k not in ("function", "custom")}


def _joined_audio(known: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Sound comes in pieces of base64 and of its transcript; id and expiry come once."""
    made = {**known, **{k: v for k, v in more.items() if v is not None}}
    for name in ("data", "transcript"):
        if isinstance(known.get(name), str) and isinstance(more.get(name), str):
            made[name] = known[name] + more[name]
    return made


def chunks_of(body: bytes) -> list[bytes]:
    """A canonical whole reply as canonical chunks of a stream, its usage in the last."""
    reply: dict[str, Any] = _decode(body)
    choices: list[dict[str, Any]] = reply["choices"]
    text = any("text" in choice for choice in choices)
    head = {k: v for k, v in reply.items() if k not in ("choices", "usage", "object")}
    head["object"] = "text_completion" if text else "chat.completion.chunk"
    made = []
    for at, choice in enumerate(choices):
        rest = {k: v for k, v in choice.items() if k not in _ELSEWHERE}
        part: dict[str, Any] = {"index": choice.get("index") or at, **rest, "finish_reason": None}
        if not text:
            part["delta"] = _delta_of(choice.get("message") or {})
        made.append(_encode({**head, "choices": [part]}))
        finish = choice.get("finish_reason") or "stop"
        last: dict[str, Any] = {"index": part["index"], "finish_reason": finish}
        last |= {name: choice[name] for name in _STOPS if choice.get(name) is not None}
        last["text" if text else "delta"] = "" if text else {}
        made.append(_encode({**head, "choices": [last]}))
    if reply.get("usage") is not None:
        made.append(_encode({**head, "choices": [], "usage": reply["usage"]}))
    return made


def _delta_of(message: dict[str, Any]) -> dict[str, Any]:
    delta = {k: v for k, v in message.items() if v is not None}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
    return {"role": "assistant", **delta}
