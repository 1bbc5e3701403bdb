"""Answers of the configuration API: resources, what changes do to them, revisions.

(No postponed annotations here: FastAPI reads them.)
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec
from pydantic import JsonValue

from tokenschain.control import gateways
from tokenschain.control.api.bodies import AnswerBody
from tokenschain.control.api.context import RequestContext
from tokenschain.control.configuration import history
from tokenschain.control.configuration.changes import Outcome
from tokenschain.control.configuration.history import ConfigRevision, Effect, ResourceChange
from tokenschain.control.configuration.resources import Kind, Origin
from tokenschain.control.configuration.store import StoredResource
from tokenschain.control.identity import ownership
from tokenschain.core.snapshot.effective_policy import ValueOrigin, effective
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.tenancy import PLATFORM
from tokenschain.core.upstream_report import MEND_VARIABLE
from tokenschain.infra import hardening
from tokenschain.infra.config.validation import Values

READ = "configuration:read"
_FIELDS_SHOWN_MAX = 200
_GATEWAYS_SHOWN_MAX = 5


class ConfigResource(AnswerBody):
    """One resource of the configuration."""

    kind: Kind
    tenant: str
    """Empty for the platform's."""
    name: str
    spec: dict[str, JsonValue]
    """What differs from the defaults; of a credential, the fingerprint of its secret alone."""
    managed_by: Origin
    revision: int
    """Of its last change; its ETag."""
    changed_at_ms: int


class EffectivePolicyValue(AnswerBody):
    """A field of a moderation policy as it holds."""

    field: str
    """As `actions.medium` or `personal_data.mobile`; of `words`, how many."""
    value: JsonValue
    origin: ValueOrigin
    """Whether the policy says it, or it follows from its sector, its audience or the defaults."""


class ModerationPolicyResource(ConfigResource):
    """A moderation policy, with the values that hold where it says nothing."""

    effective: list[EffectivePolicyValue]


class FieldDiff(AnswerBody):
    """One field before and after; null where it is not set."""

    field: str
    before: JsonValue
    after: JsonValue


class ResourceDiff(AnswerBody):
    """What becomes of one resource."""

    kind: Kind
    tenant: str
    name: str
    action: Literal["added", "changed", "removed"]
    fields: list[FieldDiff]
    """At most 200."""


class EffectNames(AnswerBody):
    """Names that the snapshot gains, loses or has otherwise; a tenant's as `tenant/name`."""

    gained: list[str]
    lost: list[str]
    changed: list[str]
    more: int
    """How many more there are."""


class SnapshotEffects(AnswerBody):
    """What a change does to what gateways serve by."""

    upstreams: EffectNames
    models: EffectNames
    virtual_models: EffectNames
    routing: bool
    """Whether policies, residency or weights change."""
    cache: bool


class Applied(AnswerBody):
    """What was changed, or would be."""

    revision: int | None
    """Null where nothing was written: a dry run, or everything was so already."""
    dry_run: bool
    changes: list[ResourceDiff]
    effects: SnapshotEffects
    warnings: list[str]
    """What a tenant's resources name in vain from then on."""


class AppliedResource(Applied):
    """What was changed of one resource, and how it is then."""

    resource: ConfigResource | None
    """Null where it was removed."""


class GatewayRefusal(AnswerBody):
    """A gateway that could not use a revision and routes by the one before.

    Which one and why is said to the platform alone; `applied` are the parts in force all the same.
    """

    gateway: str = ""
    why: str = ""
    at_ms: int
    applied: list[str]


class RevisionSummary(AnswerBody):
    """One change of the configuration."""

    revision: int
    at_ms: int
    actor: str
    origin: Origin
    tenant: str
    """Whose resources it changed; empty: the platform's, or several tenants'."""
    reason: str
    resources: list[str]
    """As `upstream bailian`; at most 20."""
    changed: int
    """How many resources."""
    rolled_back_of: int | None
    refusals: list[GatewayRefusal]


class RevisionDetail(RevisionSummary):
    """One change of the configuration, with its diff and effects."""

    changes: list[ResourceDiff]
    effects: SnapshotEffects


