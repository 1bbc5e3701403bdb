"""OpenAI Responses API, inbound: requests to canonical form, and what that lacks of them.

Source: OpenAI's API reference for /v1/responses, as its Python SDK 2.x types it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical as canon
from tokenschain.core.formats.encrypted_content import unseal, unseal_reasoning
from tokenschain.core.formats.json_body import Body, read_body, value_of
from tokenschain.core.formats.openai_chat import Api, NativeRequest, ParsedRequest, parse_as
from tokenschain.core.formats.request_checks import check_metadata, missing
from tokenschain.core.formats.stored_responses import KEPT_INPUT_BYTES_MAX, items_of
from tokenschain.core.formats.tool_bridge import freeform_function
from tokenschain.core.formats.translation_changes import CallerNames, Loss, PartPlaces

_encode = msgspec.json.Encoder().encode
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "reasoning_content": "reasoning",
    "reasoning_details": "reasoning",
}
_SERVER_SIDE = "it runs on OpenAI's servers only"
_KEPT_ELSEWHERE = "what it refers to is kept at OpenAI only"
_CLIENT_CALLS = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
"""Calls of tools that the caller runs, and where their arguments stand."""
_CLIENT_OUTPUTS = frozenset(
    {"local_shell_call_output", "shell_call_output", "apply_patch_call_output"}
)
_CLIENT_ITEMS = _CLIENT_OUTPUTS | _CLIENT_CALLS.keys()
_OUTPUTS = _CLIENT_OUTPUTS | {"function_call_output", "custom_tool_call_output"}
_ESSENTIAL_ITEMS = frozenset(
    {"item_reference", "compaction", "computer_call_output", "mcp_approval_response"}
)
"""Items without which the conversation is another one."""
_Item = dict[str, Any]


class _Choice(Struct):
    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[dict[str, Any]] | None = None


class _Format(Struct):
    type: str
    name: str | None = None
    schema: Raw = canon.NO_PARAMETERS
    strict: bool | None = None
    description: str | None = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


def _decoder(kind: Any) -> Any:
    return msgspec.json.Decoder(kind).decode


PLAIN = {
    "max_output_tokens": "max_completion_tokens", "temperature": "temperature", "top_p": "top_p",
    "parallel_tool_calls": "parallel_tool_calls", "stream": "stream", "user": "user",
    "service_tier": "service_tier", "safety_identifier": "safety_identifier",
    "prompt_cache_key": "prompt_cache_key", "prompt_cache_retention": "prompt_cache_retention",
    "prompt_cache_options": "prompt_cache_options", "top_logprobs": "top_logprobs",
}  # fmt: skip
"""Fields that the canonical form has under this name, with what they hold unlooked at."""
_KEPT = frozenset({"store", "metadata", "previous_response_id"})
"""Fields that are answered for here and need not go on."""
FIELDS: dict[str, Any] = {
    "model": str,
    "input": str | list[_Item],
    "instructions": str | list[_Item] | None,
    "tools": list[dict[str, Raw]] | None,
    "tool_choice": str | _Choice | None,
    "text": _Text | None,
    "reasoning": _Reasoning | None,
    "background": bool | None,
    "store": bool | None,
    "metadata": dict[str, str] | None,
    "truncation": str | None,
    "include": list[str] | None,
    "conversation": Any,
    "prompt": Any,
    "previous_response_id": str | None,
}
"""The fields that are read, with their types."""
_READ_TOOLS = _decoder(list[dict[str, Any]] | None)
_READ = {name: _decoder(kind) for name, kind in FIELDS.items()}


def parse(body: bytes) -> ParsedRequest:
    """A Responses request as a canonical one.

    Raises:
        ApiError: with the field to blame.
    """
    read = read_body(body)
    texts = _of_texts(read)
    if texts is not None:
        return texts
    values = {name: value_of(name, raw, _READ[name]) for name, raw in read.fields.items()
              if name in _READ}  # fmt: skip
    for name in ("model", "input"):
        if values.get(name) is None:
            raise missing(name)
    if values["input"] == []:
        raise ApiError("empty_array", "`input` must hold 1 item at least.", param="input")
    for at, name in enumerate(values.get("include") or ()):
        if name not in INCLUDABLE:
            shown = f"`include[{at}]`: there is nothing of the name `{name[:80]}` to include."
            raise ApiError("invalid_value", shown, param=f"include[{at}]")
    check_metadata(values.get("metadata") or {})
    for name, why in _REFUSED.items():
        if values.get(name):
            raise ApiError("unsupported_parameter", why, param=name)
    return _Reader(read, values).parsed()


LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
_INCLUDED = frozenset({LOGPROBS, ENCRYPTED})
"""What answers here can hold beside the rest."""
INCLUDABLE = _INCLUDED | frozenset(
    {
        "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
        "message.input_image.image_url", "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    }
)  # fmt: skip
"""What a caller may ask to have in an answer beside the rest."""
_REFUSED = {
    "background": "Responses are not run in the background.",
    "conversation": "Conversations are not kept here; send `previous_response_id` or the items.",
    "prompt": "Stored prompts are not kept here; send `instructions` and `input`.",
}


_TEXT_FIELDS = (PLAIN.keys() - {"top_logprobs"}) | {"model", "input", "instructions", "store"}
_TEXT_NAMES = _NAMES | {"logprobs": "top_logprobs"}
_ASKED = CallerNames(_TEXT_NAMES, ("input",))
_TOLD_AND_ASKED = CallerNames(_TEXT_NAMES, ("instructions", "input"))
_QUOTE = b'"'[0]


def _of_texts(read: Body) -> ParsedRequest | None:
    """The usual request, its texts as the caller wrote them: a text, instructions or none, and
    fields that go on as they are. None where it holds anything else, which `_Reader` looks at.
    A third of the instructions, and of a long text no copy is decoded.
    """
    given = read.fields
    asked, model = given.get("input"), given.get("model")
    told, store = given.get("instructions"), bytes(given.get("store", b"null"))
    if asked is None or model is None or read.mended or not _TEXT_FIELDS.issuperset(given):
        return None
    text = bytes(asked)
    # What is escaped has another length: estimates are made of it.
    if text[0] != _QUOTE or b"\\u" in text or store not in (b"false", b"true", b"null"):
        return None
    names, messages = _ASKED, b'[{"role":"user","content":%b}]' % text
    if told is not None and (words := bytes(told)) not in (b"null", b'""'):
        if words[0] != _QUOTE or b"\\u" in words:
            return None
        names = _TOLD_AND_ASKED
        messages = b'[{"role":"system","content":%b},%b' % (words, messages[1:])
    fields: dict[str, Any] = {"model": model, "messages": Raw(messages)}
    for name, raw in given.items():
        canonical = PLAIN.get(name)
        if canonical is not None and bytes(raw) != b"null":
            fields[canonical] = raw
    parsed = parse_as(Api.CHAT, fields, NativeRequest("responses", given, names), ())
    if store != b"false":
        _keep_input(parsed, value_of("input", asked, _READ["input"]))
    return parsed


def _keep_input(parsed: ParsedRequest, given: str | list[_Item]) -> None:
    """For who asks later what was asked here."""
    kept = _encode(items_of(given))
    parsed.kept_input = kept if len(kept) <= KEPT_INPUT_BYTES_MAX else b""


class _Reader:
    """One request being read."""

    def __init__(self, read: Body, values: dict[str, Any]) -> None:
        self.read = read
        self.values = values
        self.losses: list[Loss] = []
        self.made: list[dict[str, Any]] = []
        self.places: list[str] = []
        self.part_places = PartPlaces()
        self.freeform: set[str] = set()
        self.namespaces: dict[str, tuple[str, str]] = {}
        """Namespace and name of tools that are declared within one, by their name upstream."""
        self.plain_names: set[Any] = set()
        self.reasoning: tuple[str, dict[str, Any]] | None = None
        """Where reasoning stood, and the fields that tell it, until what followed it is read."""
        self.open_calls: frozenset[str] = frozenset()

    def parsed(self) -> ParsedRequest:
        values = self.values
        self._unknown()
        self._instructions(values.get("instructions"))
        tools = self._declared()
        if isinstance(values["input"], str):
            self._add("input", {"role": "user", "content": values["input"]})
        else:
            self._pair(values["input"])
            for at, item in enumerate(values["input"]):
                if item.get("type") != "additional_tools":
                    self._item(f"input[{at}]", item)
            self._drop_reasoning()
        if not self.made:  # nothing that chat knows; the losses decide
            self._add("input", {"role": "user", "content": ""})
        fields: dict[str, Any] = {"model": values["model"], "messages": self.made}
        for name, raw in self.read.fields.items():
            canonical = PLAIN.get(name)
            if canonical is not None and bytes(raw) != b"null":
                fields[canonical] = raw
        self._settings(fields)
        self._tools(tools, fields)
        native = NativeRequest(
            "responses",
            self.read.fields,
            CallerNames(self._names(), tuple(self.places), self.part_places.of(self.made)),
            tuple(self.losses),
            frozenset(self.freeform),
            self.namespaces,
        )
        parsed = parse_as(Api.CHAT, fields, native, self.read.mended)
        if values.get("store") is not False:
            _keep_input(parsed, values["input"])
        return parsed

    def lose(
        self, name: str, why: str = "", *, essential: bool = False, adapted: bool = False
    ) -> None:
        why = why or "chat upstreams have no place for it"
        self.losses.append(Loss(name, why, essential, adapted))

    # --- parameters -----------------------------------------------------------------

    def _unknown(self) -> None:
        for name, raw in self.read.fields.items():
            if name in _READ or name in PLAIN:
                continue
            if bytes(raw) not in (b"null", b"[]"):
                self.lose(name)
        values = self.values
        if values.get("truncation") not in (None, "disabled"):
            self.lose("truncation", "nothing is left out of a conversation here")
        for at, name in enumerate(values.get("include") or ()):
            if name not in _INCLUDED:
                self.lose(f"include[{at}]")

    def _names(self) -> dict[str, str]:
        """The caller's names of canonical fields."""
        included = self.values.get("include") or ()
        if LOGPROBS in included:
            return _NAMES | {"logprobs": f"include[{included.index(LOGPROBS)}]"}
        return _TEXT_NAMES

    def _settings(self, fields: dict[str, Any]) -> None:
        if bytes(fields.get("top_logprobs", b"0")) == b"0":
            fields.pop("top_logprobs", None)
        if LOGPROBS in (self.values.get("include") or ()) or "top_logprobs" in fields:
            fields["logprobs"] = True
        reasoning, text = self.values.get("reasoning"), self.values.get("text")
        if reasoning is not None and reasoning.effort is not None:
            fields["reasoning_effort"] = reasoning.effort
        for name in ("summary", "generate_summary") if reasoning is not None else ():
            if getattr(reasoning, name) not in (None, "auto"):  # the reasoning itself is shown
                self.lose(f"reasoning.{name}", adapted=True)
        self._extras("reasoning", {"effort", "summary", "generate_summary"})
        self._extras("text", {"format", "verbosity"})
        if text is None:
            return
        if text.verbosity is not None:
            fields["verbosity"] = text.verbosity
        wanted = text.format
        if wanted is None or wanted.type == "text":
            return
        if wanted.type != "json_schema":
            fields["response_format"] = {"type": wanted.type}
            return
        schema = {"name": wanted.name or "answer", "schema": wanted.schema}
        more = {"strict": wanted.strict, "description": wanted.description}
        schema |= {name: value for name, value in more.items() if value is not None}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}

    def _extras(self, name: str, known: set[str]) -> None:
        raw = self.read.fields.get(name)
        if raw is None or bytes(raw)[:1] != b"{":
            return
        for inner, value in msgspec.json.decode(raw, type=dict[str, Any]).items():
            if inner not in known and value is not None:
                self.lose(f"{name}.{inner}")

    # --- tools ----------------------------------------------------------------------

    def _declared(self) -> list[tuple[str, _Item]]:
        """All tools with their places: those beside the input and in it, and those of namespaces
        by names that no other has."""
        if not self.values.get("tools") and isinstance(self.values["input"], str):
            return []
        given = [(f"tools[{at}]", {name: _plain(value) for name, value in tool.items()})
                 for at, tool in enumerate(self.values.get("tools") or ())]  # fmt: skip
        items = self.values["input"] if isinstance(self.values["input"], list) else ()
        for at, item in enumerate(items):
            if item.get("type") == "additional_tools":
                more = value_of(f"input[{at}].tools", Raw(_encode(item.get("tools"))), _READ_TOOLS)
                given += [(f"input[{at}].tools[{n}]", tool) for n, tool in enumerate(more or ())]
        plain = (t.get("name") for _, t in given if t.get("type") != "namespace")
        self.plain_names = {name for name in plain if isinstance(name, str)}
        taken = set(self.plain_names)
        made: list[tuple[str, _Item]] = []
        for place, tool in given:
            inner = tool.get("tools")
            if tool.get("type") != "namespace" or not isinstance(inner, list) or not inner:
                made.append((place, tool))
                continue
            self.lose(place, adapted=True)
            space = _check_text(f"{place}.name", tool.get("name"))
            for at, one in enumerate(inner):
                where = f"{place}.tools[{at}]"
                if not isinstance(one, dict):
                    raise ApiError("invalid_type", f"Invalid type for `{where}`.", param=where)
                name = _check_text(f"{where}.name", one.get("name"))
                known = name if name not in taken else f"{space}__{name}"
                taken.add(known)
                if name:
                    self.namespaces[known] = space, name
                made.append((where, one | {"name": known or None}))
        return made

    def _known(self, name: Any, space: Any = None) -> Any:
        """A tool's name upstream; without a namespace, of any that it is in."""
        if not isinstance(name, str) or (not space and name in self.plain_names):
            return name
        for known, (its_space, its_name) in self.namespaces.items():
            if its_name == name and (its_space == space or not space):
                return known
        return name

    def _called(self, place: str, item: _Item) -> Any:
        """The name upstream of the tool that an item of the history calls."""
        name, space = item.get("name"), item.get("namespace")
        if space and (space, name) not in self.namespaces.values():
            self.lose(f"{place}.namespace", "no tool is declared within it")
            return name
        return self._known(name, space) if space else name

    def _tools(self, tools: list[tuple[str, _Item]], fields: dict[str, Any]) -> None:
        made: list[dict[str, Any]] = []
        elsewhere: list[tuple[str, str]] = []
        for place, tool in tools:
            kind = str(tool.get("type"))
            if kind in ("function", "custom") and not isinstance(tool.get("name"), str):
                raise missing(f"{place}.name")
            if kind == "function":
                made.append(self._function(place, tool))
            elif kind == "custom":
                made.append(freeform_function(tool))
                self.freeform.add(tool["name"])
                self.lose(place, adapted=True)
            else:
                elsewhere.append((place, kind))
        for place, kind in elsewhere:
            why = f"tools of type `{kind[:40]}`: {_SERVER_SIDE}"
            self.lose(place, why, essential=not made)
        if made:
            fields["tools"] = made
        self._choose(fields, bool(elsewhere))

    def _function(self, place: str, tool: dict[str, Any]) -> dict[str, Any]:
        parameters = tool.get("parameters")
        function = {
            "name": tool["name"],
            "description": tool.get("description"),
            "parameters": canon.NO_PARAMETERS if parameters is None else parameters,
            "strict": tool.get("strict"),
        }
        known = {"type", "name", "description", "parameters", "strict"}
        for name in sorted(tool.keys() - known):
            if tool[name] not in (None, False, []):
                self.lose(f"{place}.{name}")
        return {
            "type": "function",
            "function": {name: value for name, value in function.items() if value is not None},
        }

    def _choose(self, fields: dict[str, Any], elsewhere: bool) -> None:
        choice = self.values.get("tool_choice")
        if isinstance(choice, str):
            fields["tool_choice"] = choice
        elif choice is None:
            return
        elif choice.type in ("function", "custom"):
            named = {"name": self._known(choice.name)}
            fields["tool_choice"] = {"type": "function", "function": named}
        elif choice.type == "allowed_tools":
            names = [self._known(t.get("name"), t.get("namespace")) for t in choice.tools or ()]
            if not any(names):
                self.lose("tool_choice", "it names none of the tools")
                return
            allowed = [{"type": "function", "function": {"name": n}} for n in names if n]
            inner = {"mode": choice.mode or "auto", "tools": allowed}
            fields["tool_choice"] = {"type": "allowed_tools", "allowed_tools": inner}
        else:
            self.lose("tool_choice", _SERVER_SIDE, essential=not elsewhere)

    # --- items ----------------------------------------------------------------------

    def _add(self, place: str, message: dict[str, Any]) -> None:
        if message["role"] == "assistant" and self.reasoning:
            message |= self.reasoning[1]
            self.reasoning = None
        self._drop_reasoning()
        self.made.append(message)
        self.places.append(place)

    def _drop_reasoning(self) -> None:
        """Reasoning that nothing of the assistant followed has no place."""
        if self.reasoning is not None:
            self.lose(self.reasoning[0], "nothing that the assistant said follows it")
            self.reasoning = None

    def _pair(self, items: list[_Item]) -> None:
        """Find calls of the caller's own tools that have no answer, and answers to no call."""
        calls = {_call_id(item) for item in items if _kind(item) in _CLIENT_CALLS}
        answers = {_call_id(item) for item in items if _kind(item) in _CLIENT_OUTPUTS}
        self.open_calls = frozenset(calls ^ answers)

    def _instructions(self, given: str | list[_Item] | None) -> None:
        if isinstance(given, str) and given:
            self._add("instructions", {"role": "system", "content": given})
        for at, item in enumerate(given if isinstance(given, list) else ()):
            self._item(f"instructions[{at}]", item)

    def _item(self, place: str, item: _Item) -> None:
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        _check_text(f"{place}.type", kind)
        if kind in _CLIENT_ITEMS and _call_id(item) in self.open_calls:
            self.lose(place, "a call and its answer belong together")
            return
        match kind:
            case "message":
                role = item.get("role", "user")
                if role not in ("user", "assistant", "system", "developer"):
                    raise ApiError(
                        "invalid_value", f"Invalid value for `{place}.role`.", param=f"{place}.role"
                    )
                self._add(place, {"role": role, "content": self._content(place, item, role)})
                self._rest(place, item, "content")
            case "function_call":
                self._rest(place, item, "call_id", "name", "arguments", "namespace")
                self._call(place, item, self._called(place, item), item.get("arguments") or "")
            case "custom_tool_call":
                self._rest(place, item, "call_id", "name", "input", "namespace")
                arguments = _encode({"input": item.get("input") or ""}).decode()
                self._call(place, item, self._called(place, item), arguments)
            case "reasoning":
                self._reason(place, item)
            case "compaction" if unseal(item.get("encrypted_content")):
                summary = unseal(item.get("encrypted_content"))
                text = f"What was said so far, in short:\n{summary}"
                self._add(place, {"role": "user", "content": text})
            case _ if kind in _CLIENT_CALLS:
                name, where = _CLIENT_CALLS[kind]
                self._call(place, item, name, _encode(item.get(where) or {}).decode())
                self.lose(place, adapted=True)
            case _ if kind in _OUTPUTS:
                output = self._content(place, item, "tool", "output")
                message = {"role": "tool", "tool_call_id": _call_id(item), "content": output}
                self._add(f"{place}#output", message)
                self._rest(place, item, "call_id", "output")
            case _:
                essential = kind in _ESSENTIAL_ITEMS
                why = _KEPT_ELSEWHERE if essential else _SERVER_SIDE
                self.lose(place, f"items of type `{str(kind)[:40]}`: {why}", essential=essential)

    def _rest(self, place: str, holder: _Item, *known: str) -> None:
        """What an item or a part has beside what was read of it."""
        for name in sorted(holder.keys() - {"type", "id", "status", "role", *known}):
            if holder[name] not in (None, [], "", {}):
                self.lose(f"{place}.{name}")

    def _reason(self, place: str, item: _Item) -> None:
        self._rest(place, item, "content", "summary", "encrypted_content")
        if item.get("content") and item.get("summary"):
            self.lose(f"{place}.summary", "the reasoning itself is there")
        parts = item.get("content") or item.get("summary") or ()
        text = "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
        self._drop_reasoning()
        details = unseal_reasoning(item.get("encrypted_content"))
        text = text or "".join(detail.text or "" for detail in details)
        told: dict[str, Any] = {"reasoning_content": text} if text else {}
        if any(detail.signature or detail.data for detail in details):
            told["reasoning_details"] = details
        self.reasoning = (place, told) if told else None
        if item.get("encrypted_content") and not details:
            self.lose(f"{place}.encrypted_content", _KEPT_ELSEWHERE)

    def _call(self, place: str, item: _Item, name: Any, arguments: str) -> None:
        function = {"name": name, "arguments": arguments}
        call = {"id": _call_id(item), "type": "function", "function": function}
        last = self.made[-1] if self.made and self.reasoning is None else {}
        if last.get("role") == "assistant":
            last.setdefault("tool_calls", []).append(call)
        else:
            self._add(place, {"role": "assistant", "content": None, "tool_calls": [call]})

    def _content(self, place: str, item: _Item, role: str, name: str = "content") -> Any:
        given = item.get(name)
        if isinstance(given, dict):  # of a shell or of a patch
            return _encode(given).decode()
        if not isinstance(given, list):
            return given if given is not None else ""
        parts: list[dict[str, Any]] = []
        for at, part in enumerate(given):
            where = f"{place}.{name}[{at}]"
            if not isinstance(part, dict):
                raise ApiError("invalid_value", f"Invalid value for `{where}`.", param=where)
            made = self._part(where, part)
            if made is not None:
                self.part_places.note(made, where)
                parts.append(made)
        if all(part["type"] == "text" and len(part) == 2 for part in parts):
            return ("" if role == "assistant" else "\n").join(part["text"] for part in parts)
        return parts

    def _part(self, where: str, part: _Item) -> dict[str, Any] | None:
        kind = _check_text(f"{where}.type", part.get("type"))
        made: dict[str, Any]
        match kind:
            case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
                made = {"type": "text", "text": _check_text(f"{where}.text", part.get("text"))}
                self._rest(where, part, "text", "prompt_cache_breakpoint")
            case "refusal":
                refusal = _check_text(f"{where}.refusal", part.get("refusal"))
                made = {"type": "text", "text": refusal}
                self.lose(where, adapted=True)
            case "input_image" if part.get("image_url"):
                if part.get("file_id"):
                    self.lose(f"{where}.file_id", _KEPT_ELSEWHERE)
                image = {"url": _check_text(f"{where}.image_url", part["image_url"])}
                if part.get("detail") not in (None, "auto"):
                    image["detail"] = part["detail"]
                made = {"type": "image_url", "image_url": image}
            case "input_file" if any(part.get(name) for name in _FILE_SOURCES):
                names = (*_FILE_SOURCES, "filename")
                made = {"type": "file", "file": {n: part[n] for n in names if part.get(n)}}
                if part.get("detail"):
                    self.lose(f"{where}.detail")
            case "input_audio" if part.get("input_audio"):
                made = {"type": "input_audio", "input_audio": part["input_audio"]}
            case _ if kind in ("exec_output", "shell_output") or "stdout" in part:
                made = {"type": "text", "text": _encode(part).decode()}
            case _:
                self.lose(where, f"parts of type `{str(kind)[:40]}`: {_KEPT_ELSEWHERE}",
                          essential=True)  # fmt: skip
                return None
        mark = part.get("prompt_cache_breakpoint")
        if mark is not None:
            made["prompt_cache_breakpoint"] = mark
        return made


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value


def _call_id(item: _Item) -> str:
    return str(item.get("call_id") or item.get("id") or "")


def _kind(item: _Item) -> str:
    return str(item.get("type"))


def _check_text(where: str, value: object) -> str:
    """A text, or nothing where there is none.

    Raises:
        ApiError: `invalid_type`: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise ApiError("invalid_type", f"Invalid type for `{where}`: expected a text.", param=where)


_FILE_SOURCES = ("file_data", "file_url", "file_id")
