"""Forced tool calls by grammar: a schema of the call in place of `tool_choice`.

For engines whose grammar follows a JSON schema but no `tool_choice`: they are made to write the
call itself as JSON, which is then told as a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tokenschain.core.formats.lenient_json import patiently

_ANY_ARGUMENTS = {"type": "object"}


def schema_of(tools: list[dict[str, Any]], name: str = "") -> dict[str, Any] | None:
    """A `response_format` that only calls of tools fit.

    Args:
        name: of the one tool that is to be called; empty for any.

    Returns:
        None where there is no such function.
    """
    calls = [
        _call(tool["function"])
        for tool in tools
        if isinstance(tool.get("function"), dict) and name in ("", tool["function"].get("name"))
    ]
    if not calls:
        return None
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.get("name")},
            "arguments": function.get("parameters") or _ANY_ARGUMENTS,
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def call_in(text: str) -> dict[str, Any] | None:
    """The call that was written, as in `tool_calls`; None where it is none or not complete."""
    try:
        said = patiently(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        return None
    arguments = msgspec.json.encode(said.get("arguments") or {}).decode()
    function = {"name": said["name"], "arguments": arguments}
    return {"index": 0, "type": "function", "function": function}


class WrittenCalls:
    """Texts that are calls, gathered by choice until they are complete."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def take(self, part: dict[str, Any], index: int, *, ended: bool) -> None:
        """Take the text out of a message or delta; at its end, put in the call that it is."""
        text = self._texts.pop(index, "") + (part.pop("content", None) or "")
        if not ended:
            self._texts[index] = text
            return
        call = call_in(text) if text else None
        if call is not None:
            part["tool_calls"] = [call]
        elif text:
            part["content"] = text