class ConfigDocument(AnswerBody):
    """A resource as a document."""

    kind: Kind
    name: str
    tenant: str
    spec: dict[str, JsonValue]


# --- as they are shown -------------------------------------------------------------------


def resource_shown(found: StoredResource) -> ConfigResource:
    return ConfigResource(
        **found.key._asdict(), spec=found.values, managed_by=found.managed_by,
        revision=found.revision, changed_at_ms=found.changed_at_ms,
    )  # fmt: skip


def policy_shown(found: StoredResource) -> ModerationPolicyResource:
    assert isinstance(found.spec, ModerationPolicy), "it is of this kind"
    return ModerationPolicyResource(
        **resource_shown(found).model_dump(),
        effective=[
            EffectivePolicyValue(field=one.field, value=one.value, origin=one.origin)
            for one in effective(found.spec)
        ],
    )


def _diff(change: ResourceChange) -> ResourceDiff:
    action: Literal["added", "changed", "removed"] = "changed"
    if change.before is None:
        action = "added"
    elif change.after is None:
        action = "removed"
    fields = list(history.fields_of(change.before or {}, change.after or {}))
    return ResourceDiff(
        **change.key._asdict(), action=action,
        fields=[FieldDiff(**one._asdict()) for one in fields[:_FIELDS_SHOWN_MAX]],
    )  # fmt: skip


def _effects(found: history.Effects) -> SnapshotEffects:
    def names(effect: Effect) -> EffectNames:
        return EffectNames.model_validate(effect)

    return SnapshotEffects(
        upstreams=names(found.upstreams), models=names(found.models),
        virtual_models=names(found.virtual_models), routing=found.routing, cache=found.cache,
    )  # fmt: skip


def applied(asked: RequestContext, outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
    return {
        "revision": outcome.revision or None,
        "dry_run": dry_run,
        "changes": [_diff(one) for one in outcome.changed],
        "effects": _effects(outcome.effects),
        "warnings": [
            str(one) for one in outcome.warnings if not one.tenant or asked.may(READ, one.tenant)
        ]
        + list(_unset_variables(asked, outcome.changed)),
    }


def _unset_variables(asked: RequestContext, changed: Iterable[ResourceChange]) -> Iterator[str]:
    """Credentials in the environment that gateways have not got: to them, there is no key."""
    named = {
        one.key: _variables(one.after) - _variables(one.before)
        for one in changed
        if one.kind is Kind.UPSTREAM
    }
    lacking = gateways.lacking(asked.db, chain.from_iterable(named.values()))
    for key, names in named.items():
        for name in sorted(names & lacking.keys()):
            where = gateways_named(asked, lacking[name])
            yield f"{key}: `env:{name}` is not set at {where}: {MEND_VARIABLE}"


def _variables(values: Values | None) -> set[str]:
    return hardening.variables_in((values or {}).get("credential", ()))


def gateways_named(asked: RequestContext, names: Sequence[str]) -> str:
    """Gateways by name to whom reads the platform's configuration; they are its business."""
    return ", ".join(names[:_GATEWAYS_SHOWN_MAX]) if asked.may(READ, PLATFORM) else "gateways"


def summary(found: ConfigRevision, hidden: frozenset[str]) -> dict[str, Any]:
    whole = {
        "revision": found.revision, "at_ms": found.at_ms, "actor": found.actor,
        "origin": found.origin, "tenant": found.tenant, "reason": found.reason,
        "resources": [str(one.key) for one in found.changes[:20]],
        "changed": len(found.changes), "rolled_back_of": found.rolled_back_of,
        "refusals": msgspec.to_builtins(found.refusals),
    }  # fmt: skip
    return ownership.without([whole], hidden)[0]


def detail(found: ConfigRevision, hidden: frozenset[str]) -> RevisionDetail:
    return RevisionDetail(
        **summary(found, hidden), changes=[_diff(one) for one in found.changes],
        effects=_effects(found.effects),
    )  # fmt: skip
