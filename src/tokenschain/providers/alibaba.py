"""Alibaba Cloud: DashScope's native generation API.

Body `{model, input, parameters}`; a stream is asked for by a header, its frames carry
increments when asked to, `finish_reason` is the string "null" while it runs, and there is no
end marker. Source: DashScope SDK 2.0.2 and Alibaba's API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.canonical import Conversation
from tokenschain.providers.vendor_profile import VendorProtocol

_encode = msgspec.json.Encoder().encode
PARAMETERS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice",
        "parallel_tool_calls", "max_tokens", "max_completion_tokens", "temperature", "top_p",
        "top_k", "seed", "stop", "presence_penalty", "repetition_penalty", "n", "logprobs",
        "top_logprobs", "response_format", "enable_search", "search_options", "enable_thinking",
        "thinking_budget",
    }
)  # fmt: skip
"""Canonical parameters that the native protocol has a place for."""
_SAME = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "repetition_penalty", "n",
         "logprobs", "top_logprobs", "enable_search", "enable_thinking", "thinking_budget",
         "parallel_tool_calls")  # fmt: skip


def request_of(asked: Conversation, model: str, output_tokens_max: int | None) -> bytes:
    """A canonical request as DashScope wants it."""
    choice = asked.tool_choice
    parameters: dict[str, Any] = {
        "result_format": "message",
        "incremental_output": True if asked.stream else None,
        "max_tokens": asked.output_tokens_max,
        "stop": asked.stops or None,
        "tools": [_tool(tool) for tool in asked.tools or ()] or None,
        "tool_choice": {"type": "function", **msgspec.to_builtins(choice)}
        if isinstance(choice, canon.NamedChoice)
        else choice,
    }
    parameters |= {name: getattr(asked, name) for name in _SAME}
    for name, raw in (
        ("response_format", asked.response_format),
        ("search_options", asked.search_options),
    ):
        if bytes(raw):
            parameters[name] = raw
    return _encode(
        {
            "model": model,
            "input": {"messages": [_message(message) for message in asked.messages]},
            "parameters": {k: v for k, v in parameters.items() if v is not None},
        }
    )


def _tool(tool: canon.Tool) -> dict[str, Any]:
    return {"type": "function", "function": tool.function}


def _message(message: canon.Message) -> dict[str, Any]:
    made: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text,
    }
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:
        made["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        made["tool_calls"] = [
            {"id": call.id, "type": "function", "function": call.function}
            for call in message.tool_calls
        ]
    return made


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Choice(Struct):
    message: dict[str, Any] = {}
    finish_reason: str | None = None


class _Output(Struct):
    choices: list[_Choice] = []


class _Reply(Struct):
    output: _Output | None = None
    usage: _Usage | None = None
    request_id: str = ""
    code: str | None = None


_decode = lenient_json.reader(_Reply)


def _usage_of(usage: _Usage | None) -> dict[str, Any] | None:
    """None where what matters was not counted."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    inside, outside = usage.prompt_tokens_details, usage.output_tokens_details
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": (inside and inside.cached_tokens) or 0},
        "completion_tokens_details": {
            "reasoning_tokens": (outside and outside.reasoning_tokens) or 0
        },
    }


def reply_from(body: bytes, metadata: canon.ReplyMetadata) -> bytes:
    """A native reply as a canonical one; an error stays one.

    Raises:
        ValueError: it is neither.
    """
    reply = _decode(body)
    if reply.output is None or not reply.output.choices:
        return body
    choice = reply.output.choices[0]
    choice.message.setdefault("content", None)
    head = metadata.head(reply.request_id)
    return canon.whole(head, choice.message, choice.finish_reason, _usage_of(reply.usage))


class DashScopeStream:
    """Native frames to canonical chunks."""

    def __init__(self, metadata: canon.ReplyMetadata) -> None:
        self._metadata = metadata

    def event(self, data: bytes) -> list[bytes]:
        """The canonical chunks of one frame; `[DONE]` after the last.

        Raises:
            ValueError: the data is not DashScope's.
        """
        frame = _decode(data)
        if frame.output is None or not frame.output.choices:
            return [data] if frame.code else []
        choice = frame.output.choices[0]
        finish = choice.finish_reason if choice.finish_reason != "null" else None
        head = self._metadata.head(frame.request_id)
        chunks = [canon.chunk(head, choice.message, finish)]
        if finish is not None:
            usage = _usage_of(frame.usage)
            chunks += [] if usage is None else [canon.usage_chunk(head, usage)]
            chunks.append(b"[DONE]")
        return chunks


PROTOCOL = VendorProtocol(
    path="services/aigc/text-generation/generation",
    request=request_of,
    whole=reply_from,
    stream=DashScopeStream,
    stream_headers=(("x-dashscope-sse", "enable"), ("accept", "text/event-stream")),
)
