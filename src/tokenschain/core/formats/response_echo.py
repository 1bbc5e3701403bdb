"""What a response repeats of its request: tools, instructions, metadata, limits and the rest.

Source: OpenAI's API reference for /v1/responses, as its Python SDK 3.x types it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tokenschain.core.formats.openai_chat import ParsedRequest

_DEFAULTS: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What OpenAI says where a request says nothing."""
_MERGED = ("reasoning", "text")
_FUNCTION: dict[str, Any] = {"description": None, "parameters": None, "strict": None}


_encode = msgspec.json.Encoder().encode
_SAID = {name: b'"%b":%b' % (name.encode(), _encode(value)) for name, value in _DEFAULTS.items()}
_STORED, _NOT_STORED = b'"store":true', b'"store":false'


def echo_of(asked: ParsedRequest) -> bytes:
    """The fields of a response that say what was asked for, as JSON within its braces."""
    given = {} if asked.native is None else asked.native.fields
    said = _SAID.copy()
    for name, raw in given.items():
        if name not in said:
            continue
        value = bytes(raw)
        if value[:4] == b"null":
            continue
        if name in _MERGED:
            value = _encode(_DEFAULTS[name] | msgspec.json.decode(raw, type=dict[str, Any]))
        elif name == "tools":
            value = _encode([_tool(tool) for tool in msgspec.json.decode(raw, type=list[Any])])
        elif name == "service_tier" and value == b'"auto"':
            continue
        elif b"\n" in value or b"\r" in value:
            # As the caller laid it out: a line of an event may not be broken.
            value = _encode(msgspec.json.decode(raw))
        said[name] = b'"%b":%b' % (name.encode(), value)
    # Last, so that it can be found from the end: see `not_stored`.
    return b"%b,%b" % (b",".join(said.values()), _STORED if asked.kept_input else _NOT_STORED)


def _tool(tool: Any) -> Any:
    """A tool with the fields that the SDK's type of it needs."""
    if isinstance(tool, dict) and tool.get("type") == "function":
        return {**_FUNCTION, **tool}
    return tool


def not_stored(response: bytes) -> bytes:
    """A response, or the event with it, that says that it was not kept after all."""
    before, found, after = response.rpartition(_STORED)
    return before + _NOT_STORED + after if found else response
