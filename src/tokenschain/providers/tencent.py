"""Tencent Cloud: Hunyuan's native ChatCompletions, signed with TC3 (API version 2023-09-01).

Names are in Pascal case, tool parameters are JSON inside a string, every frame of a stream
carries the usage so far, and `FinishReason` ends it without an end marker. Errors come with
HTTP 200. Tencent announced the end of this API's console for 2026-09-30; TokenHub, which speaks
OpenAI's protocol, is its successor. Source: tencentcloud-sdk-python-hunyuan 3.1.180.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats import lenient_json
from tokenschain.core.formats.canonical import Conversation
from tokenschain.providers.auth import key_pair
from tokenschain.providers.signing import Signable, tencent_tc3
from tokenschain.providers.vendor_profile import HeaderLines, VendorProtocol

_encode = msgspec.json.Encoder().encode
_SERVICE = "hunyuan"
PARAMETERS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "enable_thinking",
        "response_format",
    }
)
"""Canonical parameters that the native protocol has a place for; it has no output limit."""


def request_of(asked: Conversation, model: str, output_tokens_max: int | None) -> bytes:
    """A canonical request in Pascal case."""
    fields: dict[str, Any] = {
        "Model": model,
        "Messages": _messages(asked.messages),
        "Stream": bool(asked.stream),
        "Temperature": asked.temperature,
        "TopP": asked.top_p,
        "Seed": asked.seed,
        "Stop": asked.stops or None,
        "EnableThinking": asked.enable_thinking,
    }
    if asked.tools:
        fields["Tools"] = [
            {
                "Type": "function",
                "Function": {
                    "Name": tool.function.name,
                    "Description": tool.function.description or "",
                    "Parameters": bytes(tool.function.parameters).decode(),
                },
            }
            for tool in asked.tools
        ]
        if isinstance(asked.tool_choice, canon.NamedChoice):
            name = asked.tool_choice.function.name
            chosen = [t for t in fields["Tools"] if t["Function"]["Name"] == name]
            fields |= {"ToolChoice": "custom", "CustomTool": chosen[0] if chosen else None}
        elif asked.tool_choice is not None:
            fields["ToolChoice"] = asked.tool_choice
    return _encode({k: v for k, v in fields.items() if v is not None})


def _messages(messages: list[canon.Message]) -> list[dict[str, Any]]:
    """One system message and that first; users and assistants in turns."""
    made: list[dict[str, Any]] = []
    told: list[str] = []
    for message in messages:
        if message.role in ("system", "developer"):
            told.append(message.text)
            continue
        turn = _message(message)
        before = made[-1] if made else {}
        if turn["Role"] != "tool" and before.get("Role") == turn["Role"]:
            texts = (before["Content"], turn["Content"])
            before["Content"] = "\n\n".join(text for text in texts if text)
            before.setdefault("ToolCalls", []).extend(turn.get("ToolCalls", ()))
            if not before["ToolCalls"]:
                del before["ToolCalls"]
        else:
            made.append(turn)
    if told:
        made.insert(0, {"Role": "system", "Content": "\n\n".join(told)})
    return made


def _message(message: canon.Message) -> dict[str, Any]:
    made: dict[str, Any] = {"Role": message.role, "Content": message.text}
    if message.tool_call_id is not None:
        made["ToolCallId"] = message.tool_call_id
    if message.tool_calls:
        made["ToolCalls"] = [
            {
                "Id": call.id,
                "Type": "function",
                "Function": {"Name": call.function.name, "Arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    return made


class _Function(Struct, rename="pascal", frozen=True):
    name: str | None = None
    arguments: Any = None
    """A text; an object is taken for one."""


class _Call(Struct, rename="pascal"):
    id: str | None = None
    index: int | None = None
    function: _Function = _Function()


class _Message(Struct, rename="pascal"):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct, rename="pascal"):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _CachedTokens(Struct, rename="pascal"):
    cached_tokens: int = 0


class _Usage(Struct, rename="pascal"):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


class _ErrorMessage(Struct, rename="pascal"):
    code: int | str = 0
    msg: str = ""


class _Body(Struct, rename="pascal"):
    id: str = ""
    created: int = 0
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error_msg: _ErrorMessage | None = None
    error: _CloudError | None = None


class _CloudError(Struct, rename="pascal"):
    """An error of the cloud's API, which comes with HTTP 200."""

    code: str = ""
    message: str = ""


class _Envelope(Struct, rename="pascal"):
    response: _Body | None = None


_decode_frame = lenient_json.reader(_Body)
_decode_envelope = lenient_json.reader(_Envelope)


def _plain(message: _Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "content": message.content}
    if message.reasoning_content:
        made["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "index": at if call.index is None else call.index,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for at, call in enumerate(message.tool_calls)
        ]
    return made


def _usage_of(usage: _Usage | None) -> dict[str, Any] | None:
    """None where what matters was not counted."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    details = usage.prompt_tokens_details
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": details.cached_tokens if details else 0},
    }


def _finish_of(reason: str | None) -> str | None:
    return {"": None, "sensitive": "content_filter"}.get(reason or "", reason)


def reply_from(body: bytes, metadata: canon.ReplyMetadata) -> bytes:
    """A native reply as a canonical one; an error stays one.

    Raises:
        ValueError: it is neither.
    """
    reply = _decode_envelope(body).response
    if reply is not None and reply.error is not None:
        return _encode({"error": {"message": reply.error.message, "code": reply.error.code}})
    if reply is None or not reply.choices:
        return body
    choice = reply.choices[0]
    if choice.message is None:
        raise ValueError("no message")
    head = metadata.head(reply.id, created_s=reply.created)
    message = _plain(choice.message)
    return canon.whole(head, message, _finish_of(choice.finish_reason), _usage_of(reply.usage))


class HunyuanStream:
    """Native frames to canonical chunks."""

    def __init__(self, metadata: canon.ReplyMetadata) -> None:
        self._metadata = metadata

    def event(self, data: bytes) -> list[bytes]:
        """The canonical chunks of one frame; `[DONE]` after the last.

        Raises:
            ValueError: the data is not Hunyuan's.
        """
        frame = _decode_frame(data)
        if frame.error_msg is not None and frame.error_msg.msg:
            error = {"message": frame.error_msg.msg, "code": str(frame.error_msg.code)}
            return [_encode({"error": error})]
        if not frame.choices:
            return []
        choice = frame.choices[0]
        head = self._metadata.head(frame.id, created_s=frame.created)
        finish = _finish_of(choice.finish_reason)
        chunks = [canon.chunk(head, _plain(choice.delta or _Message()), finish)]
        if finish is not None:
            usage = _usage_of(frame.usage)
            chunks += [] if usage is None else [canon.usage_chunk(head, usage)]
            chunks.append(b"[DONE]")
        return chunks


def sign(request: Signable, value: str, now_s: float) -> HeaderLines:
    """The headers of Tencent Cloud API 3.0."""
    return (
        ("x-tc-action", "ChatCompletions"),
        ("x-tc-version", "2023-09-01"),
        ("x-tc-timestamp", str(int(now_s))),
        ("authorization", tencent_tc3(request, key_pair(value), _SERVICE, int(now_s))),
    )


PROTOCOL = VendorProtocol(
    path="", request=request_of, whole=reply_from, stream=HunyuanStream, sign=sign
)
