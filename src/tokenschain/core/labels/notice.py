"""Notice that AI made an answer: put into its text, at the start or the end (GB 45438-2025).

Never into what a program reads: JSON, calls of tools, texts that go on from one of the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.formats.openai_chat import Api, ParsedRequest

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_APART = "\n\n"
_FOR_PROGRAMS = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
    "grammar", "json_schema", "regex", "ebnf", "suffix", "echo",
)  # fmt: skip
"""Parameters, of engines too, by which an answer has a form of its own, or is a part of one."""
_NOT_ASKED = (b"null", b"false", b'""')
_CALLS = ("tool_calls", "function_call")


class Notice(NamedTuple):
    """What is put into the text of answers."""

    text: str
    at_start: bool


def takes_notice(parsed: ParsedRequest) -> bool:
    """Whether the answer is a text for people."""
    fields = parsed.fields
    if parsed.api not in (Api.CHAT, Api.COMPLETIONS):
        return False
    if any(name in fields and bytes(fields[name]) not in _NOT_ASKED for name in _FOR_PROGRAMS):
        return False
    wanted = _decode(fields.get("response_format", b"null"))
    if isinstance(wanted, dict) and wanted.get("type") != "text":
        return False
    # An answer that goes on from what the caller wrote for it may be anything, as a `{`.
    return "assistant" not in parsed.roles or _last_role(fields) != "assistant"


def _last_role(fields: Mapping[str, Raw]) -> object:
    messages: list[dict[str, Any]] = _decode(fields["messages"])
    return messages[-1].get("role")


def without_notice(fields: Mapping[str, Raw], text: str) -> dict[str, Raw] | None:
    """A chat's fields whose earlier answers are as the model wrote them, so that it does not learn
    to write the notice itself; None where no notice is in them."""
    raw = bytes(fields.get("messages", b""))
    if _encode(text)[1:-1] not in raw and json.dumps(text)[1:-1].encode() not in raw:
        return None
    messages: list[dict[str, Any]] = _decode(raw)
    for message in messages:
        content = message.get("content")
        if message.get("role") != "assistant":
            continue
        if isinstance(content, str):
            message["content"] = _stripped(content, text)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                part["text"] = _stripped(part["text"], text)
    return {**fields, "messages": Raw(_encode(messages))}


def _stripped(said: str, text: str) -> str:
    return said.removesuffix(_APART + text).replace(text + _APART, "", 1) if text in said else said


def with_notice(reply: bytes, notice: Notice) -> bytes:
    """A whole canonical reply, with the notice in each choice that has a text."""
    fields = _decode(reply)
    changed = False
    for choice in fields.get("choices") or ():
        holder, name = _place(choice, "message")
        said = holder.get(name)
        if not isinstance(said, str) or not said.strip():
            continue
        if notice.at_start:
            holder[name] = _started(said, notice.text)
            _shift_citations(holder, notice.text)
        elif not any(holder.get(call) for call in _CALLS):
            holder[name] = said + _APART + notice.text
        changed |= holder[name] is not said
    return _encode(fields) if changed else reply


def _place(choice: dict[str, Any], of_chat: str) -> tuple[dict[str, Any], str]:
    """What holds the text of a choice, and under which name."""
    if "text" in choice:
        return choice, "text"
    return choice.get(of_chat) or {}, "content"


def _started(said: str, text: str) -> str:
    at = len(said) - len(said.lstrip())
    return said[:at] + text + _APART + said[at:]


def _shift_citations(holder: dict[str, Any], text: str) -> None:
    """Citations say by numbers of characters what they are about."""
    for annotation in holder.get("annotations") or ():
        citation = annotation.get("url_citation")
        for name in ("start_index", "end_index") if isinstance(citation, dict) else ():
            if isinstance(citation.get(name), int):
                citation[name] += len(text + _APART)


class StreamNotice:
    """Puts the notice into the canonical chunks of a stream."""

    __slots__ = ("_begun", "_calls", "_notice")

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._begun: set[int] = set()
        """Choices that have said something, and not ended."""
        self._calls: set[int] = set()
        """Choices that call tools."""

    def chunks(self, data: bytes) -> list[bytes]:
        """A chunk as it is to leave, after others that come before it."""
        fields = _decode(data)
        before: list[bytes] = []
        changed = False
        for at, choice in enumerate(fields.get("choices") or ()):
            index = choice.get("index", at)
            holder, name = _place(choice, "delta")
            if any(holder.get(call) for call in _CALLS):
                self._calls.add(index)
            said = holder.get(name)
            if self._notice.at_start and holder.get("annotations"):
                _shift_citations(holder, self._notice.text)
                changed = True
            if isinstance(said, str) and said.strip() and index not in self._begun:
                self._begun.add(index)
                if self._notice.at_start:
                    holder[name] = _started(said, self._notice.text)
                    changed = True
            if choice.get("finish_reason") and self._ends(index):
                last = _APART + self._notice.text
                if said:
                    holder[name] = said + last
                    changed = True
                else:
                    before.append(_chunk(fields, index, name, last))
        return [*before, _encode(fields) if changed else data]

    def _ends(self, index: int) -> bool:
        """Whether a choice that ends gets the notice now."""
        if self._notice.at_start or index in self._calls or index not in self._begun:
            return False
        self._begun.discard(index)
        return True


def _chunk(of: dict[str, Any], index: int, name: str, text: str) -> bytes:
    """A chunk of the same stream that says one thing."""
    said: dict[str, Any] = {"text": text} if name == "text" else {"delta": {"content": text}}
    choice = {"index": index, **said, "finish_reason": None}
    head = {key: value for key, value in of.items() if key != "usage"}
    return _encode({**head, "choices": [choice]})
