"""Dialects: how a vendor's chat API differs from OpenAI's, as data, and the rules that adapt it.

A caller writes any of the known ways to switch thinking, any of the field names for the
output limit, and history with or without reasoning; the rules here turn that into what one
vendor accepts. What cannot be turned is dropped or refused by the call's policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class ThinkingStyle(StrEnum):
    """The field by which a vendor switches thinking."""

    FLAG = "enable_thinking"
    """`enable_thinking` and `thinking_budget`: Alibaba, SiliconFlow, Qianfan."""
    TYPE = "thinking"
    """`thinking: {type}`: DeepSeek, Kimi, GLM, Doubao, Huawei, TokenHub."""
    TEMPLATE = "chat_template_kwargs"
    """`chat_template_kwargs.enable_thinking`: vLLM, SGLang."""
    EFFORT = "reasoning_effort"
    """`reasoning_effort`: OpenAI, Groq, StepFun, Ollama."""
    OBJECT = "reasoning"
    """`reasoning: {effort, max_tokens, enabled}`: OpenRouter."""
    NONE = ""
    """The vendor has no switch: asking is left out."""
    UNTOUCHED = "untouched"
    """Nothing is known of the vendor: it gets what the caller wrote."""


class History(StrEnum):
    """What a vendor wants of the reasoning in earlier assistant messages."""

    KEEP = "keep"
    RETURN = "return"
    """Must come back on messages with tool calls; a space stands in where it is lost."""
    STRIP = "strip"
    """Refused: taken out."""


class Policy(StrEnum):
    """What to do with a parameter a vendor does not offer (`x-tc-unsupported`)."""

    AUTO = "auto"
    """Emulate where possible, drop mere hints, refuse what changes the answer's form."""
    ERROR = "error"
    DROP = "drop"
    EMULATE = "emulate"


HINTS = frozenset(
    {
        "seed", "user", "metadata", "service_tier", "store", "safety_identifier", "logit_bias",
        "frequency_penalty", "presence_penalty", "parallel_tool_calls", "prompt_cache_key",
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "verbosity", "prediction",
    }
)  # fmt: skip
"""Parameters without which an answer is still an answer to the question."""
THINKING_KEYS = frozenset(
    {"enable_thinking", "thinking_budget", "thinking", "reasoning_effort", "reasoning",
     "chat_template_kwargs"}
)  # fmt: skip
_EFFORT_BUDGETS = {"minimal": 512, "low": 1_024, "medium": 4_096, "high": 16_384, "max": 32_768}
"""Tokens for vendors that take a budget and callers who give an effort; our own choice."""
_LOST_REASONING = " "
"""DeepSeek and Kimi accept a single space where the reasoning is not known any more."""


class Thinking(NamedTuple):
    """What a caller wants of thinking, whichever way it was said."""

    on: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None


class Bounds(NamedTuple):
    """What a vendor takes of a numeric parameter; values beyond are moved to the nearest."""

    lowest: float
    highest: float


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One vendor's differences. What is not said is as with OpenAI."""

    thinking: ThinkingStyle = ThinkingStyle.UNTOUCHED
    thinking_by_model: Mapping[str, ThinkingStyle] = {}
    """By the beginning of the model's name, where a vendor has several ways."""
    efforts: Mapping[str, str] = {}
    """Efforts the vendor knows by other names."""
    history: History = History.KEEP
    renames: Mapping[str, str] = {}
    refused: frozenset[str] = frozenset()
    """Parameters the vendor does not offer."""
    bounds: Mapping[str, Bounds] = {}
    dropped_when_thinking: frozenset[str] = frozenset()
    """Parameters refused by the vendor's thinking models; dropped when thinking is on."""
    tool_choice_required: str | None = "required"
    """The vendor's word for it; None where it is not offered (asked for in the prompt)."""
    json_schema: bool = True
    """Whether `response_format: json_schema` is offered."""
    json_mode: bool = True
    """Whether `response_format: json_object` is."""
    choices_max: int = 128
    many_prompts: bool = True
    """Whether a text completion takes several prompts, and counts the tokens of all."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is known."""

    watched: frozenset[str] = frozenset()
    """The fields that any rule looks at; made from the others."""

    def __post_init__(self) -> None:
        watched = {*self.refused, *self.renames, *self.bounds, *self.dropped_when_thinking}
        if self.thinking is not ThinkingStyle.UNTOUCHED:
            watched |= THINKING_KEYS
        if self.tool_choice_required != "required":
            watched.add("tool_choice")
        if not self.json_schema:
            watched.add("response_format")
        msgspec.structs.force_setattr(self, "watched", frozenset(watched))

    def thinking_of(self, model: str) -> ThinkingStyle:
        """How thinking is switched for a model."""
        for beginning, style in self.thinking_by_model.items():
            if model.startswith(beginning):
                return style
        return self.thinking


