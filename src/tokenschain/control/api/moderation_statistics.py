"""Admin API: what moderation found and did, by day, category, engine, language and model."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import (
    AdminRoute,
    IntMoment,
    NameQuery,
    Permission,
    RequestContext,
)
from tokenschain.control.api.usage import ZONES_S
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.moderation import statistics
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Seeing = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.TENANT))]


class ModerationSums(AnswerBody):
    """Calls that were screened; the fields asked for by `group_by`, and sums."""

    day: str | None = None
    tenant: str | None = None
    action: str | None = None
    """What became of the call; see the field `moderation` of calls."""
    category: str | None = None
    """Empty: nothing was found."""
    engine: str | None = None
    """`words`, `classifier`, `attack_rules`, `personal_data`, `media`, or a cloud engine's name;
    empty: nothing was found."""
    language: str | None = None
    """`zh`, `en`, `ja`, `ko`, `ru` or `ar`; `unknown` where the policy has no texts
    kept for review."""
    model: str | None = None
    """As callers named it."""
    calls: int
    """By category or engine, a call counts once for each of those that it has."""
    findings: int
    disputed: int
    """Calls in which two engines disagree; by category, on that one."""
    upheld: int
    """Calls of which people decided that moderation was right."""
    released: int
    """Calls of which people decided that it was not."""


@router.get("/moderation/statistics", response_model_exclude_unset=True)
def moderation_statistics(
    asked: Seeing,
    group_by: Annotated[
        str, Query(max_length=100, examples=["category,action"])
    ] = "category,action",
    from_s: IntMoment = None,
    until_s: IntMoment = None,
    tenant: NameQuery = None,
    zone: Literal["UTC", "Asia/Shanghai"] = "UTC",
) -> Items[ModerationSums]:
    """Add up what moderation found and did, of the last 30 days by default and 92 at most.

    `group_by` is some of `day`, `tenant`, `action`, `category`, `engine`, `language`, `model`.
    """
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    names = list(dict.fromkeys(name.strip() for name in group_by.split(",") if name.strip()))
    for name in names:
        if name not in statistics.DIMENSIONS:
            known = ", ".join(statistics.DIMENSIONS)
            raise ApiError(
                "invalid_value", f"`{name[:50]}` is not one of: {known}.", param="group_by"
            )
    now = int(time.time())
    rows = statistics.add_up(
        asked.db,
        names,
        (now - 30 * DAY_S if from_s is None else from_s) * 1_000,
        (now + DAY_S if until_s is None else until_s) * 1_000,
        whose,
        ZONES_S[zone],
    )
    return Items[ModerationSums](data=[ModerationSums(**row) for row in rows])
