"""Upstream answers made by hand, put in the place of what a simulator would say."""

from __future__ import annotations

import json
from typing import Any

from tests.translation.answers import Heard, hear
from tests.translation.lab import Lab, Result
from tests.vendors.strict.vendor import Answer

Json = dict[str, Any]
APIS = ("chat/completions", "messages", "responses")
USAGE: Json = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
HEAD: Json = {"id": "c-1", "created": 1_760_000_000, "model": "up-model"}
DONE = b"data: [DONE]\n\n"
WEATHER: Json = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def message(content: Any = "fine", finish: Any = "stop", **more: Any) -> Json:
    """A whole chat answer."""
    said = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def chunk(finish: str | None = None, **delta: Any) -> Json:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def last_usage(usage: Any = USAGE, **more: Any) -> Json:
    return {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": usage, **more}


def call(
    name: str | None = "get_weather", arguments: Any = '{"city":"Paris"}', **more: Any
) -> Json:
    return {**more, "function": {"name": name, "arguments": arguments}}


def frames(*parts: Json | bytes, done: bool = True) -> tuple[bytes, ...]:
    """Events of a stream, each in a piece of its own; bytes as they are."""
    made = [
        part if isinstance(part, bytes) else b"data: %b\n\n" % json.dumps(part).encode()
        for part in parts
    ]
    return (*made, DONE) if done else tuple(made)


def answers(
    lab: Lab, *pieces: bytes | Json, kind: str = "", status: int = 200, **headers: str
) -> None:
    """Every vendor answers this from now on."""
    raw = tuple(p if isinstance(p, bytes) else json.dumps(p).encode() for p in pieces)
    streamed = any(piece.startswith((b"data:", b"event:", b":")) for piece in raw)
    kind = kind or ("text/event-stream" if streamed else "application/json")
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    lab.alter = lambda _: Answer(status, (("content-type", kind), *more), raw)


def ask(lab: Lab, api: str, model: str = "openai", *, stream: bool = False, **more: Any) -> Result:
    """One question to a model, with a tool if `tools` is asked for."""
    body: Json = {"model": model, "stream": stream}
    if more.pop("tools", False):
        tools = {
            "chat/completions": WEATHER,
            "messages": {"name": "get_weather", "input_schema": {"type": "object"}},
            "responses": {"type": "function", **WEATHER["function"]},
        }
        body["tools"] = [tools[api]]
    if api == "responses":
        body |= {"input": "hi", "store": False}
    else:
        body["messages"] = [{"role": "user", "content": "hi"}]
    if api == "messages":
        body["max_tokens"] = 100
    return lab.ask(f"/v1/{api}", body | more)


def heard(got: Result, api: str, *, stream: bool = False) -> Heard:
    """What the caller read; nothing of ours failed."""
    assert not got.faults, got.faults
    assert got.status == 200, got.body
    return hear(api, got.body, stream)