class Bridged(NamedTuple):
    """A request in a vendor's dialect, and what was lost on the way."""

    fields: dict[str, Raw]
    dropped: tuple[str, ...] = ()
    emulated: tuple[str, ...] = ()
    thinking: bool | None = None
    schema: bytes | None = None
    """The JSON schema that was emulated: to be checked, since it was only asked for."""


def bridge(
    fields: dict[str, Raw], model: str, dialect: Dialect, policy: Policy = Policy.AUTO
) -> Bridged:
    """Turn a request's fields into what a vendor accepts; the given ones stay as they are.

    Raises:
        ApiError: `unsupported_parameter`, when the policy says so.
    """
    work = _Bridge(dict(fields), model, dialect, policy)
    work.switch_thinking()
    work.rename()
    work.bound()
    work.choose_tools()
    work.emulate_schema()
    work.refuse()
    work.rewrite_history()
    return Bridged(
        work.fields, tuple(work.dropped), tuple(work.emulated), work.thinking.on, work.schema
    )


def touches(dialect: Dialect, fields: Mapping[str, Raw]) -> bool:
    """Whether any rule may apply: cheap, and false for nearly every call."""
    if not fields.keys().isdisjoint(dialect.watched):
        return True
    if dialect.history is History.KEEP:
        return False
    text = bytes(fields.get("messages", b""))
    return b'"reasoning' in text or b'"tool_calls"' in text


def thinking_of(fields: Mapping[str, Raw]) -> Thinking:
    """Read the switch in whichever of the known ways it is written.

    Raises:
        ApiError: `invalid_value`, when it is written in none of them.
    """
    name = ""
    on: bool | None = None
    effort: str | None = None
    budget: int | None = None
    try:
        for name in THINKING_KEYS & fields.keys():
            value = _decode(fields[name])
            if value is None:
                continue
            match name:
                case "enable_thinking":
                    on = msgspec.convert(value, bool)
                case "thinking_budget":
                    budget = msgspec.convert(value, int)
                case "reasoning_effort":
                    effort = msgspec.convert(value, str)
                case "thinking":
                    given = msgspec.convert(value, _ThinkingType)
                    on = {"enabled": True, "adaptive": True, "disabled": False}.get(given.type)
                    budget = given.budget_tokens or budget
                case "reasoning":
                    asked = msgspec.convert(value, _ReasoningObject)
                    on = asked.enabled if asked.enabled is not None else on
                    effort, budget = asked.effort or effort, asked.max_tokens or budget
                case "chat_template_kwargs":
                    kwargs = msgspec.convert(value, _TemplateSwitches)
                    said = kwargs.enable_thinking
                    on = kwargs.thinking if said is None else said
    except msgspec.ValidationError as error:
        raise ApiError(
            "invalid_value", f"Invalid value for `{name}`: {error}.", param=name
        ) from None
    if on is None and effort is not None:
        on = effort != "none"
    if on is None and budget is not None:
        on = budget > 0
    return Thinking(on, effort, budget)


