"""Message bridge: messages in the form one vendor takes: roles, content parts, tool ids.

The parameter bridge is `core.formats.dialect`; this is its sibling for what stands inside
`messages` and `tools`. What a vendor takes is data (`MessageRules`, in its dialect); the code
here knows no vendor. A search for bytes (`applies`) tells whether anything has to be read at all.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.message_rules import MessageRules, ToolIds
from tokenschain.core.formats.tool_bridge import ToolNameMap, digest
from tokenschain.core.formats.translation_changes import Changes

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_decode_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
Message = dict[str, Raw]
_NOTHING = (b"", b"null", b'""', b"[]")
_EMPTY = Raw(b'""')


class BridgedMessages(NamedTuple):
    """What the bridge made of the messages, and what it saw."""

    messages: list[Message]
    tools_used: tuple[str, ...] = ()
    """Names of the tools in the history, where the vendor wants them declared."""
    unsigned: bool = False
    """Whether thinking cannot be on, since the turn under way began without it."""


def applies(rules: MessageRules, messages: bytes) -> bool:
    """Whether any rule may apply: false for nearly every call, and soon said.

    Where rules are few a search for bytes tells; else messages are split into their fields, and
    only those that are more than a role and a text need a look.
    """
    if rules.always or rules.alternates or rules.system_first or not rules.blanks:
        return True
    searches = rules.searches
    if searches and len(messages) <= _SEARCHED_BYTES_MAX:
        return _found(searches, messages)
    try:
        split = _decode_messages(messages)
    except msgspec.DecodeError:
        return True  # `bridge_messages` says what is wrong
    for message in split:
        content = bytes(message.get("content", b""))
        if (
            len(message) != 2
            or content[:1] != b'"'
            or bytes(message.get("role", b"")) not in rules.plain_roles
            or (len(content) == 2 and rules.never_empty)
        ):
            return not searches or _found(searches, messages)
    return False


def _found(searches: tuple[tuple[bytes, ...], ...], messages: bytes) -> bool:
    for first, *others in searches:
        if first in messages and (not others or any(other in messages for other in others)):
            return True
    return False


_SEARCHED_BYTES_MAX = 4_096
"""Splitting longer messages into their fields is faster than searching them."""


def bridge_messages(
    raw: bytes, rules: MessageRules, changes: Changes, names: ToolNameMap
) -> BridgedMessages:
    """Messages as a vendor takes them.

    Args:
        names: of the tools, as they were sent.

    Raises:
        ApiError: `unsupported_parameter` for what can neither be sent nor left out;
            `invalid_value` for what is no message.
    """
    try:
        messages = _decode_messages(raw)
        return _MessageBridge(rules, changes, names).run(messages)
    except msgspec.ValidationError as error:
        raise ApiError(
            "invalid_value", f"Invalid value for `messages`: {error}.", param="messages"
        ) from None


class ToolIdMap:
    """Ids of tool calls as a vendor takes them, the same on both sides of each pair."""

    def __init__(self, rule: ToolIds) -> None:
        self._rule = rule
        self._taken: set[str] = set()
        self._of: dict[str, str] = {}
        self.changed = False

    def made_of(self, given: str) -> str:
        """The id of one more call: the given one where the vendor takes it, else one that is
        made of it, the same for the same conversation however often it is sent."""
        rule, made, tries = self._rule, given, 0
        while (made in self._taken and (rule.unique or made != given)) or not re.fullmatch(
            rule.pattern, made
        ):
            made = rule.prefix + digest(f"{len(self._taken)} {given} {tries}", rule.length)
            tries += 1
        self.changed = self.changed or made != given
        self._taken.add(made)
        self._of[given] = made
        return made

    def answered(self, given: str) -> str:
        """The id that the answer to a call gives."""
        return self._of.get(given, given)


_RESULT_FOLLOWS = "The result is in the next message."
_ANY_ID = ToolIds(r".+", 24, "call_")


class _MessageBridge:
    """The rules, one method each, over one conversation."""

    def __init__(self, rules: MessageRules, changes: Changes, tools: ToolNameMap) -> None:
        self.rules = rules
        self.changes = changes
        self.tools = tools
        self.made: list[tuple[int, Message]] = []
        self.moved: list[dict[str, Any]] = []
        self.ids = ToolIdMap(rules.tool_ids or _ANY_ID)
        self.legacy = ""
        self.names: dict[str, None] = {}

    def run(self, messages: list[Message]) -> BridgedMessages:
        for at, message in enumerate(messages):
            role = self._role(at, message)
            if role != "tool":
                self._put_moved(at, message if role == "user" else None)
            if not self.rules.functions:
                self._older(at, message, role)
                role = _role_of(message)
            self._fields(at, message, role)
            self._content(at, message, role)
            if "tool_calls" in message:
                self._calls(at, message)
            if role == "tool":
                self._answer(message)
            self.made.append((at, message))
        self._put_moved(len(messages), None)
        self._leave_out_empty()
        self._put_system_first()
        self._take_turns()
        self._let_user_end()
        self._mark_prefill()
        made = [message for _, message in self.made]
        return BridgedMessages(
            made,
            tuple(self.names) if self.rules.declared else (),
            self.rules.signed and _unsigned(made),
        )

    # --- one message ------------------------------------------------------------------

    def _role(self, at: int, message: Message) -> str:
        role = _role_of(message)
        other = self.rules.roles.get(role)
        if other is None:
            return role
        message["role"] = Raw(_encode(other))
        self.changes.adapt(f"messages[{at}].role")
        return other

    def _older(self, at: int, message: Message, role: str) -> None:
        """The older way to call one function, as a call of a tool."""
        raw = message.get("function_call")
        if role == "assistant" and raw is not None:
            del message["function_call"]
            if bytes(raw) not in _NOTHING:
                self.legacy = f"call_{at}"
                call = {"id": self.legacy, "type": "function", "function": raw}
                message["tool_calls"] = Raw(_encode([call]))
                self.changes.adapt(f"messages[{at}].function_call")
        elif role == "function":
            self.changes.adapt(f"messages[{at}].role")
            message["role"] = Raw(b'"tool"')
            message["tool_call_id"] = Raw(_encode(self.legacy or f"call_{at}"))
            message.pop("name", None)

    def _fields(self, at: int, message: Message, role: str) -> None:
        if len(message) == 2 and "content" in message:
            return  # a role and a content
        self._unmark(message)
        left_out = self.rules.left_out
        for name in (
            () if message.keys().isdisjoint(left_out) else sorted(left_out & message.keys())
        ):
            raw = message.pop(name)
            if bytes(raw) in _NOTHING:
                continue
            if name == "refusal" and bytes(message.get("content", b"")) in _NOTHING:
                message["content"] = raw
                self.changes.adapt(f"messages[{at}].refusal")
            elif name.startswith("reasoning"):
                self.changes.adapt(name)
            else:
                self.changes.drop(f"messages[{at}].{name}", "it knows no such field of a message")
        if not self.rules.nulls:
            for name in [n for n, raw in message.items() if bytes(raw) == b"null"]:
                if name != "content":
                    del message[name]
        known = self.rules.known
        wanted = known.messages.get(role) if known is not None else None
        if wanted is None:
            return
        for name in message.keys() - wanted:
            raw = message.pop(name)
            if bytes(raw) in _NOTHING:
                continue
            self.changes.drop(f"messages[{at}].{name}", "it knows no such field of a message")

    def _unmark(self, holder: Message) -> None:
        for mark in self.rules.unknown_marks:
            raw = holder.pop(mark, None)
            if raw is not None and bytes(raw) != b"null":
                self.changes.drop(mark, "it knows no such marker")

    def _content(self, at: int, message: Message, role: str) -> None:
        raw = message.get("content")
        if raw is None or bytes(raw)[:1] != b"[":
            return
        kept: list[Message] = []
        for number, part in enumerate(_decode_messages(raw)):
            self._unmark(part)
            self._part(f"messages[{at}].content[{number}]", part, role, kept)
        if not kept:
            message["content"] = Raw(_encode(_RESULT_FOLLOWS if role == "tool" else ""))
            return
        if all(_text(part.get("type")) == "text" for part in kept) and role in self.rules.joined:
            text = "\n".join(_text(part.get("text")) for part in kept)
            message["content"] = Raw(_encode(text))
            self.changes.adapt("content")
        else:
            message["content"] = Raw(_encode(kept))

    def _part(self, where: str, part: Message, role: str, kept: list[Message]) -> None:
        rules, changes = self.rules, self.changes
        kind = _text(part.get("type"))
        if kind == "refusal" and rules.parts is not None and "refusal" not in rules.parts:
            part = {"type": Raw(b'"text"'), "text": part.get("refusal", _EMPTY)}
            kind = "text"
            changes.adapt(where)
        if kind == "text":
            text = _text(part.get("text"))
            if (not rules.blanks and not text.strip()) or (rules.never_empty and not text):
                changes.adapt(where)
            else:
                kept.append(self._known_part(where, part, kind))
            return
        if kind == "file" and rules.parts is not None:
            part, kind = self._file(where, part)
        elif kind == "image_url" and not rules.details:
            self._without_detail(where, part)
        if kind == "text":
            kept.append(part)
        elif rules.parts is not None and kind not in rules.parts:
            changes.drop(where, f"it takes no parts of type `{kind[:40]}`", essential=True)
        elif role == "tool" and not rules.tool_images:
            self.moved.append(self._known_part(where, part, kind))
            changes.adapt(where)
        else:
            kept.append(self._known_part(where, part, kind))

    def _without_detail(self, where: str, part: Message) -> None:
        image = _decode(part.get("image_url", b"null"))
        if isinstance(image, dict) and "detail" in image:
            if image.pop("detail") not in (None, "auto"):
                self.changes.drop(f"{where}.image_url.detail", "it looks in one way only")
            part["image_url"] = Raw(_encode(image))

    def _file(self, where: str, part: Message) -> tuple[Message, str]:
        """A file in the form that the vendor takes, as text where it is one, and its kind."""
        rules = self.rules
        file = _decode(part.get("file", b"{}"))
        file = file if isinstance(file, dict) else {}
        text = _file_text(file)
        if text is not None:
            self.changes.adapt(where)
            return {"type": Raw(b'"text"'), "text": Raw(_encode(text))}, "text"
        url = file.get("file_data") or file.get("file_url")
        if isinstance(url, str) and url and not url.startswith(("data:", "http")):
            url = f"data:application/pdf;base64,{url}"  # bare base64, as some clients send it
            file["file_data"] = url
            part["file"] = Raw(_encode(file))
        if rules.files_as and isinstance(url, str):
            self.changes.adapt(where)
            made = {"type": rules.files_as, rules.files_as: url}
            return {name: Raw(_encode(value)) for name, value in made.items()}, rules.files_as
        sources = [name for name in ("file_data", "file_url", "file_id") if file.get(name)]
        if not sources or sources[0] not in rules.file_sources:
            return part, f"file with {sources[0] if sources else 'nothing in it'}"
        data = file.get("file_data")
        if rules.file_media and isinstance(data, str) and not re.match(rules.file_media, data):
            return part, f"file of {data[5:40].partition(';')[0]}"
        return part, "file"

    def _known_part(self, where: str, part: Message, kind: str) -> Message:
        known = self.rules.known
        wanted = known.parts.get(kind) if known is not None else None
        if wanted is not None:
            for name in part.keys() - wanted - {"type"}:
                if bytes(part.pop(name)) not in _NOTHING:
                    self.changes.drop(f"{where}.{name}", "it knows no such field of a part")
        return part

    def _put_moved(self, at: int, user: Message | None) -> None:
        """Pictures of tools' results go to the user's message that follows, or to one more."""
        if not self.moved:
            return
        moved, self.moved = self.moved, []
        if user is None:
            content = Raw(_encode(moved))
            self.made.append((at, {"role": Raw(b'"user"'), "content": content}))
            return
        said = user.get("content", _EMPTY)
        rest = _decode_messages(said) if bytes(said)[:1] == b"[" else []
        if not rest and bytes(said) not in _NOTHING:
            rest = [{"type": Raw(b'"text"'), "text": said}]
        user["content"] = Raw(_encode([*moved, *rest]))

    # --- calls and their answers --------------------------------------------------------

    def _calls(self, at: int, message: Message) -> None:
        raw = message.get("tool_calls")
        if raw is None:
            return
        if bytes(raw) in _NOTHING:
            del message["tool_calls"]
            return
        known = self.rules.known
        calls = _decode_messages(raw)
        for number, call in enumerate(calls):
            where = f"messages[{at}].tool_calls[{number}]"
            self._unmark(call)
            if "custom" in call and not self.rules.custom_tools:
                call["function"] = _freeform_call(call.pop("custom"))
                call["type"] = Raw(b'"function"')
                self.changes.adapt(where)
            if "function" in call:
                call.setdefault("type", Raw(b'"function"'))
                self._function(where, call)
            if self.rules.tool_ids is not None or bytes(call.get("id", b"null")) in _NOTHING:
                call["id"] = Raw(_encode(self.ids.made_of(_text(call.get("id")))))
                if self.ids.changed:
                    self.changes.adapt("tool_ids")
            for name in call.keys() - known.calls if known is not None else ():
                if bytes(call.pop(name)) not in _NOTHING and name != "index":
                    self.changes.drop(f"{where}.{name}", "it knows no such field of a call")
        message["tool_calls"] = Raw(_encode(calls))

    def _function(self, where: str, call: Message) -> None:
        """Arguments are a text that holds an object, whatever a client made of them."""
        function = _decode(call["function"], type=dict[str, Raw])
        given = _text(function.get("name"))
        name = self.tools.of(given)
        self.names.setdefault(name)
        if name != given:
            function["name"] = Raw(_encode(name))
            call["function"] = Raw(_encode(function))
        arguments = bytes(function.get("arguments", b"null"))
        if arguments in (b"null", b'""'):
            function["arguments"] = Raw(b'"{}"')
        elif arguments[:1] == b"{":
            function["arguments"] = Raw(_encode(arguments.decode()))
            self.changes.adapt(f"{where}.function.arguments")
        elif self.rules.json_arguments and not _is_object(_text(function["arguments"])):
            kept = _encode({"_invalid_json": _text(function["arguments"])})
            function["arguments"] = Raw(_encode(kept.decode()))
            self.changes.adapt(f"{where}.function.arguments")
        else:
            return
        call["function"] = Raw(_encode(function))

    def _answer(self, message: Message) -> None:
        given = _text(message.get("tool_call_id"))
        other = self.ids.answered(given)
        if other != given:
            message["tool_call_id"] = Raw(_encode(other))

    # --- the order of messages ----------------------------------------------------------

    def _leave_out_empty(self) -> None:
        rules = self.rules
        if not rules.never_empty:
            return
        kept: list[tuple[int, Message]] = []
        for number, (at, message) in enumerate(self.made):
            role = _role_of(message)
            empty = role in rules.never_empty and "tool_calls" not in message
            empty = empty and _says_nothing(message.get("content"), blank=not rules.blanks)
            if not empty:
                kept.append((at, message))
                continue
            self.changes.adapt(f"messages[{at}]")
            if role == "user" and number == len(self.made) - 1:
                kept.append((at, message | {"content": Raw(b'"."')}))
        self.made = kept

    def _put_system_first(self) -> None:
        rules = self.rules
        if rules.system_first:
            told = [(at, m) for at, m in self.made if _role_of(m) == "system"]
            rest = [(at, m) for at, m in self.made if _role_of(m) != "system"]
            if told and (len(told) > 1 or self.made[0][1] is not told[0][1]):
                in_place = self.made[0][1] is told[0][1]
                for at, _ in told[1:] if in_place else told:
                    self.changes.adapt(f"messages[{at}]")
                text = "\n\n".join(_all_text(message.get("content")) for _, message in told)
                first = {"role": Raw(b'"system"'), "content": Raw(_encode(text))}
                self.made = [(told[0][0], first), *rest]
            if told and not rest:  # a model that is told something and asked nothing
                self.made[0][1]["role"] = Raw(b'"user"')
                self.changes.adapt(f"messages[{told[0][0]}].role")
        begin = 1 if self.made and _role_of(self.made[0][1]) == "system" else 0
        if rules.user_first and begin < len(self.made):
            at, first = self.made[begin]
            if _role_of(first) != "user":
                self.made.insert(begin, (at, {"role": Raw(b'"user"'), "content": Raw(b'"."')}))
                self.changes.adapt(f"messages[{at}]")

    def _let_user_end(self) -> None:
        if self.rules.user_last and self.made and _role_of(self.made[-1][1]) == "assistant":
            at = self.made[-1][0]
            self.made.append((at, {"role": Raw(b'"user"'), "content": Raw(b'"Go on."')}))
            self.changes.adapt(f"messages[{at}]")

    def _take_turns(self) -> None:
        rules = self.rules
        if not rules.alternates and rules.user_after_tool:
            return
        made: list[tuple[int, Message]] = []
        for at, message in self.made:
            role = _role_of(message)
            before = _role_of(made[-1][1]) if made else ""
            if rules.alternates and role == before and role in ("user", "assistant"):
                made[-1] = (made[-1][0], _merged(made[-1][1], message))
                self.changes.adapt(f"messages[{at}]")
                continue
            if not rules.user_after_tool and (before, role) == ("tool", "user"):
                made.append((at, {"role": Raw(b'"assistant"'), "content": Raw(b'"OK."')}))
                self.changes.adapt(f"messages[{at}]")
            made.append((at, message))
        self.made = made

    def _mark_prefill(self) -> None:
        mark = self.rules.prefill_mark
        if not mark or not self.made:
            return
        at, last = self.made[-1]
        begins = _role_of(last) == "assistant" and "tool_calls" not in last
        if begins and mark not in last:
            last[mark] = Raw(b"true")
            self.changes.adapt(f"messages[{at}].{mark}")


def _merged(first: Message, second: Message) -> Message:
    """Two messages of one role as one."""
    made = first | {name: raw for name, raw in second.items() if name not in first}
    contents = [m.get("content", _EMPTY) for m in (first, second)]
    told = [raw for raw in contents if bytes(raw) not in _NOTHING]
    if len(told) < 2:
        made["content"] = told[0] if told else _EMPTY
    elif all(bytes(raw)[:1] == b'"' for raw in told):
        made["content"] = Raw(_encode("\n\n".join(_text(raw) for raw in told)))
    else:
        made["content"] = Raw(_encode([part for raw in told for part in _parts(raw)]))
    calls = [m["tool_calls"] for m in (first, second) if "tool_calls" in m]
    if len(calls) == 2:
        made["tool_calls"] = Raw(_encode([c for raw in calls for c in _decode_messages(raw)]))
    return made


def _parts(raw: Raw) -> list[Message]:
    if bytes(raw)[:1] == b"[":
        return _decode_messages(raw)
    return [{"type": Raw(b'"text"'), "text": raw}]


_ROLES = {
    b'"%b"' % role.encode(): role
    for role in ("system", "developer", "user", "assistant", "tool", "function")
}


def _role_of(message: Message) -> str:
    return _ROLES.get(bytes(message.get("role", b"")), "")


def _text(raw: Raw | None) -> str:
    """A JSON string, or nothing where it is none."""
    if raw is None or bytes(raw)[:1] != b'"':
        return ""
    return str(_decode(raw))


def _is_object(text: str) -> bool:
    try:
        return isinstance(_decode(text), dict)
    except msgspec.DecodeError:
        return False


def _all_text(raw: Raw | None) -> str:
    if raw is None or bytes(raw)[:1] != b"[":
        return _text(raw)
    return "\n".join(_text(part.get("text")) for part in _decode_messages(raw))


def _says_nothing(raw: Raw | None, *, blank: bool) -> bool:
    if raw is None or bytes(raw) in _NOTHING:
        return True
    if bytes(raw)[:1] == b"[":
        return all(
            _text(part.get("type")) == "text" and not _text(part.get("text")).strip()
            for part in _decode_messages(raw)
        )
    return blank and not _text(raw).strip()


def _file_text(file: dict[str, Any]) -> str | None:
    """The text of a file that is a text; None where it is anything else."""
    data = file.get("file_data")
    if not isinstance(data, str) or not data.startswith("data:text/"):
        return None
    head, _, encoded = data.partition(",")
    try:
        text = base64.b64decode(encoded).decode() if head.endswith(";base64") else encoded
    except (binascii.Error, UnicodeDecodeError):
        return None
    name = file.get("filename")
    return f"{name}:\n{text}" if name else text


def _freeform_call(raw: Raw) -> Raw:
    """A call of a freeform tool as a call of a function of one text."""
    called = _decode(raw)
    arguments = _encode({"input": called.get("input") or ""}).decode()
    return Raw(_encode({"name": called.get("name"), "arguments": arguments}))


def _unsigned(messages: list[Message]) -> bool:
    """Whether the turn under way began without signed thinking, so that none may follow.

    A turn is under way while tools' results are the last word: it began with the first
    assistant's message after the user's own words.
    """
    # Messages of the system stand apart from the turns.
    turns = [m for m in messages if _role_of(m) not in ("system", "developer")]
    roles = [_role_of(message) for message in turns]
    end = len(roles) - 1
    if end >= 0 and roles[end] == "assistant":
        return True
    while end >= 0 and roles[end] == "user":
        end -= 1
    if end < 0 or roles[end] != "tool":
        return False
    first = end
    while first > 0 and roles[first - 1] in ("tool", "assistant"):
        first -= 1
    details = turns[first].get("reasoning_details")
    if details is None or bytes(details)[:1] != b"[":
        return True
    found = [d for d in _decode(details) if isinstance(d, dict)]
    return not any(d.get("signature") or d.get("data") for d in found)
