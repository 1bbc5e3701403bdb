"""Tool bridge: tools in the form one vendor takes: freeform tools as functions, known fields.

The sibling of `core.formats.message_bridge` for what stands in `tools`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.message_rules import MessageRules, ToolNames
from tokenschain.core.formats.translation_changes import Changes

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_decode_tools = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_NOTHING = (b"", b"null", b'""', b"[]")
FREEFORM_SCHEMA = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}'
)
"""What a freeform tool takes where a vendor knows functions only."""
ANY_OBJECT = Raw(b'{"type":"object","properties":{}}')


class ToolNameMap:
    """Names of tools as a vendor takes them, the same in tools, choice and history."""

    def __init__(self, rule: ToolNames | None) -> None:
        self._rule = rule
        self._of: dict[str, str] = {}
        self.callers: dict[str, str] = {}
        """The caller's names of those that were made here."""

    def of(self, given: str) -> str:
        """The vendor's name of a tool: its own where that is taken, else one that resembles it."""
        rule = self._rule
        if rule is None or re.fullmatch(rule.pattern, given):
            return given
        made = self._of.get(given)
        if made is None:
            plain = re.sub(r"[^a-zA-Z0-9_-]", "_", given)
            end = digest(given, _NAME_END_CHARS)
            made = f"t_{plain}"[: rule.length - _NAME_END_CHARS - 1] + f"_{end}"
            self._of[given] = made
            self.callers[made] = given
        return made


_NAME_END_CHARS = 8


class BridgedTools(NamedTuple):
    tools: list[dict[str, Raw]]
    freeform: frozenset[str] = frozenset()
    """Names of freeform tools that were made functions: their calls are to be turned back."""


def tools_apply(rules: MessageRules, tools: bytes) -> bool:
    """Whether any rule may apply to the tools: a search for bytes."""
    if rules.always or rules.known is not None or tools in _NOTHING:
        return True
    if not rules.custom_tools and b'"custom"' in tools:
        return True
    if rules.tool_names is not None and re.search(rules.tool_names.bad, tools):
        return True
    return any(b'"%b"' % mark.encode() in tools for mark in rules.unknown_marks)


def bridge_tools(
    raw: bytes, rules: MessageRules, changes: Changes, names: ToolNameMap
) -> BridgedTools:
    """Tools as a vendor takes them.

    Raises:
        ApiError: `unsupported_parameter` or `invalid_value`, naming the tool.
    """
    if raw in _NOTHING:
        return BridgedTools([])
    known, freeform, made = rules.known, set(), []
    try:
        for at, tool in enumerate(_decode_tools(raw)):
            for mark in rules.unknown_marks:
                if bytes(tool.pop(mark, b"null")) != b"null":
                    changes.drop(mark, "it knows no such marker")
            kind = _decode(tool.get("type", Raw(b"null"))) or "function"
            if kind == "custom" and not rules.custom_tools:
                custom = _decode(tool.get("custom", Raw(b"{}")), type=dict[str, Any])
                made.append(_renamed(freeform_function(custom), names))
                freeform.add(str(custom.get("name")))
                changes.emulate(f"tools[{at}]", "it knows functions only")
                continue
            if known is not None:
                _keep(tool, known.tools, f"tools[{at}]", changes)
                if "function" in tool:
                    function = _decode(tool["function"], type=dict[str, Raw])
                    _keep(function, known.functions, f"tools[{at}].function", changes)
                    tool["function"] = Raw(_encode(function))
            made.append(_renamed(tool, names))
    except msgspec.ValidationError as error:
        raise ApiError(
            "invalid_value", f"Invalid value for `tools`: {error}.", param="tools"
        ) from None
    return BridgedTools(made, frozenset(freeform))


def _renamed(tool: dict[str, Raw], names: ToolNameMap) -> dict[str, Raw]:
    if "function" in tool:
        function = _decode(tool["function"], type=dict[str, Raw])
        given = _decode(function.get("name", Raw(b'""')))
        if isinstance(given, str) and names.of(given) != given:
            function["name"] = Raw(_encode(names.of(given)))
            tool["function"] = Raw(_encode(function))
    return tool


def digest(text: str, length: int) -> str:
    """Letters and digits that follow from a text (FNV-1a, 64 bits a round): no secret is made."""
    made, number = "", _FNV_START
    while len(made) < length:
        for byte in text.encode():
            number = (number ^ byte) * _FNV_PRIME % 2**64
        rest = number
        for _ in range(min(9, length - len(made))):
            rest, digit = divmod(rest, 62)
            made += _BASE62[digit]
    return made


_FNV_START, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _keep(holder: dict[str, Raw], known: frozenset[str], where: str, changes: Changes) -> None:
    for name in holder.keys() - known:
        if bytes(holder.pop(name)) not in (*_NOTHING, b"false"):
            changes.drop(f"{where}.{name}", "it knows no such field of a tool")


def freeform_function(custom: Mapping[str, Any]) -> dict[str, Raw]:
    """A freeform tool as a function of one text; its grammar is told in words."""
    told = str(custom.get("description") or "")
    format = custom.get("format")
    if isinstance(format, dict) and format.get("type") == "grammar":
        inner = format.get("grammar")
        grammar = inner if isinstance(inner, dict) else format
        told += (
            f"\n\n`input` must follow this grammar ({grammar.get('syntax')}):\n"
            f"{grammar.get('definition')}"
        )
    function = {
        "name": custom.get("name"),
        "description": told.strip(),
        "parameters": FREEFORM_SCHEMA,
    }
    return {"type": Raw(b'"function"'), "function": Raw(_encode(function))}


def declared(names: tuple[str, ...]) -> Raw:
    """Tools that only the history knows, declared so that it may be sent."""
    return Raw(
        _encode(
            [
                {"type": "function", "function": {"name": name, "parameters": ANY_OBJECT}}
                for name in names
                if name
            ]
        )
    )
