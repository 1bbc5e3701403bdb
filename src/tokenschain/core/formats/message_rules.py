"""Message rules: what a vendor takes inside `messages` and `tools`, as data.

`core.formats.message_bridge` and `core.formats.tool_bridge` apply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

MARKS = ("cache_control", "prompt_cache_breakpoint")
"""Markers of caches, on messages, parts, calls and tools; few vendors know any."""


class ToolIds(NamedTuple):
    """What ids of tool calls a vendor takes; others are replaced on both sides of the pair."""

    pattern: str
    length: int
    """Of the ids made here."""
    prefix: str = ""
    unique: bool = False
    """Whether an id may stand for one call only in a whole conversation."""


class ToolNames(NamedTuple):
    """What names of tools a vendor takes; others are replaced, and turned back in the answer."""

    pattern: str = r"[a-zA-Z0-9_-]{1,64}"
    bad: bytes = rb'"name":\s*"(?:[^"]{65}|[a-zA-Z0-9_-]*[^a-zA-Z0-9_"-])'
    """Found in tools that may have another name."""
    length: int = 64
    """The most characters of the names made here."""


class KnownFields(NamedTuple):
    """All that a vendor knows which refuses every field it does not."""

    messages: Mapping[str, frozenset[str]]
    """By role."""
    parts: Mapping[str, frozenset[str]] = {}
    """By kind, beside `type`."""
    calls: frozenset[str] = frozenset({"id", "type", "function"})
    tools: frozenset[str] = frozenset({"type", "function"})
    functions: frozenset[str] = frozenset({"name", "description", "parameters", "strict"})


class MessageRules(msgspec.Struct, frozen=True, kw_only=True):
    """What one vendor takes inside messages and tools. What is not said is as with OpenAI."""

    roles: Mapping[str, str] = MappingProxyType({"developer": "system"})
    """Roles that it knows by another name."""
    joined: frozenset[str] = frozenset()
    """Roles whose content is a string where it is text only."""
    parts: frozenset[str] | None = None
    """Kinds of content parts it takes of a user; None: it is taken at its word."""
    file_sources: frozenset[str] = frozenset({"file_data", "file_url", "file_id"})
    """How a file may be given, where files are taken."""
    file_media: str = ""
    """The data URLs that it takes as files, as a regular expression; nothing: any."""
    files_as: str = ""
    """The part that a file is to this vendor, where it is another: `document_url`."""
    tool_images: bool = False
    """Whether a tool's result may hold pictures; else they follow in a user's message."""
    tool_ids: ToolIds | None = None
    tool_names: ToolNames | None = None
    marks: frozenset[str] = frozenset()
    """Those of `MARKS` that it knows."""
    known: KnownFields | None = None
    always: bool = False
    """Whether messages are read in any case, since no search for bytes can tell."""
    details: bool = True
    """Whether a picture may say how closely it is to be looked at."""
    left_out: frozenset[str] = frozenset()
    """Fields of messages that other vendors' answers have and this one does not take."""
    nulls: bool = True
    """Whether fields of messages may be null."""
    never_empty: frozenset[str] = frozenset()
    """Roles whose messages must say something."""
    blanks: bool = True
    """Whether a text may be empty or blank."""
    alternates: bool = False
    """Whether user and assistant must take turns."""
    system_first: bool = False
    """Whether there is one system message, at the beginning, and others after it."""
    user_first: bool = False
    """Whether it is a user who speaks first."""
    user_last: bool = False
    """Whether the assistant may not have the last word."""
    user_after_tool: bool = True
    """Whether a user may speak right after a tool, before the assistant did."""
    prefill_mark: str = ""
    """The field that marks a last message of the assistant as the beginning of the answer."""
    json_arguments: bool = False
    """Whether the arguments of calls must be JSON objects; a cut one is kept inside one."""
    custom_tools: bool = False
    """Whether freeform tools are known; else they become functions of one text."""
    functions: bool = True
    """Whether the older `function_call` and role `function` are known."""
    declared: bool = False
    """Whether tools that the history uses must be declared."""
    signed: bool = False
    """Whether thinking needs its own, signed words at the beginning of a turn under way."""

    unknown_marks: tuple[str, ...] = ()
    """Those of `MARKS` that it does not know; made of the rules, as the next ones."""
    plain_roles: frozenset[bytes] = frozenset()
    """Roles, as JSON, whose messages of a text alone need no look; made of the rules."""
    by_role: frozenset[str] = frozenset()
    """Made of the rules where they are few: without one of these roles no rule applies."""
    read_by_role: bool = False
    """Whether the role of a message that is a text tells if it must be read; made of the rules."""
    searches: tuple[tuple[bytes, ...], ...] = ()
    """Made of the rules where they are few: what stands in messages that must be read, alone or
    together with one of those that follow."""

    def __post_init__(self) -> None:
        unknown = tuple(mark for mark in MARKS if mark not in self.marks)
        msgspec.structs.force_setattr(self, "unknown_marks", unknown)
        plain = {"system", "developer", "user", "assistant", "tool"} - self.roles.keys()
        roles = frozenset(b'"%b"' % role.encode() for role in plain)
        msgspec.structs.force_setattr(self, "plain_roles", roles)
        by_role_alone = self.blanks and not (
            self.always or self.alternates or self.system_first or self.never_empty
        )
        msgspec.structs.force_setattr(self, "read_by_role", by_role_alone)
        few = not (self.joined or self.parts or self.left_out or self.never_empty or self.known)
        found: list[tuple[bytes, ...]] = []
        if few and self.nulls and self.blanks and self.functions and self.tool_ids is None:
            found += [(b'"%b"' % role.encode(),) for role in self.roles]
            found += [(b'"%b"' % mark.encode(),) for mark in unknown]
            found.append((b'"tool', b'"image_url"', b'"file"', b'"custom"'))
            if not unknown:
                by_role = frozenset({*self.roles, "tool"})
                msgspec.structs.force_setattr(self, "by_role", by_role)
        msgspec.structs.force_setattr(self, "searches", tuple(found))
