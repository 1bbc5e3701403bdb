"""Anthropic Messages API, relayed: the caller's own request but for what cannot stay.

Nothing is translated, so that cache markers, documents, citations, server tools, signatures and
fields that are not known here arrive as they were written. What changes: the model's name, the
limit that the model has, and what another vendor's turns left in the history.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.formats.bridged_request import Bridged
from tokenschain.core.formats.dialect import Dialect
from tokenschain.core.formats.message_bridge import ToolIdMap
from tokenschain.core.formats.openai_chat import NativeRequest
from tokenschain.core.formats.thinking import BUDGET_DEFAULT, fitted
from tokenschain.core.formats.translation_changes import NOT_PASSED_ON, Changes, Policy, listed

_decode = msgspec.json.decode
_encode = msgspec.json.encode
_NOTHING = (b"null", b"[]", b"{}")


def relayed(
    native: NativeRequest,
    model: str,
    dialect: Dialect,
    policy: Policy,
    output_tokens_max: int | None,
) -> Bridged:
    """A caller's Messages request as it goes on to Anthropic.

    Raises:
        ApiError: `unsupported_parameter`, when the policy says so.
    """
    work = _Relay(dict(native.fields), model, dialect, Changes(policy))
    work.fields["model"] = Raw(_encode(model))
    work.cap(output_tokens_max)
    work.mend_history()
    thinking = work.fit_thinking()
    work.leave_out()
    changes = work.changes
    return Bridged(
        work.fields,
        listed(changes.dropped),
        listed(changes.emulated),
        thinking,
        adapted=listed(changes.adapted),
        relays=True,
    )


class _Relay:
    def __init__(
        self, fields: dict[str, Raw], model: str, dialect: Dialect, changes: Changes
    ) -> None:
        self.fields = fields
        self.model = model
        self.dialect = dialect
        self.changes = changes
        self.unsigned = False

    def cap(self, most: int | None) -> None:
        raw = self.fields.get("max_tokens")
        if most is None or raw is None or int(_decode(raw)) <= most:
            return
        self.fields["max_tokens"] = Raw(_encode(most))
        self.changes.limit("max_tokens", most, f"its model gives {most} tokens at most")

    def mend_history(self) -> None:
        """What turns of other vendors left behind: unsigned thinking, ids of their own form."""
        raw = bytes(self.fields["messages"])
        if b'"tool_use"' not in raw and b'"thinking"' not in raw:
            return
        turns = _decode(raw)
        changed = self._drop_unsigned(turns)
        changed = self._rename_calls(turns) or changed
        self.unsigned = _unsigned(turns)
        if changed:
            self.fields["messages"] = Raw(_encode(turns))

    def _drop_unsigned(self, turns: list[dict[str, Any]]) -> bool:
        changed = False
        for turn in turns:
            blocks = turn["content"]
            if turn["role"] != "assistant" or not isinstance(blocks, list):
                continue
            kept = [b for b in blocks if b.get("type") != "thinking" or b.get("signature")]
            if len(kept) < len(blocks) and kept:
                turn["content"] = kept
                self.changes.adapt("thinking")
                changed = True
        return changed

    def _rename_calls(self, turns: list[dict[str, Any]]) -> bool:
        rule = self.dialect.messages.tool_ids
        if rule is None:
            return False
        ids = ToolIdMap(rule)
        for turn in turns:
            for block in turn["content"] if isinstance(turn["content"], list) else ():
                if block.get("type") == "tool_use":
                    block["id"] = ids.made_of(str(block.get("id") or ""))
                elif block.get("type") == "tool_result":
                    block["tool_use_id"] = ids.answered(str(block.get("tool_use_id") or ""))
        if ids.changed:
            self.changes.adapt("tool_ids")
        return ids.changed

    def fit_thinking(self) -> bool | None:
        """The switch in the form that the model knows. Returns whether thinking is on."""
        raw = self.fields.get("thinking")
        if raw is None or bytes(raw) in _NOTHING:
            return None
        switch = _decode(raw)
        kind = switch.get("type") if isinstance(switch, dict) else None
        if kind not in ("enabled", "adaptive"):
            return False
        dialect = self.dialect
        if self.unsigned:
            del self.fields["thinking"]
            self.changes.drop(
                "thinking", "the turn under way was begun without its signed thinking"
            )
            return False
        if kind == "enabled" and re.search(dialect.adaptive_only, self.model):
            switch.pop("budget_tokens", None)
            self.fields["thinking"] = Raw(_encode(switch | {"type": "adaptive"}))
            self.changes.adapt("thinking=adaptive")
        elif kind == "adaptive" and not re.search(dialect.adaptive_known, self.model):
            return self._think_by_budget(switch, BUDGET_DEFAULT)
        elif kind == "enabled" and any(n.startswith("max_tokens=") for n in self.changes.adapted):
            return self._think_by_budget(switch, int(switch.get("budget_tokens") or 0))
        return True

    def _think_by_budget(self, switch: dict[str, Any], wanted: int) -> bool:
        limit = int(_decode(self.fields.get("max_tokens", Raw(b"0")))) or None
        budget = fitted(wanted, limit, self.dialect.budget_lowest)
        if budget is None:
            del self.fields["thinking"]
            self.changes.drop("thinking", "no thinking fits inside the limit of the output")
            return False
        if budget != switch.get("budget_tokens"):
            made = switch | {"type": "enabled", "budget_tokens": budget}
            self.fields["thinking"] = Raw(_encode(made))
            self.changes.adapt(f"thinking.budget_tokens={budget}")
        return True

    def leave_out(self) -> None:
        """What steers, and sampling parameters that this one model refuses."""
        for name in sorted(self.dialect.steering & self.fields.keys()):
            if bytes(self.fields.pop(name)) not in _NOTHING:
                self.changes.drop(name, NOT_PASSED_ON)
        for rule in self.dialect.rules_of(self.model):
            given = [name for name in rule.exclusive if name in self.fields]
            for name in sorted((rule.refused & self.fields.keys()) | set(given[1:])):
                if bytes(self.fields.pop(name)) not in _NOTHING:
                    self.changes.drop(name, "this model does not take it so")


def _unsigned(turns: list[dict[str, Any]]) -> bool:
    """Whether the turn under way began without thinking; see `message_bridge`."""
    last = turns[-1]
    if last["role"] == "assistant":
        return False  # a prefill: the caller's own choice
    if not _has_results(last):
        return False
    first = len(turns) - 1
    while first > 0 and (
        turns[first - 1]["role"] == "assistant" or _only_results(turns[first - 1])
    ):
        first -= 1
    blocks = next((turn["content"] for turn in turns[first:] if turn["role"] == "assistant"), None)
    if not isinstance(blocks, list) or not blocks:
        return blocks is not None
    return blocks[0].get("type") not in ("thinking", "redacted_thinking")


def _has_results(turn: dict[str, Any]) -> bool:
    blocks = turn["content"]
    return isinstance(blocks, list) and any(b.get("type") == "tool_result" for b in blocks)


def _only_results(turn: dict[str, Any]) -> bool:
    blocks = turn["content"]
    return isinstance(blocks, list) and all(b.get("type") == "tool_result" for b in blocks)
