"""Admin API: what moderation policies come to for a project's calls, and whose each value is."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import JsonValue

from tokenschain.control.api.bodies import AnswerBody
from tokenschain.control.api.context import AdminRoute, NameQuery, Permission, RequestContext
from tokenschain.control.configuration import store
from tokenschain.control.configuration.resources import Kind
from tokenschain.control.configuration.tenant_rules import published_policy
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import own_id
from tokenschain.core.snapshot.effective_policy import together
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy, policies_for
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
_READ = "configuration:read"
Reading = Annotated[RequestContext, Depends(Permission(_READ, Extent.TENANT))]
_STATES = ("active", "share", "shadow")
SHOWN_MAX = 100_000
"""Policies times categories that they name: each value may name each policy."""


class PolicySource(AnswerBody):
    """A policy that a value is of."""

    level: Literal["platform", "tenant", "project"]
    """Whose calls it is for."""
    name: str
    """Empty: the platform's own, whose policies the actor may not read."""


class HeldValue(AnswerBody):
    """One field as it holds for the calls."""

    field: str
    value: JsonValue
    policies: list[PolicySource]
    """Those that say so; of several the strictest holds."""


class EffectivePolicies(AnswerBody):
    """What holds for the calls of a project."""

    policies: list[PolicySource]
    """All that are for them, in the states that were asked for."""
    data: list[HeldValue]
    """Empty: nothing is screened."""


@router.get("/moderation/effective")
def effective_policies(
    asked: Reading,
    tenant: NameQuery = None,
    project: Annotated[str, Query(max_length=64)] = "",
    state: Literal["active", "share", "shadow"] = "active",
) -> EffectivePolicies:
    """Show what all moderation policies come to for a project's calls: each value, and whether it
    is the platform's, the tenant's or the project's.

    Without `project`, for calls that no project's policy is for. `state`: `share` counts policies
    in force for a share of the keys as well, `shadow` all.
    """
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    counted = _STATES[: _STATES.index(state) + 1]
    every = {
        own_id(one.key.tenant, one.key.name): published_policy(one.key.tenant, one.spec)
        for one in store.of_tenants(asked.db, Kind.MODERATION_POLICY, {"", whose or ""})
        if isinstance(one.spec, ModerationPolicy)
    }
    found = [
        (name, policy)
        for name, policy in policies_for(every, whose or "", project)
        if policy.state in counted
    ]
    categories = frozenset[str]().union(*(policy.category_actions for _, policy in found))
    if len(found) * len(categories) > SHOWN_MAX:
        raise ApiError(
            "conflict",
            f"{len(found)} policies that name {len(categories)} categories are too much to show "
            "at once.",
        )
    sees_platform = asked.may(_READ, PLATFORM)
    sources = {name: _source(name, policy, sees_platform) for name, policy in found}
    return EffectivePolicies(
        policies=list(sources.values()),
        data=[
            HeldValue(field=one.field, value=one.value,
                      policies=[sources[name] for name in one.policies])
            for one in together(found)
        ],
    )  # fmt: skip


def _source(name: str, policy: ModerationPolicy, sees_platform: bool) -> PolicySource:
    owner, _, own = name.rpartition("/")
    level: Literal["platform", "tenant", "project"] = "platform"
    if policy.scope != "*":
        level = "project" if "project/" in policy.scope else "tenant"
    return PolicySource(level=level, name=own if owner or sees_platform else "")
