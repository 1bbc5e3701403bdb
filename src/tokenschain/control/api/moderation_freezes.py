"""Admin API: incident freezes: models and tenants that are not served for now."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    AdminRoute,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.moderation import freezes
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Reading = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.ROWS))]
Freezing = Annotated[
    RequestContext, Depends(Permission("moderation:write", Extent.TENANT, step_up=StepUp.ALWAYS))
]
Lifting = Annotated[
    RequestContext,
    Depends(
        Permission("moderation:write", Extent.TENANT, "moderation:read", step_up=StepUp.ALWAYS)
    ),
]


class NewFreeze(RequestBody):
    """What is not to be served from now on, and why; a model, a tenant, or both."""

    example: ClassVar[Example] = {"tenant": "acme", "model": "m", "reason": "incident 7"}
    tenant: MaybeLabel = ""
    """Empty: all tenants, which takes the permission on the platform."""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    """As callers name it; empty: all models of the tenant."""
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class ModerationFreeze(AnswerBody):
    """What is not served, since when and why."""

    id: str
    tenant: str
    model: str
    reason: str
    created_by: str
    created_at_s: int
    lifted_by: str | None
    lifted_at_s: int | None
    """Null: it is in force."""


@router.post("/moderation-freezes", status_code=201)
def create_freeze(asked: Freezing, wanted: NewFreeze) -> ModerationFreeze:
    """Freeze a model or a tenant: within seconds no gateway takes such calls any more.

    Calls that have begun are finished.
    """
    asked.need(wanted.tenant or PLATFORM)
    asked.need_step_up()
    made = freezes.add(
        asked.db, wanted.tenant, wanted.model, wanted.reason, asked.actor.id, int(time.time())
    )
    asked.note(wanted.tenant, made["id"], {"model": wanted.model, "reason": wanted.reason})
    return ModerationFreeze.model_validate(made)


@router.get("/moderation-freezes")
def list_freezes(
    asked: Reading, page: Paged, tenant: NameQuery = None
) -> ListAnswer[ModerationFreeze]:
    """List freezes, those that were lifted too; the latest first."""
    found = freezes.page(asked.db, page, asked.tenant(tenant))
    return listed(ListAnswer[ModerationFreeze], found, asked.visible(found.rows))


@router.post("/moderation-freezes/{freeze_id}/lift")
def lift_freeze(asked: Lifting, freeze_id: str) -> ModerationFreeze:
    """Lift a freeze: such calls are served again."""
    found = need_found(asked, freezes.find(asked.db, freeze_id), "moderation:read", "freeze")
    asked.need_step_up()
    if freezes.lift(asked.db, freeze_id, asked.actor.id, int(time.time())):
        asked.note(found["tenant"], freeze_id, {"lifted": found["model"]})
    return ModerationFreeze.model_validate(freezes.find(asked.db, freeze_id))
