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


def echo_of(asked: ParsedRequest) -> dict[str, Any]:
    """The fields of a response that say what was asked for."""
    given = {} if asked.native is None else asked.native.fields
    said = dict(_DEFAULTS)
    for name, raw in given.items():
        if name not in _DEFAULTS or bytes(memoryview(raw)[:4]) == b"null":
            continue
        if name in _MERGED:
            said[name] = _DEFAULTS[name] | msgspec.json.decode(raw, type=dict[str, Any])
        elif name == "tools":
            said[name] = [_tool(tool) for tool in msgspec.json.decode(raw, type=list[Any])]
        elif name != "service_tier" or bytes(raw) != b'"auto"':
            said[name] = raw
    said["store"] = bool(asked.kept_input)
    return said


def _tool(tool: Any) -> Any:
    """A tool with the fields that the SDK's type of it needs."""
    if isinstance(tool, dict) and tool.get("type") == "function":
        return {**_FUNCTION, **tool}
    return tool


def not_stored(response: bytes) -> bytes:
    """A response, or the event with it, that says that it was not kept after all."""
    before, found, after = response.rpartition(b'"store":true')
    return before + b'"store":false' + after if found else response
