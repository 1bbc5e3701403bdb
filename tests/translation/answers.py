"""What a caller reads out of an answer, whole or streamed, at each API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Heard(NamedTuple):
    """An answer as its caller has it."""

    text: str
    calls: list[tuple[str, str, Any]]
    """Id, name, arguments."""
    finish: str
    """In the API's own words; empty where the answer broke off."""
    reasoning: str = ""
    error: dict[str, Any] | None = None
    refusal: str = ""


class Unreadable(AssertionError):
    """An answer that an SDK could not read."""


class Endless(Unreadable):
    """A stream that neither ends nor fails."""


def events_in(body: bytes) -> Iterator[tuple[str, Any]]:
    """Events of a stream: name and data; `[DONE]` as a string."""
    for block in body.decode().split("\n\n"):
        kind, data = "", []
        for line in block.split("\n"):
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
            elif line and not line.startswith(":"):
                raise Unreadable(f"not an SSE line: {line!r}")
        if data:
            text = "\n".join(data)
            yield kind, "[DONE]" if text == "[DONE]" else json.loads(text)


def hear(api: str, body: bytes, streamed: bool) -> Heard:
    """Read an answer of HTTP 200.

    Raises:
        Unreadable: an SDK could not.
    """
    try:
        if streamed:
            return _STREAMS[api](list(events_in(body)))
        return _WHOLES[api](json.loads(body))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Unreadable(f"{error!r} in {body[:300]!r}") from error


def _arguments(text: str) -> Any:
    """What a model wrote need not be JSON; then it is kept as it came."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _chat_whole(body: Any) -> Heard:
    choice = body["choices"][0]
    message = choice["message"]
    calls = [
        (call["id"], call["function"]["name"], _arguments(call["function"]["arguments"]))
        for call in message.get("tool_calls") or ()
    ]
    text = message["content"]
    if text is not None and not isinstance(text, str):
        raise Unreadable(f"content is {text!r}")
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    refusal = message.get("refusal") or ""
    return Heard(text or "", calls, choice["finish_reason"], reasoning, None, refusal)


def _chat_stream(events: list[tuple[str, Any]]) -> Heard:
    text, reasoning, finish, refusal, error = "", "", "", "", None
    calls: dict[int, list[Any]] = {}
    for _, data in events:
        if data == "[DONE]":
            continue
        if "error" in data:
            error = data["error"]
            continue
        for choice in data["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            refusal += delta.get("refusal") or ""
            for call in delta.get("tool_calls") or ():
                known = calls.setdefault(call["index"], [None, "", ""])
                known[0] = known[0] or call.get("id")
                function = call.get("function") or {}
                known[1] += function.get("name") or ""
                known[2] += function.get("arguments") or ""
            finish = choice.get("finish_reason") or finish
    done = any(data == "[DONE]" for _, data in events)
    if not done and error is None:
        raise Endless("the stream ends without [DONE] or an error")
    if error is not None:
        return Heard(text, [], "", reasoning, error)
    made = [(id, name, _arguments(said)) for _, (id, name, said) in sorted(calls.items())]
    return Heard(text, made, finish, reasoning, None, refusal)


def _messages_whole(body: Any) -> Heard:
    text, reasoning = "", ""
    calls = []
    for block in body["content"]:
        match block["type"]:
            case "text":
                text += block["text"]
            case "thinking":
                reasoning += block["thinking"]
            case "tool_use":
                calls.append((block["id"], block["name"], block["input"]))
    if body["usage"]["output_tokens"] < 0:
        raise Unreadable("usage below zero")
    return Heard(text, calls, body["stop_reason"], reasoning)


def _messages_stream(events: list[tuple[str, Any]]) -> Heard:
    blocks: dict[int, dict[str, Any]] = {}
    finish, ended, begun = "", False, False
    open_block: int | None = None
    for kind, data in events:
        if kind != data["type"]:
            raise Unreadable(f"event {kind} holds {data['type']}")
        match kind:
            case "message_start":
                if begun or data["message"]["content"]:
                    raise Unreadable("message_start twice or not empty")
                begun = True
            case "content_block_start":
                if open_block is not None or data["index"] in blocks or not begun:
                    raise Unreadable("a block begins out of order")
                open_block = data["index"]
                blocks[open_block] = data["content_block"] | {"_json": ""}
            case "content_block_delta":
                _add(blocks[data["index"]], data["delta"])
                if data["index"] != open_block:
                    raise Unreadable("a delta of a block that is not open")
            case "content_block_stop":
                open_block = None
            case "message_delta":
                finish = data["delta"]["stop_reason"]
            case "message_stop":
                ended = True
            case "error":
                return Heard(_text_in(blocks), [], "", "", data["error"])
    if not ended or open_block is not None:
        raise Endless("the stream ends without message_stop or an error")
    calls = [
        (block["id"], block["name"], _arguments(block["_json"] or "{}"))
        for block in blocks.values() if block["type"] == "tool_use"
    ]  # fmt: skip
    reasoning = "".join(b.get("thinking", "") for b in blocks.values())
    return Heard(_text_in(blocks), calls, finish, reasoning)


def _text_in(blocks: dict[int, dict[str, Any]]) -> str:
    return "".join(b["text"] for b in blocks.values() if b["type"] == "text")


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "input_json_delta":
            block["_json"] += delta["partial_json"]


def _responses_whole(body: Any) -> Heard:
    text, reasoning, refusal = "", "", ""
    calls = []
    for item in body["output"]:
        match item["type"]:
            case "message":
                text += "".join(part.get("text") or "" for part in item["content"])
                refusal += "".join(part.get("refusal") or "" for part in item["content"])
            case "reasoning":
                parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
                reasoning += "".join(part["text"] for part in parts)
            case "function_call":
                calls.append((item["call_id"], item["name"], _arguments(item["arguments"])))
            case "custom_tool_call":
                calls.append((item["call_id"], item["name"], item["input"]))
    error = body.get("error")
    finish = body["status"] if error is None else ""
    return Heard(text, calls, finish, reasoning, error, refusal)


def _responses_stream(events: list[tuple[str, Any]]) -> Heard:
    last = None
    pieces = ""
    for number, (kind, data) in enumerate(events):
        if data["type"] != kind or data["sequence_number"] != number:
            raise Unreadable(f"event {number} is {kind}, holds {data['type']}")
        if kind == "response.output_text.delta":
            pieces += data["delta"]
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            last = data["response"]
        if kind == "error":
            return Heard(pieces, [], "", "", data)
    if last is None:
        raise Endless("the stream ends without response.completed, .incomplete or .failed")
    heard = _responses_whole(last)
    if heard.error is None and heard.text != pieces:
        raise Unreadable(f"the pieces {pieces!r} are not the whole {heard.text!r}")
    return heard


_WHOLES = {
    "chat/completions": _chat_whole,
    "messages": _messages_whole,
    "responses": _responses_whole,
}
_STREAMS = {
    "chat/completions": _chat_stream,
    "messages": _messages_stream,
    "responses": _responses_stream,
}
