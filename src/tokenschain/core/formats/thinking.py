"""Thinking switches: the ways callers write them and the ways vendors read them.

A caller's output limit always holds: a budget for thinking is fitted inside it, never added.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError

_decode = msgspec.json.decode


class ThinkingStyle(StrEnum):
    """The field by which a vendor switches thinking."""

    FLAG = "enable_thinking"
    """`enable_thinking` and `thinking_budget`: Alibaba, SiliconFlow, Qianfan."""
    TYPE = "thinking"
    """`thinking: {type}`: DeepSeek, Kimi, GLM, Doubao, Huawei, TokenHub."""
    BUDGET = "thinking_with_budget"
    """`thinking: {type, budget_tokens}`, the budget required and inside `max_tokens`; by model
    `adaptive` with `output_config.effort` instead: Anthropic."""
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


THINKING_KEYS = frozenset(
    {"enable_thinking", "thinking_budget", "thinking", "reasoning_effort", "reasoning",
     "chat_template_kwargs", "output_config"}
)  # fmt: skip
EFFORT_BUDGETS = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 4_096,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
"""Tokens for vendors that take a budget and callers who give an effort; our own choice."""
BUDGET_DEFAULT = 4_096
ANSWER_SHARE = 4
"""A budget that does not fit leaves one part in so many of the limit to the answer."""


class Thinking(NamedTuple):
    """What a caller wants of thinking, whichever way it was said."""

    on: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None
    adaptive: bool = False
    """Asked for as `adaptive`: the model decides how much."""


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


class _OutputConfig(msgspec.Struct):
    effort: str | None = None


def thinking_of(fields: Mapping[str, Raw]) -> Thinking:
    """Read the switch in whichever of the known ways it is written.

    `output_config.effort` alone is no switch: it says how much, not whether.

    Raises:
        ApiError: `invalid_value`, when it is written in none of them.
    """
    name = ""
    found = Thinking()
    hint: str | None = None
    try:
        for name in sorted(THINKING_KEYS & fields.keys()):
            value = _decode(fields[name])
            if value is None:
                continue
            if name == "output_config":
                hint = msgspec.convert(value, _OutputConfig).effort
            else:
                found = _with(found, name, value)
    except msgspec.ValidationError as error:
        raise ApiError(
            "invalid_value", f"Invalid value for `{name}`: {error}.", param=name
        ) from None
    on = found.on
    if on is None and found.effort is not None:
        on = found.effort != "none"
    if on is None and found.budget_tokens is not None:
        on = found.budget_tokens > 0
    return found._replace(on=on, effort=found.effort or hint)


def _with(found: Thinking, name: str, value: Any) -> Thinking:
    match name:
        case "enable_thinking":
            return found._replace(on=msgspec.convert(value, bool))
        case "thinking_budget":
            return found._replace(budget_tokens=msgspec.convert(value, int))
        case "reasoning_effort":
            return found._replace(effort=msgspec.convert(value, str))
        case "thinking":
            given = msgspec.convert(value, _ThinkingType)
            on = {"enabled": True, "adaptive": True, "auto": True, "disabled": False}.get(
                given.type, found.on
            )
            budget = given.budget_tokens or found.budget_tokens
            return found._replace(
                on=on, budget_tokens=budget, adaptive=given.type in ("adaptive", "auto")
            )
        case "reasoning":
            asked = msgspec.convert(value, _ReasoningObject)
            return found._replace(
                on=found.on if asked.enabled is None else asked.enabled,
                effort=asked.effort or found.effort,
                budget_tokens=asked.max_tokens or found.budget_tokens,
            )
        case _:
            kwargs = msgspec.convert(value, _TemplateSwitches)
            said = kwargs.thinking if kwargs.enable_thinking is None else kwargs.enable_thinking
            return found if said is None else found._replace(on=said)


def effort_for(budget_tokens: int) -> str:
    """The effort whose own budget is nearest below one, for vendors that take efforts only."""
    known = [name for name in ("low", "medium", "high") if EFFORT_BUDGETS[name] <= budget_tokens]
    return known[-1] if known else "low"


def fitted(wanted: int, limit: int | None, lowest: int) -> int | None:
    """A budget for thinking below the caller's output limit, or None where none fits.

    Args:
        limit: of thinking and answer together; None where the caller set none.
        lowest: the least budget that the vendor takes.
    """
    budget = max(wanted, lowest)
    if limit is None or budget < limit:
        return budget
    budget = limit - -(-limit // ANSWER_SHARE)
    return budget if lowest <= budget else None
