"""Effective values of moderation policies: defaults resolved, each with where it comes from.

A policy is published with the defaults of its sector filled in (`resolved`), so that gateways know
of no sector. Of several policies for the same calls the strictest holds, field by field: `together`
says which value that is, and whose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from tokenschain.core.moderation.personal_data import STRICTER, DataAction, DataKind
from tokenschain.core.moderation.verdict import Level
from tokenschain.core.snapshot.moderation_policy import (
    FAILS_CLOSED,
    MESSAGE,
    MESSAGE_EN,
    MESSAGE_ZH,
    STREAM_MODES,
    LevelActions,
    ModerationPolicy,
    strictest,
)

_STRICT = LevelActions("block", "block", "review")
_NO_DOUBT = LevelActions(medium="block")


class SectorDefaults(NamedTuple):
    """What a sector sets where the policy says nothing itself."""

    category_actions: Mapping[str, LevelActions] = {}
    personal_data: Mapping[DataKind, DataAction] = {}


SECTORS: Mapping[str, SectorDefaults] = {
    "finance": SectorDefaults(
        personal_data={
            DataKind.BANK_CARD: DataAction.REVERSIBLE,
            DataKind.RESIDENT_ID: DataAction.REVERSIBLE,
        },
    ),
    "health": SectorDefaults(
        {"rights/health": _NO_DOUBT, "services/*": _NO_DOUBT},
        {
            DataKind.MEDICAL_RECORD: DataAction.REVERSIBLE,
            DataKind.RESIDENT_ID: DataAction.REVERSIBLE,
        },
    ),
    "education": SectorDefaults({"values/violence_obscenity": _NO_DOUBT}),
    "minors": SectorDefaults(
        {"values/violence_obscenity": _STRICT, "rights/health": _STRICT},
        {DataKind.RESIDENT_ID: DataAction.MASK},
    ),
    "government": SectorDefaults(
        {"values/*": _NO_DOUBT}, {DataKind.RESIDENT_ID: DataAction.REVERSIBLE}
    ),
}


class ValueOrigin(StrEnum):
    """Where a value comes from."""

    POLICY = "policy"
    """The policy says it."""
    SECTOR = "sector"
    AUDIENCE = "audience"
    DEFAULT = "default"


class EffectiveValue(msgspec.Struct, frozen=True):
    """One field as it holds."""

    field: str
    """As `actions.medium` or `personal_data.mobile`."""
    value: Any
    """As JSON has it."""
    origin: ValueOrigin = ValueOrigin.POLICY
    policies: tuple[str, ...] = ()
    """Of several policies, those that it is of."""


def resolved(policy: ModerationPolicy) -> ModerationPolicy:
    """A policy with the defaults of its sector, and both languages in its message; what it says
    itself goes before them."""
    sector = SECTORS.get(policy.sector, SectorDefaults())
    named = policy.category_actions.keys()
    actions = {
        category: given
        for category, given in sector.category_actions.items()
        if category not in named and category.partition("/")[0] + "/*" not in named
    }
    message = policy.message
    if message == MESSAGE:
        message = f"{policy.message_zh or MESSAGE_ZH} {policy.message_en or MESSAGE_EN}"
    return msgspec.structs.replace(
        policy,
        category_actions=actions | policy.category_actions,
        personal_data=dict(sector.personal_data) | policy.personal_data,
        message=message,
    )


def effective(policy: ModerationPolicy) -> list[EffectiveValue]:
    """Every value by which a policy screens, in the order of its fields."""
    standard, whole = ModerationPolicy(), resolved(policy)
    return list(_values(policy, standard, whole))


def _values(
    policy: ModerationPolicy, standard: ModerationPolicy, whole: ModerationPolicy
) -> Iterator[EffectiveValue]:
    for name in ModerationPolicy.__struct_fields__:
        if name == "words":
            yield _value(name, len(policy.words), given=bool(policy.words))
        elif name == "engine_failure":
            yield _failure(policy)
        elif name == "message":
            yield _value(name, whole.message, given=whole.message != MESSAGE)
        elif name in ("message_zh", "message_en"):
            continue  # both are in the message
        elif name in ("category_actions", "personal_data"):
            given = getattr(policy, name)
            for key, value in getattr(whole, name).items():
                origin = ValueOrigin.POLICY if key in given else ValueOrigin.SECTOR
                yield EffectiveValue(f"{name}.{key}", msgspec.to_builtins(value), origin)
        else:
            value, usual = getattr(policy, name), getattr(standard, name)
            parts, usual_parts = _parts(value), _parts(usual)
            for key, part in parts.items():
                is_given = key not in usual_parts or usual_parts[key] != part
                yield _value(f"{name}{key}", part, given=is_given)


def _value(field: str, value: object, *, given: bool) -> EffectiveValue:
    plain = list(value) if isinstance(value, tuple) else msgspec.to_builtins(value)
    return EffectiveValue(field, plain, ValueOrigin.POLICY if given else ValueOrigin.DEFAULT)


def _failure(policy: ModerationPolicy) -> EffectiveValue:
    """What an engine without a verdict means."""
    if policy.engine_failure:
        return EffectiveValue("engine_failure", policy.engine_failure)
    origin = ValueOrigin.SECTOR if policy.sector in FAILS_CLOSED else ValueOrigin.AUDIENCE
    return EffectiveValue("engine_failure", "block" if policy.fails_closed else "local", origin)


def _parts(value: object) -> dict[str, object]:
    """A struct or mapping by its parts, each with a dot before; anything else as one."""
    if isinstance(value, msgspec.Struct):
        return {f".{name}": getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {f".{key}": part for key, part in value.items()}
    return {"": value}


# --- several policies --------------------------------------------------------------------------

NamedPolicies = Sequence[tuple[str, ModerationPolicy]]


def together(policies: NamedPolicies) -> list[EffectiveValue]:
    """What holds for calls that all these policies are for: the strictest, and whose it is.

    Args:
        policies: resolved, in the order of their names.
    """
    if not policies:
        return []
    found = [
        *_directions(policies),
        *_level_actions(policies),
        *_by_kind(policies, "personal_data", "input"),
        *_by_kind(policies, "personal_data_in_answers", "output"),
        _any(policies, "require_filed", lambda p: p.require_filed),
        _media(policies),
        _any(policies, "keep_texts", lambda p: p.keep_texts),
        _any(policies, "second_review", lambda p: p.second_review),
    ]  # fmt: skip
    output = _screening(policies, "output")
    if output:
        found.append(_extreme(output, "stream", lambda p: STREAM_MODES.index(p.stream)))
    asking = [(name, policy) for name, policy in policies if policy.engines]
    if asking:
        engines = tuple(dict.fromkeys(engine for _, p in asking for engine in p.engines))
        names = tuple(name for name, _ in asking)
        found.append(EffectiveValue("engines", list(engines), policies=names))
        found.append(_extreme(asking, "input", lambda p: p.input == "before"))
        closed = tuple(name for name, policy in asking if policy.fails_closed)
        failure = "block" if closed else "local"
        found.append(EffectiveValue("engine_failure", failure, policies=closed or names))
        found.append(_extreme(asking, "engine_wait_max_s", lambda p: p.engine_wait_max_s))
    found += _classifier(policies)
    found.append(_extreme(policies, "review_hours", lambda p: -p.review_hours))
    found += [_last(policies, name) for name in ("replacement", "message")]
    return found


def _screening(policies: NamedPolicies, direction: str) -> NamedPolicies:
    return [one for one in policies if direction in one[1].directions]


def _directions(policies: NamedPolicies) -> Iterator[EffectiveValue]:
    for direction in ("input", "output"):
        names = tuple(name for name, _ in _screening(policies, direction))
        yield EffectiveValue(f"directions.{direction}", bool(names), policies=names)


def _level_actions(policies: NamedPolicies) -> Iterator[EffectiveValue]:
    """What becomes of findings: of any category, and of those that a policy names."""
    named = sorted({category for _, policy in policies for category in policy.category_actions})
    for category in ("", *named):
        for level in (Level.HIGH, Level.MEDIUM, Level.LOW):
            chosen = {name: policy.action_on(category, level) for name, policy in policies}
            worst = strictest(chosen.values())
            whose = tuple(name for name, action in chosen.items() if action is worst)
            place = f"category_actions.{category}" if category else "actions"
            field = f"{place}.{level.name.lower()}"
            yield EffectiveValue(field, worst.name.lower(), policies=whose)


def _by_kind(policies: NamedPolicies, field: str, direction: str) -> Iterator[EffectiveValue]:
    kinds: dict[str, dict[str, DataAction]] = {}
    for name, policy in _screening(policies, direction):
        for kind, action in getattr(policy, field).items():
            kinds.setdefault(kind, {})[name] = DataAction(action)
    for kind, chosen in sorted(kinds.items()):
        worst = max(chosen.values(), key=STRICTER.index)
        whose = tuple(name for name, action in chosen.items() if action == worst)
        yield EffectiveValue(f"{field}.{kind}", worst.value, policies=whose)


def _classifier(policies: NamedPolicies) -> Iterator[EffectiveValue]:
    asking = [(n, p.classifier) for n, p in policies if p.classifier is not None]
    for level in (Level.MEDIUM, Level.HIGH) if asking else ():
        name = level.name.lower()
        lowest = min(getattr(one, name) for _, one in asking)
        whose = tuple(n for n, one in asking if getattr(one, name) == lowest)
        yield EffectiveValue(f"classifier.{name}", lowest, policies=whose)


def _any(
    policies: NamedPolicies, field: str, wants: Callable[[ModerationPolicy], bool]
) -> EffectiveValue:
    names = tuple(name for name, policy in policies if wants(policy))
    return EffectiveValue(field, bool(names), policies=names)


def _media(policies: NamedPolicies) -> EffectiveValue:
    blocking = [(name, p) for name, p in _screening(policies, "input") if p.media == "block"]
    names = tuple(name for name, _ in blocking)
    return EffectiveValue("media", "block" if names else "pass", policies=names)


def _extreme(
    policies: NamedPolicies, field: str, rank: Callable[[ModerationPolicy], float]
) -> EffectiveValue:
    most = max(rank(policy) for _, policy in policies)
    names = tuple(name for name, policy in policies if rank(policy) == most)
    value = next(getattr(policy, field) for _, policy in policies if rank(policy) == most)
    return EffectiveValue(field, value, policies=names)


def _last(policies: NamedPolicies, field: str) -> EffectiveValue:
    name, policy = policies[-1]
    return EffectiveValue(field, getattr(policy, field), policies=(name,))
