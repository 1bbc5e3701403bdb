"""Dialects: how a vendor's chat API differs from OpenAI's, as data.


`core.formats.parameter_bridge` applies it to parameters, `core.formats.message_bridge` and
`core.formats.tool_bridge` to what stands inside messages and tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from tokenschain.core.formats.message_rules import MessageRules
from tokenschain.core.formats.thinking import THINKING_KEYS, ThinkingStyle
from tokenschain.core.steering import STEERING

WATCHED_OF_TRANSLATED = THINKING_KEYS | {
    "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "stop",
}  # fmt: skip
"""Fields of a request of another API than OpenAI's chat that are looked at for any vendor."""


class History(StrEnum):
    """What a vendor wants of the reasoning in earlier assistant messages."""

    KEEP = "keep"
    RETURN = "return"
    """Must come back on messages with tool calls; a space stands in where it is lost."""
    STRIP = "strip"
    """Refused: taken out."""


class Bounds(NamedTuple):
    """What a vendor takes of a numeric parameter; values beyond are moved to the nearest."""

    lowest: float
    highest: float


class ModelRule(NamedTuple):
    """What only some of a vendor's models refuse."""

    models: str
    """A regular expression found in the model's name."""
    refused: frozenset[str] = frozenset()
    exclusive: tuple[str, ...] = ()
    """Parameters of which one may be given; the first is kept."""
    renames: Mapping[str, str] = {}


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One vendor's differences. What is not said is as with OpenAI."""

    thinking: ThinkingStyle = ThinkingStyle.UNTOUCHED
    thinking_by_model: Mapping[str, ThinkingStyle] = {}
    """By the beginning of the model's name, where a vendor has several ways."""
    efforts: Mapping[str, str] = {}
    """Efforts the vendor knows, by the callers' names for them."""
    thinks_unasked: bool = False
    """Whether its models think when nothing is said."""
    budget_lowest: int = 1
    """The least budget for thinking that it takes, in tokens."""
    thinks_beside_limit: bool = False
    """Whether `max_tokens` counts the answer alone, so that thinking must be taken off it."""
    adaptive_only: str = r"(?!)"
    """Models that take no budget but think adaptively; a regular expression."""
    adaptive_known: str = r"(?!)"
    """Models that may think adaptively."""
    forced_choice_thinks: bool = True
    """Whether a forced `tool_choice` and thinking go together."""
    history: History = History.KEEP
    renames: Mapping[str, str] = {}
    refused: frozenset[str] = frozenset()
    """Parameters the vendor does not offer; with those of `steering`."""
    steering: frozenset[str] = STEERING
    """Parameters that it may know and that are not passed on."""
    known: frozenset[str] | None = None
    """All parameters it offers, where every other one is refused or has no place."""
    by_model: tuple[ModelRule, ...] = ()
    bounds: Mapping[str, Bounds] = {}
    values: Mapping[str, Mapping[str, str]] = {}
    """Words that a parameter may have, by the callers' for them; others are left out."""
    stops_max: int | None = None
    blank_stops: bool = True
    """Whether a stop sequence may be blank."""
    dropped_when_thinking: frozenset[str] = frozenset()
    """Parameters refused by the vendor's thinking models; dropped when thinking is on."""
    tool_choice_required: str | None = "required"
    """The vendor's word for it; None where it is not offered (asked for in the prompt)."""
    tool_choice_none: bool = True
    """Whether calling no tool can be asked for; else the tools are left out."""
    tool_choice_named: bool = True
    """Whether one tool can be named as the choice."""
    tool_choice_by_schema: bool = False
    """Whether a forced choice is made by a schema that only calls fit: see `forced_calls`."""
    json_schema: bool = True
    """Whether `response_format: json_schema` is offered."""
    json_mode: bool = True
    """Whether `response_format: json_object` is."""
    choices_max: int = 128
    completions_refused: frozenset[str] = frozenset()
    """What its text completions do not offer."""
    many_prompts: bool = True
    """Whether a text completion takes several prompts, and counts the tokens of all."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is known."""
    messages: MessageRules = MessageRules()
    translated_messages: MessageRules | None = None
    """Rules for requests of another API than OpenAI's chat, where they are stricter."""
    part_models: Mapping[str, str] = {}
    """Kinds of content parts that only some models take, as regular expressions."""
    messages_by_model: dict[tuple[str, bool], MessageRules] = {}
    """The rules of one model; made when they are first asked for."""

    watched: frozenset[str] = frozenset()
    """The fields that any rule looks at; made from the others."""
    watched_by_model: dict[str, frozenset[str]] = {}
    """The same with the rules of one model; made when it is first asked for."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "refused", self.refused | self.steering)
        watched = {
            *self.refused,
            *self.renames,
            *self.bounds,
            *self.values,
            *self.dropped_when_thinking,
        }
        if self.thinking is not ThinkingStyle.UNTOUCHED:
            watched |= THINKING_KEYS
        if not (
            self.tool_choice_required == "required"
            and self.forced_choice_thinks
            and self.tool_choice_named
            and not self.tool_choice_by_schema
        ):
            watched.add("tool_choice")
        if not self.json_schema:
            watched.add("response_format")
        if self.stops_max is not None:
            watched.add("stop")
        msgspec.structs.force_setattr(self, "watched", frozenset(watched))
        msgspec.structs.force_setattr(self, "watched_by_model", {})
        msgspec.structs.force_setattr(self, "messages_by_model", {})

    def watched_of(self, model: str) -> frozenset[str]:
        """The fields that any rule for this model looks at."""
        if not self.by_model:
            return self.watched
        found = self.watched_by_model.get(model)
        if found is None:
            more = [
                set(r.refused) | set(r.exclusive) | set(r.renames) for r in self.rules_of(model)
            ]
            found = self.watched_by_model[model] = self.watched.union(*more)
        return found

    def passing(self, names: Iterable[str]) -> Dialect:
        """The same, but that it passes these on, which steer, whatever their values."""
        passed = STEERING.intersection(names)
        kept = {
            name: words
            for name, words in self.values.items()
            if name not in passed or _translates(words)
        }
        return msgspec.structs.replace(
            self,
            steering=self.steering - passed,
            refused=self.refused - passed,
            values=kept,
        )

    def rules_of(self, model: str) -> list[ModelRule]:
        """What this one model refuses."""
        return [rule for rule in self.by_model if re.search(rule.models, model)]

    def thinking_of(self, model: str) -> ThinkingStyle:
        """How thinking is switched for a model."""
        for beginning, style in self.thinking_by_model.items():
            if model.startswith(beginning):
                return style
        return self.thinking

    def messages_of(self, model: str, *, translated: bool) -> MessageRules:
        """The rules for messages of OpenAI's chat, or for translated ones."""
        found = self.messages_by_model.get((model, translated))
        if found is None:
            found = self.translated_messages or self.messages if translated else self.messages
            parts = found.parts
            if parts is not None:
                for kind, models in self.part_models.items():
                    parts = parts if re.search(models, model) else parts - {kind}
                if parts != found.parts:
                    found = msgspec.structs.replace(found, parts=parts)
            self.messages_by_model[model, translated] = found
        return found


def _translates(words: Mapping[str, str]) -> bool:
    """Whether values have other words at a vendor, and are not only some of all there are."""
    return any(word != said for word, said in words.items())
