"""Parameter bridge: a request's parameters as one vendor accepts them (`core.formats.dialect`).

A caller writes any of the known ways to switch thinking, any of the field names for the
output limit, and history with or without reasoning; the rules here turn that into what one
vendor accepts. What cannot be turned is dropped or refused by the call's policy. Messages and
tools have bridges of their own: `core.formats.message_bridge`, `core.formats.tool_bridge`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.formats import forced_calls, message_bridge, tool_bridge
from tokenschain.core.formats.bridged_request import Bridged, Origin
from tokenschain.core.formats.dialect import WATCHED_OF_TRANSLATED, Dialect, History
from tokenschain.core.formats.thinking import (
    BUDGET_DEFAULT,
    EFFORT_BUDGETS,
    THINKING_KEYS,
    Thinking,
    ThinkingStyle,
    effort_for,
    fitted,
    thinking_of,
)
from tokenschain.core.formats.translation_changes import (
    ESSENTIAL,
    NOT_OFFERED,
    NOT_PASSED_ON,
    Changes,
    Policy,
    listed,
)
from tokenschain.core.steering import STEERING

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_NOTHING = (b"null", b"false", b"[]", b"{}", b'""', b'["text"]')
_DEFAULTS = {
    "temperature": (b"1", b"1.0"),
    "top_p": (b"1", b"1.0"),
    "presence_penalty": (b"0", b"0.0"),
    "frequency_penalty": (b"0", b"0.0"),
    "service_tier": (b'"auto"', b'"default"'),
    "n": (b"1",),
}
"""Values that say what is so anyway: left out without a word."""
_EFFORT_LADDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_LOST_REASONING = " "
"""DeepSeek and Kimi accept a single space where the reasoning is not known any more."""
LIMITS = ("max_completion_tokens", "max_tokens")
ANSWER_TOKENS_DEFAULT = 4_096
"""Left to the answer beside a thinking budget where the caller set no limit."""


def bridge(
    fields: dict[str, Raw],
    model: str,
    dialect: Dialect,
    policy: Policy = Policy.AUTO,
    origin: Origin = Origin(),
) -> Bridged:
    """Turn a request's fields into what a vendor accepts; the given ones stay as they are.

    Raises:
        ApiError: `unsupported_parameter`, when the policy says so.
    """
    work = _Bridge(dict(fields), model, dialect, policy, origin)
    work.changes.settle(origin.losses)
    work.translate_functions()
    work.bridge_messages()
    work.cap()
    work.choose_tools()
    work.switch_thinking()
    work.rename()
    work.bound()
    work.emulate_schema()
    work.refuse()
    work.rewrite_history()
    work.write_messages()
    changes = work.changes
    if work.names.callers:
        changes.adapt("tool_names")
    return Bridged(
        work.fields,
        listed(changes.dropped),
        listed(changes.emulated),
        work.thinking.on,
        work.schema,
        listed(changes.adapted),
        work.freeform,
        work.older_functions,
        work.names.callers,
        work.called_by_schema,
    )


def touches(
    dialect: Dialect,
    model: str,
    fields: Mapping[str, Raw],
    roles: frozenset[str],
    *,
    texts: bool = False,
    translated: bool = False,
) -> bool:
    """Whether any rule may apply to a request: false for nearly every call.

    Args:
        roles: who speaks in its messages.
        texts: whether each of them is known to be a text and nothing beside it.
        translated: whether it came in by another API than OpenAI's chat.
    """
    watched = dialect.watched_of(model) if dialect.by_model else dialect.watched
    if not fields.keys().isdisjoint(watched):
        return True
    if translated and not (texts and fields.keys().isdisjoint(WATCHED_OF_TRANSLATED)):
        return True
    if dialect.known is not None and not fields.keys() <= dialect.known:
        return True
    tools = fields.get("tools")
    if tools is not None and tool_bridge.tools_apply(dialect.messages, bytes(tools)):
        return True
    rules = dialect.messages_of(model, translated=True) if translated else dialect.messages
    if rules.by_role and roles.isdisjoint(rules.by_role):
        return False
    if texts and rules.read_by_role:
        return not roles.isdisjoint(rules.roles)
    return message_bridge.applies(rules, bytes(fields["messages"]))


def _number(raw: Raw | None) -> int | None:
    return None if raw is None or bytes(raw) == b"null" else int(_decode(raw))


class _Bridge:
    """The rules, one method each, over one copy of a request's fields."""

    def __init__(
        self,
        fields: dict[str, Raw],
        model: str,
        dialect: Dialect,
        policy: Policy,
        origin: Origin,
    ) -> None:
        self.fields = fields
        self.model = model
        self.dialect = dialect
        self.policy = policy
        self.origin = origin
        self.changes = Changes(policy, origin.names)
        self.rules = dialect.messages_of(model, translated=origin.translated)
        self.thinking = Thinking()
        self.schema: bytes | None = None
        self.freeform: frozenset[str] = frozenset()
        self.older_functions = False
        self.messages: list[dict[str, Raw]] | None = None
        """The messages, once they were read; written at the end."""
        self.called_by_schema = False
        self.names = tool_bridge.ToolNameMap(self.rules.tool_names)
        self.unsigned = False
        self.amount = "reasoning_effort"
        """The caller's field that `reasoning_effort` was made of."""

    def _read_messages(self) -> list[dict[str, Raw]]:
        if self.messages is None:
            self.messages = _decode(self.fields["messages"], type=list[dict[str, Raw]])
        return self.messages

    def _has(self, name: str) -> bool:
        return bytes(self.fields.get(name, b"null")) not in _NOTHING

    def _offers(self, name: str) -> bool:
        known = self.dialect.known
        return name not in self.dialect.refused and (known is None or name in known)

    # --- messages and tools -------------------------------------------------------------

    def translate_functions(self) -> None:
        """The older `functions` and `function_call` as tools, where only those are offered."""
        raw = self.fields.get("functions")
        if raw is None or self._offers("functions") or not self._has("functions"):
            return
        functions = _decode(raw, type=list[Raw])
        self.changes.emulate("functions", "it knows `tools` only")
        tools = [{"type": "function", "function": function} for function in functions]
        self.fields.setdefault("tools", Raw(_encode(tools)))
        del self.fields["functions"]
        choice = self.fields.pop("function_call", None)
        if choice is not None and bytes(choice)[:1] == b"{":
            choice = Raw(_encode({"type": "function", "function": choice}))
        if choice is not None and bytes(choice) != b"null":
            self.fields.setdefault("tool_choice", choice)
        self.older_functions = True

    def bridge_messages(self) -> None:
        raw = self.fields.get("messages")
        if raw is None:
            return
        tools = self.fields.get("tools")
        if tools is not None and tool_bridge.tools_apply(self.rules, bytes(tools)):
            made = tool_bridge.bridge_tools(bytes(tools), self.rules, self.changes, self.names)
            self.freeform = made.freeform
            self.fields["tools"] = Raw(_encode(made.tools))
        if not self._has("tools"):
            self.fields.pop("tools", None)
        if not message_bridge.applies(self.rules, bytes(raw)):
            return
        bridged = message_bridge.bridge_messages(bytes(raw), self.rules, self.changes, self.names)
        self.fields["messages"] = Raw(_encode(bridged.messages))
        self.unsigned = bridged.unsigned
        if bridged.tools_used and "tools" not in self.fields:
            # Calling none of them is as good as their not being there.
            self.fields["tools"] = tool_bridge.declared(bridged.tools_used)
            self.fields["tool_choice"] = Raw(b'"none"')
            self.changes.adapt("tools")

    def choose_tools(self) -> None:
        if "tools" not in self.fields and "functions" not in self.fields:
            for name in ("tool_choice", "parallel_tool_calls"):
                self.fields.pop(name, None)
            return
        raw = self.fields.get("tool_choice")
        if raw is None:
            return
        if bytes(raw) == b'"none"' and not self.dialect.tool_choice_none:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                self.fields.pop(name, None)
            self.changes.adapt("tool_choice")
            return
        if bytes(raw)[:1] == b"{":
            self._choose_named(_decode(raw))
        if self.dialect.tool_choice_by_schema and self._force_by_schema():
            return
        if bytes(self.fields.get("tool_choice", b"")) == b'"required"':
            word = self.dialect.tool_choice_required
            if word is not None:
                self.fields["tool_choice"] = Raw(_encode(word))
                return
            self._ask_for_tool("You must answer by calling one of the tools.")

    def _force_by_schema(self) -> bool:
        """A forced call as a schema; false where none is forced."""
        choice = _decode(self.fields["tool_choice"])
        named = isinstance(choice, dict) and choice.get("type") == "function"
        if choice != "required" and not named:
            return False
        name = self.names.of(_tool_name(choice)) if named else ""
        wanted = forced_calls.schema_of(_decode(self.fields["tools"]), name)
        if wanted is None:
            return False
        self.fields |= {"response_format": Raw(_encode(wanted)), "tool_choice": Raw(b'"auto"')}
        self.called_by_schema = True
        self.changes.emulate("tool_choice", "it cannot be made to call a tool")
        return True

    def _choose_named(self, choice: dict[str, Any]) -> None:
        """One tool by its name, or those that are allowed."""
        if choice.get("type") == "allowed_tools" and self.rules.custom_tools is False:
            allowed = choice.get("allowed_tools") or {}
            names = [self.names.of(_tool_name(tool)) for tool in allowed.get("tools") or ()]
            tools = [t for t in _decode(self.fields["tools"]) if _tool_name(t) in names]
            if tools:
                self.fields["tools"] = Raw(_encode(tools))
                self.fields["tool_choice"] = Raw(_encode(allowed.get("mode") or "auto"))
                self.changes.adapt("tool_choice")
            else:
                del self.fields["tool_choice"]
                self.changes.drop("tool_choice", "it names none of the tools")
            return
        name = self.names.of(_tool_name(choice))
        freeform = choice.get("type") == "custom" and _tool_name(choice) in self.freeform
        if freeform or name != _tool_name(choice):
            named = {"type": "function", "function": {"name": name}}
            self.fields["tool_choice"] = Raw(_encode(named))
        if not self.dialect.tool_choice_named and name:
            self._ask_for_tool(f"You must answer by calling the tool `{name}`.")

    def _ask_for_tool(self, said: str) -> None:
        self.changes.emulate("tool_choice", "it cannot be made to call a tool")
        self.fields["tool_choice"] = Raw(b'"auto"')
        self._say(said)

    # --- thinking -----------------------------------------------------------------------

    def switch_thinking(self) -> None:
        present = THINKING_KEYS & self.fields.keys()
        dialect = self.dialect
        style = dialect.thinking_of(self.model)
        wanted = thinking_of(self.fields) if present else Thinking()
        if style is ThinkingStyle.UNTOUCHED:
            self.thinking = wanted
            if not self.origin.translated:
                return
            # What the caller wrote is another API's; chat has one word for it.
            style = ThinkingStyle.EFFORT if wanted.on else ThinkingStyle.NONE
        wanted = self._give_way(wanted, present)
        self.thinking = wanted
        if not present and wanted.on is None:
            return
        kwargs = self.fields.get("chat_template_kwargs")
        for name in present:
            del self.fields[name]
        if kwargs is not None and style is ThinkingStyle.TEMPLATE:
            self.fields["chat_template_kwargs"] = kwargs
        for name, value in self._switch(style, wanted, present).items():
            self.fields[name] = Raw(_encode(value))

    def _give_way(self, wanted: Thinking, present: frozenset[str]) -> Thinking:
        """Thinking is left out where it cannot be together with what else is asked."""
        dialect = self.dialect
        thinks = wanted.on is True or (wanted.on is None and dialect.thinks_unasked)
        why = ""
        if thinks and self._forced() and not dialect.forced_choice_thinks:
            why = "it does not think while it is made to call a tool"
        elif wanted.on and self.unsigned:
            why = "the turn under way was begun without its signed thinking"
        if not why:
            return wanted
        if wanted.on is None:
            self.changes.adapt("thinking")
        for name in sorted(present):
            self.changes.drop(name, why)
        return Thinking(on=False)

    def _forced(self) -> bool:
        choice = bytes(self.fields.get("tool_choice", b"null"))
        return choice not in (b"null", b'"auto"', b'"none"')

    def _limit(self) -> int | None:
        """The output limit of the caller, thinking included."""
        found = [_number(self.fields.get(name)) for name in LIMITS]
        return min((tokens for tokens in found if tokens is not None), default=None)

    def _switch(
        self, style: ThinkingStyle, wanted: Thinking, present: frozenset[str]
    ) -> dict[str, object]:
        on = wanted.on
        match style:
            case ThinkingStyle.FLAG:
                return self._flag(wanted, present)
            case ThinkingStyle.TYPE:
                return self._type(wanted, present)
            case ThinkingStyle.BUDGET:
                return self._with_budget(wanted, present)
            case ThinkingStyle.TEMPLATE:
                self._lose_amount(wanted, present)
                if on is not None and "chat_template_kwargs" not in self.fields:
                    return {"chat_template_kwargs": {"enable_thinking": on}}
            case ThinkingStyle.EFFORT:
                self.amount = self._amount_of(present)
                effort = self._effort(wanted)
                if effort is not None:
                    return {"reasoning_effort": effort}
            case ThinkingStyle.OBJECT:
                budget = self._budget(wanted, present) if wanted.effort is None else None
                plain = on if wanted.effort is None and wanted.budget_tokens is None else None
                made = {"enabled": plain, "effort": wanted.effort, "max_tokens": budget}
                return {"reasoning": {k: v for k, v in made.items() if v is not None}}
            case _:
                if wanted.effort == "none":
                    self.changes.adapt(self._amount_of(present))  # it does not think anyway
                elif on or (on is None and wanted.effort is not None):
                    for name in sorted(present):
                        self.changes.drop(name, "it has no switch for thinking")
        return {}

    def _flag(self, wanted: Thinking, present: frozenset[str]) -> dict[str, object]:
        if wanted.on is None:
            self._lose_amount(wanted, present)
            return {}
        limit = self._limit() if self.dialect.thinks_beside_limit else None
        if not wanted.on or not (wanted.budget_tokens or wanted.effort or limit):
            return {"enable_thinking": wanted.on}
        budget = self._budget(wanted, present)
        if budget is None:
            return {"enable_thinking": False}
        if limit is not None:
            for name in LIMITS:
                if self._has(name):
                    self.fields[name] = Raw(_encode(limit - budget))
                    self.changes.adapt(f"{name}={limit - budget}")
        return {"enable_thinking": True, "thinking_budget": budget}

    def _type(self, wanted: Thinking, present: frozenset[str]) -> dict[str, object]:
        on = wanted.on
        if on is None:
            self._lose_amount(wanted, present)
            return {}
        made: dict[str, object] = {"thinking": {"type": "enabled" if on else "disabled"}}
        if on and wanted.budget_tokens is not None:
            budget = self._budget(wanted, present)
            if budget is None:
                return {"thinking": {"type": "disabled"}}
            made["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if on and wanted.effort is not None:
            if self.dialect.efforts:
                made["reasoning_effort"] = self._effort(wanted)
            else:
                self._lose_amount(wanted._replace(budget_tokens=None), present)
        return made

    def _with_budget(self, wanted: Thinking, present: frozenset[str]) -> dict[str, object]:
        effort = None if wanted.effort in (None, "none") else self._effort(wanted)
        config: dict[str, object] = {"output_config": {"effort": effort}} if effort else {}
        if not wanted.on:
            if wanted.effort == "none" and "reasoning_effort" in present:
                self.changes.adapt("reasoning_effort")  # no thinking is what happens unasked
            return config if "output_config" in present else {}
        only = re.search(self.dialect.adaptive_only, self.model)
        if only or (wanted.adaptive and re.search(self.dialect.adaptive_known, self.model)):
            if wanted.budget_tokens is not None:
                self.changes.adapt("thinking=adaptive")
            return {"thinking": {"type": "adaptive"}} | config
        if wanted.adaptive:
            self.changes.adapt("thinking=enabled")
        limit = self._limit()
        budget = self._budget(wanted, present)
        if budget is None:
            return {}
        if limit is None:
            most = self.origin.output_tokens_max or budget + ANSWER_TOKENS_DEFAULT
            self.fields["max_tokens"] = Raw(_encode(most))
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}

    def _budget(self, wanted: Thinking, present: frozenset[str]) -> int | None:
        """A budget inside the caller's limit, or None, and thinking is off and said to be."""
        asked = wanted.budget_tokens or EFFORT_BUDGETS.get(wanted.effort or "", BUDGET_DEFAULT)
        limit = self._limit() or self.origin.output_tokens_max
        budget = fitted(asked, limit, self.dialect.budget_lowest)
        if budget is None:
            self.thinking = Thinking(on=False)
            for name in sorted(present):
                self.changes.drop(name, "no thinking fits inside the limit of the output")
        elif budget != wanted.budget_tokens and wanted.budget_tokens is not None:
            self.changes.limit(
                "thinking_budget" if "thinking_budget" in present else "thinking.budget_tokens",
                budget, "it does not fit inside the limit of the output",
            )  # fmt: skip
        elif budget < asked:
            self.changes.adapt(f"thinking_budget={budget}")
        return budget

    def _effort(self, wanted: Thinking) -> str | None:
        """The vendor's word for how much to think; None where nothing is to be said."""
        effort = wanted.effort
        if effort is None and wanted.on is None:
            return None
        if wanted.on is False or effort == "none":
            return self.dialect.efforts.get("none", "none")
        if effort is None:
            budget = wanted.budget_tokens
            effort = "medium" if budget is None else effort_for(budget)
            if budget is not None:
                self.changes.adapt(f"{self.amount}={effort}")
        efforts = self.dialect.efforts
        if not efforts or effort in efforts:
            return efforts.get(effort, effort)
        known = [name for name in _EFFORT_LADDER if name in efforts and name != "none"]
        at = _EFFORT_LADDER.index(effort) if effort in _EFFORT_LADDER else 3
        nearest = min(known, key=lambda name: abs(_EFFORT_LADDER.index(name) - at))
        self.changes.adapt(f"{self.amount}={efforts[nearest]}")
        return efforts[nearest]

    def _amount_of(self, present: frozenset[str]) -> str:
        """The field that says how much to think."""
        names = ("reasoning_effort", "reasoning", "output_config", "thinking_budget", "thinking")
        return next((name for name in names if name in present), "thinking")

    def _lose_amount(self, wanted: Thinking, present: frozenset[str]) -> None:
        """How much to think cannot be said to this vendor, only whether."""
        if wanted.effort is not None and wanted.effort != "none":
            self.changes.drop(self._amount_of(present), "it has no efforts")
        if wanted.budget_tokens:
            name = "thinking_budget" if "thinking_budget" in present else "thinking.budget_tokens"
            self.changes.drop(name, "it has no budget for thinking")

    # --- numbers and names --------------------------------------------------------------

    def cap(self) -> None:
        """No more output is asked for than the model gives: more is refused by its vendor."""
        most = self.origin.output_tokens_max
        for name in LIMITS if most is not None else ():
            if (_number(self.fields.get(name)) or 0) > (most or 0):
                self.fields[name] = Raw(_encode(most))
                self.changes.limit(name, most, f"its model gives {most} tokens at most")

    def rename(self) -> None:
        renames = dict(self.dialect.renames)
        for rule in self.dialect.rules_of(self.model):
            renames |= rule.renames
        for theirs, ours in renames.items():
            if not self._offers(ours):
                continue  # left out under the caller's own name
            value = self.fields.pop(theirs, None)
            if value is None or bytes(value) == b"null":
                continue
            if theirs in LIMITS:
                tokens = [_number(value), _number(self.fields.get(ours))]
                value = Raw(_encode(min(t for t in tokens if t is not None)))
                self.fields[ours] = value
            self.fields.setdefault(ours, value)

    def bound(self) -> None:
        dialect = self.dialect
        if self.thinking.on or (self.thinking.on is None and dialect.thinks_unasked):
            for name in sorted(dialect.dropped_when_thinking & self.fields.keys()):
                self._leave_out(name, "its models do not take it while they think")
        for rule in dialect.rules_of(self.model):
            for name in sorted(rule.refused & self.fields.keys()):
                self._leave_out(name, "this model does not take it")
            given = [name for name in rule.exclusive if self._has(name)]
            for name in given[1:]:
                self._leave_out(name, f"this model takes no `{name}` beside `{given[0]}`")
        for name, limits in dialect.bounds.items():
            raw = self.fields.get(name)
            if raw is None or bytes(raw) == b"null":
                continue
            value = float(_decode(raw))
            nearest = min(max(value, limits.lowest), limits.highest)
            if nearest != value:
                self.fields[name] = Raw(_encode(nearest))
                range = f"it takes {limits.lowest:g} to {limits.highest:g}"
                self.changes.limit(name, f"{nearest:g}", range)
        for name, words in dialect.values.items():
            if name in self.fields and self._has(name):
                word = words.get(str(_decode(self.fields[name])))
                if word is None:
                    self._leave_out(name, "it does not offer this value")
                else:
                    self.fields[name] = Raw(_encode(word))
        self._shorten_stops()

    def _leave_out(self, name: str, why: str) -> None:
        raw = bytes(self.fields.pop(name))
        if name == "parallel_tool_calls":
            says_nothing = raw == b"null"
        else:
            says_nothing = raw in _NOTHING or raw in _DEFAULTS.get(name, ())
        if not says_nothing:
            name = self.amount if name == "reasoning_effort" else name
            self.changes.drop(name, why, essential=name in ESSENTIAL)

    def _shorten_stops(self) -> None:
        most, raw = self.dialect.stops_max, self.fields.get("stop")
        if raw is None or bytes(raw) == b"null" or (most is None and self.dialect.blank_stops):
            return
        stops = _decode(raw, type=str | list[str])
        given = [stops] if isinstance(stops, str) else stops
        kept: list[str] = []
        for at, stop in enumerate(given):
            if not stop.strip() and not self.dialect.blank_stops:
                self.changes.drop(f"stop[{at}]", "it takes no blank ones")
            elif most is not None and len(kept) == most:
                self.changes.drop(f"stop[{at}]", f"it takes {most} at most")
            else:
                kept.append(stop)
        if not kept:
            del self.fields["stop"]
        elif len(kept) < len(given):
            self.fields["stop"] = Raw(_encode(kept))

    # --- forms of the answer ------------------------------------------------------------

    def emulate_schema(self) -> None:
        raw = self.fields.get("response_format")
        if raw is None or self.dialect.json_schema:
            return
        if bytes(raw) == b"null":
            del self.fields["response_format"]
            return
        wanted = _decode(raw, type=_Format)
        schema = wanted.json_schema if wanted.type == "json_schema" else None
        if wanted.type == "text" or (schema is None and self.dialect.json_mode):
            if not self._offers("response_format"):
                del self.fields["response_format"]
            return
        if self.policy is Policy.DROP:
            del self.fields["response_format"]
            self.changes.drop("response_format", "it has no such format")
            return
        self.changes.emulate("response_format", "it has no such format")
        if self.dialect.json_mode:
            self.fields["response_format"] = Raw(b'{"type":"json_object"}')
        else:
            del self.fields["response_format"]
        said = "Answer with one JSON object and nothing else."
        if schema is not None:
            self.schema = bytes(schema.schema)
            if self.schema == b"null":
                self.schema = b"{}"
            said += f" Its JSON schema: {self.schema.decode()}"
        self._say(said)

    def _say(self, text: str) -> None:
        """Add a sentence to the system prompt."""
        messages = self._read_messages()
        first = messages[0] if messages else {}
        role = bytes(first.get("role", b""))
        content = bytes(first.get("content", b""))
        if role in (b'"system"', b'"developer"') and content[:1] == b'"':
            first["content"] = Raw(_encode(f"{_decode(content)}\n\n{text}"))
        elif role in (b'"system"', b'"developer"') and content[:1] == b"[":
            parts = _decode(content, type=list[Raw])
            first["content"] = Raw(_encode([*parts, {"type": "text", "text": text}]))
        else:
            system = {"role": Raw(b'"system"'), "content": Raw(_encode(text))}
            messages.insert(0, system)

    def refuse(self) -> None:
        known = self.dialect.known
        names = self.dialect.refused & self.fields.keys()
        if known is not None:
            names |= self.fields.keys() - known
        for name in sorted(names):
            self._leave_out(name, NOT_OFFERED if name not in STEERING else NOT_PASSED_ON)

    # --- reasoning in the history -------------------------------------------------------

    def rewrite_history(self) -> None:
        rule = self.dialect.history
        if "messages" not in self.fields:
            return
        if self.messages is None:
            text = bytes(self.fields["messages"])
            calls = rule is History.RETURN and b'"tool_calls"' in text
            if not calls and b'"reasoning' not in text:
                return
        needed = rule is History.RETURN and self.thinking.on is not False
        for message in self._read_messages():
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

    def write_messages(self) -> None:
        if self.messages is not None:
            self.fields["messages"] = Raw(_encode(self.messages))


def _tool_name(tool: dict[str, Any]) -> str:
    named = tool.get("function") or tool.get("custom") or {}
    return str(named.get("name") or "")


class _Schema(msgspec.Struct):
    schema: Raw = Raw(b"{}")


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None
