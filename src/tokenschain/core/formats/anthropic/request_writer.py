"""Anthropic Messages API, outbound: canonical requests to the vendor.

What cannot be sent has been left out before, by the bridges; here only the form changes.
Source: Anthropic's API reference, version 2023-06-01.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.anthropic.inbound import arguments_of, encode, thinking_blocks
from tokenschain.core.formats.canonical import Conversation, Message

OUTPUT_TOKENS_DEFAULT = 4_096
"""Anthropic wants `max_tokens`; this is sent where the caller and the catalog say nothing."""
_SYSTEM = ("system", "developer")
_PDF = "application/pdf"
_decode_schema = msgspec.json.Decoder(dict[str, Raw]).decode


def request_of(asked: Conversation, model: str, output_tokens_max: int | None) -> bytes:
    """A canonical request as a Messages request."""
    user = asked.user or asked.safety_identifier
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": asked.output_tokens_max or output_tokens_max or OUTPUT_TOKENS_DEFAULT,
        "messages": _turns(asked.messages),
    }
    system = [part for m in asked.messages if m.role in _SYSTEM for part in _text_blocks(m)]
    plain = {
        "system": system or None,
        "stop_sequences": asked.stops or None,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "stream": asked.stream,
        "metadata": {"user_id": user} if user else None,
        "service_tier": asked.service_tier,
        "thinking": _thinking(asked.thinking),
        "output_config": asked.output_config,
    }
    fields |= {name: value for name, value in plain.items() if value is not None}
    if asked.tools:
        fields["tools"] = [_tool(tool) for tool in asked.tools]
        choice = _choice_of(asked)
        if choice is not None:
            fields["tool_choice"] = choice
    return encode(fields)


def _thinking(switch: canon.ThinkingSwitch | None) -> dict[str, Any] | None:
    if switch is None or switch.type == "disabled":
        return None
    made: dict[str, Any] = {"type": switch.type}
    if switch.budget_tokens is not None:
        made["budget_tokens"] = switch.budget_tokens
    return made


def _tool(tool: canon.Tool) -> dict[str, Any]:
    function = tool.function
    made: dict[str, Any] = {"name": function.name, "input_schema": _schema(function.parameters)}
    if function.description:
        made["description"] = function.description
    if function.strict:
        made["strict"] = True
    if bytes(tool.cache_control):
        made["cache_control"] = tool.cache_control
    return made


def _schema(parameters: Raw) -> Any:
    """The schema, which must say that it is one of an object."""
    schema = {} if bytes(parameters) == b"null" else _decode_schema(parameters)
    return parameters if "type" in schema else {"type": "object", **schema}


def _choice_of(asked: Conversation) -> dict[str, Any] | None:
    match asked.tool_choice:
        case canon.NamedChoice() as named:
            made: dict[str, Any] = {"type": "tool", "name": named.function.name}
        case "required":
            made = {"type": "any"}
        case "none":
            return {"type": "none"}
        case None if asked.parallel_tool_calls is None:
            return None
        case _:
            made = {"type": "auto"}
    if asked.parallel_tool_calls is False:
        made["disable_parallel_tool_use"] = True
    return made


def _turns(messages: list[Message]) -> list[dict[str, Any]]:
    """User and assistant turns; neighbours of one role are joined, as the API demands."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role in _SYSTEM:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "tool":
            blocks = [_result(message)]
        elif role == "assistant":
            blocks = _assistant_blocks(message)
        else:
            blocks = _text_blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "."}]})
    _trim_end(turns[-1])
    return turns


def _trim_end(turn: dict[str, Any]) -> None:
    """The beginning of an answer must not end with a blank."""
    if turn["role"] == "assistant" and turn["content"][-1].get("type") == "text":
        last = turn["content"][-1]
        last["text"] = last["text"].rstrip()
        if not last["text"]:
            turn["content"].pop()


def _result(message: Message) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": message.tool_call_id,
        "content": _text_blocks(message),
    }
    if bytes(message.cache_control):
        block["cache_control"] = message.cache_control
    return block


def _assistant_blocks(message: Message) -> list[dict[str, Any]]:
    """Only reasoning that Anthropic signed can go back; other vendors' stays behind."""
    signed = [d for d in message.reasoning_details or () if d.signature or d.data]
    blocks = thinking_blocks(Message(reasoning_details=signed)) if signed else []
    blocks += _text_blocks(message)
    for call in message.tool_calls or ():
        arguments = arguments_of(call.function.arguments)
        if not isinstance(arguments, dict):
            arguments = {"value": arguments}
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": call.id,
            "name": call.function.name,
            "input": arguments,
        }
        if bytes(call.cache_control):
            block["cache_control"] = call.cache_control
        blocks.append(block)
    return blocks


def _text_blocks(message: Message) -> list[dict[str, Any]]:
    """Contents as blocks, without blank texts, which are refused."""
    content = message.content
    if not isinstance(content, list):
        return [{"type": "text", "text": content}] if content and content.strip() else []
    blocks: list[dict[str, Any]] = []
    for part in content:
        if part.image_url is not None:
            block: dict[str, Any] = {"type": "image", "source": _source_of(part.image_url.url)}
        elif part.file is not None:
            block = _document(part.file)
        elif part.text and part.text.strip():
            block = {"type": "text", "text": part.text}
        else:
            continue
        if bytes(part.cache_control):
            block["cache_control"] = part.cache_control
        blocks.append(block)
    return blocks


def _document(file: canon.File) -> dict[str, Any]:
    url = file.file_data or file.file_url or ""
    source = _source_of(url, _PDF)
    block: dict[str, Any] = {"type": "document", "source": source}
    if file.filename:
        block["title"] = file.filename
    return block


def _source_of(url: str, media_default: str = "image/png") -> dict[str, str]:
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    media, _, data = url.removeprefix("data:").partition(";base64,")
    if not data:  # bare base64, as some clients send files
        media, data = media_default, url
    return {"type": "base64", "media_type": media, "data": data}
