"""Anthropic Messages API, inbound: requests to canonical form, and what that lacks of them.

An upstream of Anthropic's gets the caller's own bytes (`relay`); what is said here to be lost is
lost on the way to other vendors only. Source: Anthropic's API reference, version 2023-06-01.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import Body, read_body, value_of
from tokenschain.core.formats.openai_chat import Api, NativeRequest, ParsedRequest, parse_as
from tokenschain.core.formats.translation_changes import CallerNames, Loss, PartPlaces

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_Block = dict[str, Raw]
_NAMES = {
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format": "output_config.format",
    "output_config": "output_config.effort",
    "reasoning_details": "thinking",
    "reasoning_content": "thinking",
    "thinking_budget": "thinking.budget_tokens",
    "max_completion_tokens": "max_tokens",
}
_TIERS = {"auto": "auto", "standard_only": "default"}
_SERVER_SIDE = "it runs on Anthropic's servers only"
_OWN_TO_ANTHROPIC = "only Anthropic's own API takes it"


class _Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Choice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Switch(Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Source(Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[_Block] | None = None


def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind).decode


FIELDS: dict[str, Any] = {
    "model": str,
    "messages": list[_Turn],
    "max_tokens": int | None,
    "system": str | list[_Block] | None,
    "tools": list[dict[str, Raw]] | None,
    "tool_choice": _Choice | None,
    "stop_sequences": list[str] | None,
    "temperature": float | None,
    "top_p": float | None,
    "top_k": int | None,
    "stream": bool | None,
    "thinking": _Switch | None,
    "metadata": dict[str, Any] | None,
    "output_config": dict[str, Any] | None,
    "output_format": dict[str, Any] | None,
    "service_tier": str | None,
}
"""The fields that are read, with their types."""
_SAME = frozenset({"model", "max_tokens", "temperature", "top_p", "top_k", "stream"})
"""Fields that are canonical as they are."""
_READ = {name: _decoder(kind) for name, kind in FIELDS.items() if name not in _SAME}


def parse(body: bytes, *, counting: bool = False) -> ParsedRequest:
    """A Messages request as a canonical one.

    Args:
        counting: for `count_tokens`, which needs no `max_tokens`.

    Raises:
        ApiError: with the field to blame.
    """
    read = read_body(body)
    fields = read.fields
    for name in ("model", "messages") if counting else ("model", "messages", "max_tokens"):
        if bytes(fields.get(name, b"null")) == b"null":
            raise ApiError(
                "missing_required_parameter", f"The field `{name}` is required.", param=name
            )
    values = {name: value_of(name, raw, _READ[name]) for name, raw in fields.items()
              if name in _READ}  # fmt: skip
    if not values["messages"]:
        raise ApiError("invalid_value", "`messages` must not be empty.", param="messages")
    return _Reader(read, values).parsed()


class _Reader:
    """One request being read."""

    def __init__(self, read: Body, values: dict[str, Any]) -> None:
        self.read = read
        self.values = values
        self.losses: list[Loss] = []
        self.made: list[dict[str, Any]] = []
        self.places: list[str] = []
        self.part_places = PartPlaces()

    def parsed(self) -> ParsedRequest:
        values = self.values
        fields: dict[str, Any] = {}
        for name, raw in self.read.fields.items():
            if name in _SAME:
                if bytes(raw) != b"null":
                    fields[name] = raw
            elif name not in _READ and bytes(raw) not in (b"null", b"[]", b"{}"):
                self.lose(name, _OWN_TO_ANTHROPIC, essential=name == "mcp_servers")
        self._system(values.get("system"))
        for at, turn in enumerate(values["messages"]):
            self._turn(at, turn)
        if not self.made:  # nothing that others know; the losses decide
            self._add("messages[0]", {"role": "user", "content": ""})
        fields["messages"] = self.made
        for name, value in values.items():
            if value is not None and name in _READERS:
                _READERS[name](self, value, fields)
        self._choose(fields)
        names = CallerNames(_NAMES, tuple(self.places), self.part_places.of(self.made))
        native = NativeRequest("messages", self.read.fields, names, tuple(self.losses))
        return parse_as(Api.CHAT, fields, native, self.read.mended)

    def lose(
        self, name: str, why: str = "", *, essential: bool = False, adapted: bool = False
    ) -> None:
        self.losses.append(Loss(name, why or _OWN_TO_ANTHROPIC, essential, adapted))

    # --- parameters -----------------------------------------------------------------

    def _stops(self, stops: list[str], fields: dict[str, Any]) -> None:
        if stops:
            fields["stop"] = stops

    def _metadata(self, metadata: dict[str, Any], fields: dict[str, Any]) -> None:
        for name in metadata.keys() - {"user_id"}:
            self.lose(f"metadata.{name}")
        user = metadata.get("user_id")
        if isinstance(user, str):
            fields["user"] = user

    def _tier(self, tier: str, fields: dict[str, Any]) -> None:
        if tier in _TIERS:
            fields["service_tier"] = _TIERS[tier]
        else:
            self.lose("service_tier")

    def _think(self, switch: _Switch, fields: dict[str, Any]) -> None:
        fields["thinking"] = {"type": switch.type}
        if switch.budget_tokens is not None:
            fields["thinking"]["budget_tokens"] = switch.budget_tokens
        if switch.display is not None:
            self.lose("thinking.display")
        if switch.type not in ("enabled", "adaptive", "disabled"):
            self.lose("thinking.type")

    def _output(self, given: dict[str, Any], fields: dict[str, Any]) -> None:
        config = dict(given)
        effort = config.pop("effort", None)
        if effort is not None:
            fields["output_config"] = {"effort": effort}
        format = config.pop("format", None)
        if format is not None:
            self._format(format, fields)
        for name in config:
            self.lose(f"output_config.{name}")

    def _format(self, format: Any, fields: dict[str, Any]) -> None:
        if (
            not isinstance(format, dict)
            or format.get("type") != "json_schema"
            or not isinstance(format.get("schema"), dict)
        ):
            raise ApiError(
                "invalid_value", "The format must be a `json_schema` with its `schema`.",
                param="output_config.format",
            )  # fmt: skip
        schema = {"name": "answer", "schema": format["schema"], "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}

    # --- tools ----------------------------------------------------------------------

    def _tools(self, given: list[dict[str, Raw]], fields: dict[str, Any]) -> None:
        tools: list[dict[str, Any]] = []
        elsewhere: list[int] = []
        for at, tool in enumerate(given):
            kind = _text(tool.get("type")) or "custom"
            if kind == "custom" and "input_schema" in tool:
                tools.append(self._tool(at, tool))
            elif kind in ("custom", "function"):  # the second is OpenAI's
                name = f"tools[{at}].input_schema"
                raise ApiError(
                    "missing_required_parameter", f"The field `{name}` is required.", param=name
                )
            else:
                elsewhere.append(at)
        for at in elsewhere:
            self.lose(f"tools[{at}]", _SERVER_SIDE, essential=not tools)
        if tools:
            fields["tools"] = tools

    def _tool(self, at: int, tool: dict[str, Raw]) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.get("name"), "parameters": tool["input_schema"]}
        made: dict[str, Any] = {"type": "function", "function": function}
        for name, raw in tool.items():
            if name in ("description", "strict"):
                if bytes(raw) != b"null":
                    function[name] = raw
            elif name == "cache_control":
                made[name] = raw
            elif name not in ("name", "type", "input_schema") and bytes(raw) not in (
                b"null", b"false", b"[]",
            ):  # fmt: skip
                self.lose(f"tools[{at}].{name}")
        return made

    def _choose(self, fields: dict[str, Any]) -> None:
        choice = self.values.get("tool_choice")
        if choice is None:
            return
        names = [_name_of(tool) for tool in fields.get("tools", ())]
        match choice.type:
            case "any":
                fields["tool_choice"] = "required"
            case "tool":
                if choice.name in names or not names:
                    function = {"name": choice.name}
                    fields["tool_choice"] = {"type": "function", "function": function}
                else:
                    self.lose("tool_choice", "the tool is none of those that are sent on")
            case "auto" | "none":
                fields["tool_choice"] = choice.type
            case _:
                raise ApiError("invalid_value", "No such tool choice.", param="tool_choice.type")
        if choice.disable_parallel_tool_use:
            fields["parallel_tool_calls"] = False

    # --- messages -------------------------------------------------------------------

    def _add(self, place: str, message: dict[str, Any]) -> None:
        self.made.append(message)
        self.places.append(place)

    def _system(self, system: str | list[_Block] | None) -> None:
        if system:
            content = system if isinstance(system, str) else self._texts(system, "system")
            self._add("system", {"role": "system", "content": content})

    def _turn(self, at: int, turn: _Turn) -> None:
        place = f"messages[{at}]"
        if isinstance(turn.content, str):
            self._add(place, {"role": turn.role, "content": turn.content})
        elif turn.role == "assistant":
            self._assistant(place, turn.content)
        elif turn.role == "system":
            content = self._texts(turn.content, f"{place}.content")
            self._add(place, {"role": "system", "content": content})
        else:
            self._user(place, turn.content)

    def _texts(self, blocks: list[_Block], where: str) -> str | list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for at, block in enumerate(blocks):
            self._part(block, f"{where}[{at}]", parts)
        return _plain(parts)

    def _user(self, place: str, blocks: list[_Block]) -> None:
        """Tool results become messages of their own, before what else the user says."""
        rest: list[dict[str, Any]] = []
        for at, block in enumerate(blocks):
            where = f"{place}.content[{at}]"
            if _kind(block, where) == "tool_result":
                self._add(where, self._result(block, where))
            else:
                self._part(block, where, rest)
        if rest:
            self._add(place, {"role": "user", "content": _plain(rest)})

    def _result(self, block: _Block, where: str) -> dict[str, Any]:
        raw = bytes(block.get("content", b"null"))
        if raw[:1] not in (b'"', b"[", b"n"):
            path = f"{where}.content"
            raise ApiError(
                "invalid_type", f"Invalid type for `{path}`: expected a text or blocks.", param=path
            )
        parts: list[dict[str, Any]] = []
        if raw[:1] == b"[":
            for at, inner in enumerate(self._blocks(raw, where)):
                self._part(inner, f"{where}.content[{at}]", parts)
        content = _plain(parts) if raw[:1] == b"[" else _text(Raw(raw))
        if bytes(block.get("is_error", b"null")) == b"true":
            content = _failed(content)
            self.lose(f"{where}.is_error", adapted=True)
        made: dict[str, Any] = {
            "role": "tool",
            "tool_call_id": self._string(block, "tool_use_id", where),
            "content": content,
        }
        if "cache_control" in block:
            made["cache_control"] = block["cache_control"]
        self._extras(block, where, {"tool_use_id", "content", "is_error", "cache_control"})
        return made

    def _part(self, block: _Block, where: str, parts: list[dict[str, Any]]) -> None:
        """One block of content as parts; what has no form there is noted as lost."""
        kind = _kind(block, where)
        known = {"cache_control"}
        made: list[dict[str, Any]] = []
        match kind:
            case "text":
                made.append({"type": "text", "text": self._string(block, "text", where)})
                known.add("text")
            case "image":
                image = self._image(block, where)
                made += [image] if image is not None else []
                known.add("source")
            case "document":
                made += self._document(block, where)
                known |= {"source", "title", "context"}
            case "search_result":
                made.append({"type": "text", "text": self._search_result(block, where)})
                known |= {"source", "title", "content"}
                self.lose(where, adapted=True)
            case "tool_reference":  # what a search for tools found
                made.append({"type": "text", "text": self._string(block, "tool_name", where)})
                known.add("tool_name")
                self.lose(where, adapted=True)
            case _:
                self.lose(where, f"blocks of type `{kind[:40]}` are Anthropic's own",
                          essential=True)  # fmt: skip
                return
        mark = block.get("cache_control")
        if mark is not None and made:
            made[-1]["cache_control"] = mark
        self._extras(block, where, known)
        for part in made:
            self.part_places.note(part, where)
        parts += made

    def _extras(self, block: _Block, where: str, known: set[str]) -> None:
        for name in sorted(block.keys() - known - {"type"}):
            raw = bytes(block[name])
            if raw not in (b"null", b"[]", b"false") and b'"enabled":false' not in raw:
                self.lose(f"{where}.{name}")

    def _image(self, block: _Block, where: str) -> dict[str, Any] | None:
        source = self._source(block, where)
        if source.type == "file":
            why = "a file of an image is known to its own vendor only"
            self.lose(f"{where}.source", why, essential=True)
            return None
        url = source.url or f"data:{source.media_type};base64,{source.data}"
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: _Block, where: str) -> list[dict[str, Any]]:
        source, title = self._source(block, where), _text(block.get("title"))
        head = "\n".join(text for text in (title, _text(block.get("context"))) if text)
        match source.type:
            case "text":
                self.lose(where, adapted=True)
                text = f"{head or 'Document'}:\n{source.data or ''}"
                return [{"type": "text", "text": text}]
            case "content":
                self.lose(where, adapted=True)
                parts: list[dict[str, Any]] = [{"type": "text", "text": f"{head or 'Document'}:"}]
                given = source.content
                if isinstance(given, str):
                    return [*parts, {"type": "text", "text": given}]
                for at, inner in enumerate(given or ()):
                    self._part(inner, f"{where}.source.content[{at}]", parts)
                return parts
            case "url":
                file: dict[str, Any] = {"file_url": source.url}
            case "file":
                file = {"file_id": source.file_id}
            case _:
                file = {"file_data": f"data:{source.media_type};base64,{source.data}"}
        file["filename"] = title or "document.pdf"
        if "context" in block and bytes(block["context"]) != b"null":
            self.lose(f"{where}.context")
        return [{"type": "file", "file": file}]

    def _search_result(self, block: _Block, where: str) -> str:
        texts = [_text(block.get("title")), _text(block.get("source"))]
        texts += [_text(inner.get("text")) for inner in
                  self._blocks(bytes(block.get("content", b"[]")), where)]  # fmt: skip
        return "\n".join(text for text in texts if text)

    def _assistant(self, place: str, blocks: list[_Block]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        parts: list[dict[str, Any]] = []
        for at, block in enumerate(blocks):
            where = f"{place}.content[{at}]"
            match _kind(block, where):
                case "text":
                    self._part(block, where, parts)
                case "tool_use":
                    message.setdefault("tool_calls", []).append(self._call(block, where))
                case "thinking":
                    text = _text(block.get("thinking"))
                    before = message.get("reasoning_content", "")
                    message["reasoning_content"] = before + text
                    signature = _text(block.get("signature"))
                    detail = {"type": "thinking", "text": text, "signature": signature}
                    message.setdefault("reasoning_details", []).append(detail)
                case "redacted_thinking":
                    self.lose(where, "only Anthropic can read it")
                    detail = {"type": "redacted_thinking", "data": _text(block.get("data"))}
                    message.setdefault("reasoning_details", []).append(detail)
                case "compaction" if _text(block.get("content")):
                    parts.append({"type": "text", "text": _text(block.get("content"))})
                    self.lose(where, adapted=True)
                case kind:
                    self.lose(where, f"blocks of type `{kind[:40]}` are Anthropic's own")
        if parts:
            message["content"] = _plain(parts, "")
        elif "tool_calls" not in message:
            message["content"] = ""
        self._add(place, message)

    def _call(self, block: _Block, where: str) -> dict[str, Any]:
        arguments = bytes(block.get("input", b"{}")).decode()
        function = {"name": self._string(block, "name", where), "arguments": arguments}
        call: dict[str, Any] = {
            "id": self._string(block, "id", where), "type": "function", "function": function
        }  # fmt: skip
        if "cache_control" in block:
            call["cache_control"] = block["cache_control"]
        self._extras(block, where, {"id", "name", "input", "cache_control"})
        return call

    def _string(self, block: _Block, name: str, where: str) -> str:
        if name not in block:
            raise ApiError(
                "missing_required_parameter", f"The field `{where}.{name}` is required.",
                param=f"{where}.{name}",
            )  # fmt: skip
        raw = block[name]
        if bytes(raw)[:1] == b'"':
            return str(_decode(raw))
        path = f"{where}.{name}"
        raise ApiError("invalid_type", f"Invalid type for `{path}`: expected a text.", param=path)

    def _source(self, block: _Block, where: str) -> _Source:
        raw = block.get("source", Raw(b"null"))
        source: _Source = value_of(f"{where}.source", raw, _decode_source)
        return source

    def _blocks(self, raw: bytes, where: str) -> list[_Block]:
        blocks: list[_Block] = value_of(f"{where}.content", Raw(raw), _decode_blocks)
        return blocks


_READERS: dict[str, Callable[[_Reader, Any, dict[str, Any]], None]] = {
    "stop_sequences": _Reader._stops,
    "metadata": _Reader._metadata,
    "service_tier": _Reader._tier,
    "thinking": _Reader._think,
    "output_config": _Reader._output,
    "output_format": _Reader._format,
    "tools": _Reader._tools,
}
_decode_source = _decoder(_Source)
_decode_blocks = _decoder(list[_Block])


def _text(raw: Raw | None) -> str:
    """A JSON string, or nothing where it is none."""
    if raw is None or bytes(raw)[:1] != b'"':
        return ""
    return str(_decode(raw))


def _name_of(tool: dict[str, Any]) -> str:
    name = tool["function"]["name"]
    return _text(name) if isinstance(name, Raw) else str(name)


def _kind(block: _Block, where: str) -> str:
    """The type of a block.

    Raises:
        ApiError: `invalid_type`: it is no text.
    """
    raw = block.get("type", Raw(b'""'))
    if bytes(raw)[:1] != b'"':
        path = f"{where}.type"
        raise ApiError("invalid_type", f"Invalid type for `{path}`: expected a text.", param=path)
    return str(_decode(raw))


def _plain(parts: list[dict[str, Any]], glue: str = "\n") -> str | list[dict[str, Any]]:
    """Plain text where it says the same, parts where something would be lost."""
    if all(part["type"] == "text" and len(part) == 2 for part in parts):
        return glue.join(part["text"] for part in parts)
    return parts


def _failed(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The result of a tool that failed, said in words."""
    if isinstance(content, str):
        return content if content.lower().startswith("error") else f"Error: {content}"
    return [{"type": "text", "text": "Error:"}, *content]
