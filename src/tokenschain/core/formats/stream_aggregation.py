"""Stream aggregation: a stream put together as one whole answer."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_TEXTS = ("content", "reasoning_content", "refusal")
_LISTS = ("annotations", "reasoning_details")


def whole_of(chunks: list[bytes]) -> bytes:
    """Canonical chunks of one answer as a canonical whole reply."""
    head: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    for data in chunks:
        chunk = _decode(data)
        head = head or chunk
        usage = chunk.get("usage") or usage
        for part in chunk.get("choices", ()):
            index = part.get("index", 0)
            choice = choices.setdefault(
                index,
                {
                    "index": index,
                    "message": {"role": "assistant", "content": None},
                    "finish_reason": None,
                },
            )
            _add(choice["message"], part.get("delta") or {})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            logprobs = part.get("logprobs")
            if logprobs and logprobs.get("content"):
                known = choice.setdefault("logprobs", {"content": []})
                known["content"] += logprobs["content"]
    for choice in choices.values():
        calls = choice["message"].get("tool_calls")
        if calls is not None:
            choice["message"]["tool_calls"] = [calls[at] for at in sorted(calls)]
    made = {k: v for k, v in head.items() if k not in ("choices", "usage", "object")}
    made |= {"object": "chat.completion", "choices": [choices[at] for at in sorted(choices)]}
    if usage is not None:
        made["usage"] = usage
    return _encode(made)


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name in _TEXTS:
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    for name in _LISTS:
        if delta.get(name):
            message.setdefault(name, []).extend(delta[name])
    for call in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", {})
        known = calls.setdefault(
            call.get("index", 0),
            {"id": None, "type": "function", "function": {"name": None, "arguments": ""}},
        )
        function = call.get("function") or {}
        known["id"] = call.get("id") or known["id"]
        known["function"]["name"] = function.get("name") or known["function"]["name"]
        known["function"]["arguments"] += function.get("arguments") or ""