class _ThinkingType(msgspec.Struct):
    type: str = "enabled"
    budget_tokens: int | None = None


class _ReasoningObject(msgspec.Struct):
    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class _TemplateSwitches(msgspec.Struct):
    enable_thinking: bool | None = None
    thinking: bool | None = None


class _Bridge:
    """The rules, one method each, over one copy of a request's fields."""

    def __init__(
        self, fields: dict[str, Raw], model: str, dialect: Dialect, policy: Policy
    ) -> None:
        self.fields = fields
        self.model = model
        self.dialect = dialect
        self.policy = policy
        self.dropped: list[str] = []
        self.emulated: list[str] = []
        self.thinking = Thinking()
        self.schema: bytes | None = None

    def switch_thinking(self) -> None:
        present = THINKING_KEYS & self.fields.keys()
        if not present:
            return
        self.thinking = wanted = thinking_of(self.fields)
        style = self.dialect.thinking_of(self.model)
        if style is ThinkingStyle.UNTOUCHED:
            return
        kwargs = self.fields.get("chat_template_kwargs")
        for name in present:
            del self.fields[name]
        if kwargs is not None and style is ThinkingStyle.TEMPLATE:
            self.fields["chat_template_kwargs"] = kwargs
        for name, value in self._switch(style, wanted).items():
            self.fields[name] = Raw(_encode(value))
        if style is ThinkingStyle.NONE and wanted.on:
            self.dropped += sorted(present)

    def _switch(self, style: ThinkingStyle, wanted: Thinking) -> dict[str, object]:
        on, effort = wanted.on, wanted.effort
        budget = wanted.budget_tokens
        if effort is not None and effort in self.dialect.efforts:
            effort = self.dialect.efforts[effort]
        made: dict[str, object] = {}
        match style:
            case ThinkingStyle.FLAG:
                if on is not None:
                    made["enable_thinking"] = on
                if on and (budget or effort):
                    made["thinking_budget"] = budget or _EFFORT_BUDGETS.get(effort or "", 4_096)
            case ThinkingStyle.TYPE:
                if on is not None:
                    made["thinking"] = {"type": "enabled" if on else "disabled"}
                    if on and budget is not None:
                        made["thinking"] = {"type": "enabled", "budget_tokens": budget}
                if on and effort is not None and self.dialect.efforts:
                    made["reasoning_effort"] = effort
            case ThinkingStyle.TEMPLATE:
                if on is not None and "chat_template_kwargs" not in self.fields:
                    made["chat_template_kwargs"] = {"enable_thinking": on}
            case ThinkingStyle.EFFORT:
                if effort is not None and effort != "none":
                    made["reasoning_effort"] = effort
                elif on is not None:
                    made["reasoning_effort"] = "medium" if on else "none"
            case ThinkingStyle.OBJECT:
                made["reasoning"] = {
                    name: value
                    for name, value in (
                        ("enabled", on if effort is None and budget is None else None),
                        ("effort", effort),
                        ("max_tokens", budget if effort is None else None),
                    )
                    if value is not None
                }
        return made

    def rename(self) -> None:
        for theirs, ours in self.dialect.renames.items():
            value = self.fields.pop(theirs, None)
            if value is not None:
                self.fields.setdefault(ours, value)

    def bound(self) -> None:
        for name, limits in self.dialect.bounds.items():
            raw = self.fields.get(name)
            if raw is None or bytes(raw) == b"null":
                continue
            value = float(_decode(raw))
            nearest = min(max(value, limits.lowest), limits.highest)
            if nearest != value:
                self.fields[name] = Raw(_encode(nearest))
                self.dropped.append(f"{name}={value:g}")
        if self.thinking.on is not False:
            for name in self.dialect.dropped_when_thinking & self.fields.keys():
                del self.fields[name]
                self.dropped.append(name)

    def choose_tools(self) -> None:
        raw = self.fields.get("tool_choice")
        if raw is None or bytes(raw) != b'"required"':
            return
        word = self.dialect.tool_choice_required
        if word is not None:
            self.fields["tool_choice"] = Raw(_encode(word))
            return
        if self.policy is Policy.ERROR:
            raise _unsupported("tool_choice", "it cannot be made to call a tool")
        self.fields["tool_choice"] = Raw(b'"auto"')
        self._say("You must answer by calling one of the tools.")
        self.emulated.append("tool_choice")

    def emulate_schema(self) -> None:
        raw = self.fields.get("response_format")
        if raw is None or self.dialect.json_schema:
            return
        wanted = _decode(raw, type=_Format)
        schema = wanted.json_schema if wanted.type == "json_schema" else None
        if wanted.type == "text" or (schema is None and self.dialect.json_mode):
            return
        if self.policy is Policy.ERROR:
            raise _unsupported("response_format", "it has no such format")
        if self.policy is Policy.DROP:
            del self.fields["response_format"]
            self.dropped.append("response_format")
            return
        if self.dialect.json_mode:
            self.fields["response_format"] = Raw(b'{"type":"json_object"}')
        else:
            del self.fields["response_format"]
        said = "Answer with one JSON object and nothing else."
        if schema is not None:
            self.schema = bytes(schema.schema)
            said += f" Its JSON schema: {self.schema.decode()}"
        self._say(said)
        self.emulated.append("response_format")

    def _say(self, text: str) -> None:
        """Add a sentence to the system prompt."""
        messages = _decode(self.fields["messages"], type=list[dict[str, Raw]])
        first = messages[0] if messages else {}
        role = bytes(first.get("role", b""))
        if role in (b'"system"', b'"developer"') and bytes(first["content"])[:1] == b'"':
            first["content"] = Raw(_encode(f"{_decode(first['content'])}\n\n{text}"))
        else:
            system = {"role": Raw(b'"system"'), "content": Raw(_encode(text))}
            messages.insert(0, system)
        self.fields["messages"] = Raw(_encode(messages))

    def refuse(self) -> None:
        for name in sorted(self.dialect.refused & self.fields.keys()):
            if bytes(self.fields[name]) in (b"null", b"false", b"[]", b"{}"):
                del self.fields[name]
                continue
            if self.policy is Policy.ERROR or (
                self.policy is not Policy.DROP and name not in HINTS
            ):
                raise _unsupported(name, "it does not offer it")
            del self.fields[name]
            self.dropped.append(name)

    def rewrite_history(self) -> None:
        rule = self.dialect.history
        raw = self.fields.get("messages")
        if raw is None:
            return
        text = bytes(raw)
        told = b'"reasoning' in text
        needed = (
            rule is History.RETURN and b'"tool_calls"' in text and self.thinking.on is not False
        )
        if not told and not needed:
            return
        messages = _decode(text, type=list[dict[str, Raw]])
        for message in messages:
            if bytes(message.get("role", b"")) != b'"assistant"':
                continue
            other = message.pop("reasoning", None)
            if other is not None:
                message.setdefault("reasoning_content", other)
            if rule is History.STRIP:
                message.pop("reasoning_content", None)
                message.pop("reasoning_details", None)
            elif needed and "tool_calls" in message:
                lost = bytes(message.get("reasoning_content", b"null")) in (b"null", b'""')
                if lost:
                    message["reasoning_content"] = Raw(_encode(_LOST_REASONING))
        self.fields["messages"] = Raw(_encode(messages))


class _Schema(msgspec.Struct):
    schema: Raw = Raw(b"{}")


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


def _unsupported(name: str, why: str) -> ApiError:
    return ApiError(
        "unsupported_parameter",
        f"The upstream of this model does not take `{name}` as asked: {why}. "
        "Send `x-tc-unsupported: drop` to go without.",
        param=name,
    )
