"""Admin API: end users who are suspended after several blocked calls, and their release."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    AdminRoute,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.found_rows import need_found
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.moderation import offenders

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Reading = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.ROWS))]
Releasing = Annotated[
    RequestContext,
    Depends(
        Permission("moderation:write", Extent.TENANT, "moderation:read", step_up=StepUp.ALWAYS)
    ),
]


class Suspension(AnswerBody):
    """An end user who is not served, since when, why and until when."""

    id: str
    tenant: str
    end_user: str
    """A keyed hash of the id that its caller gave."""
    cause: Literal["in_a_row", "a_day"]
    """Which of the policy's limits was reached."""
    blocked_calls: int
    """Within the day before."""
    created_at_s: int
    until_s: int
    released_by: str | None
    released_at_s: int | None
    """Null: it ends by itself."""
    release_reason: str | None


class Release(RequestBody):
    """Why an end user is served again."""

    example: ClassVar[Example] = {"reason": "a mistake of the word list"}
    reason: Annotated[str, Field(min_length=1, max_length=500)]


@router.get("/moderation-suspensions")
def list_suspensions(
    asked: Reading, page: Paged, tenant: NameQuery = None, in_force: bool = False
) -> ListAnswer[Suspension]:
    """List suspensions of end users, those that are over too; the latest first."""
    whose = asked.tenant(tenant)
    found = offenders.page(asked.db, page, whose, int(time.time()), in_force=in_force)
    return listed(ListAnswer[Suspension], found, asked.visible(found.rows))


@router.post("/moderation-suspensions/{suspension_id}/release")
def release_suspension(asked: Releasing, suspension_id: str, wanted: Release) -> Suspension:
    """Release an end user: its calls are served again within seconds."""
    found = offenders.find(asked.db, suspension_id)
    found = need_found(asked, found, "moderation:read", "suspension")
    asked.need_step_up()
    now_s = int(time.time())
    tenant, end_user = found["tenant"], found["end_user"]
    if offenders.release(asked.db, tenant, end_user, asked.actor.id, wanted.reason, now_s):
        asked.note(tenant, suspension_id, {"released": end_user, "reason": wanted.reason})
    return Suspension.model_validate(offenders.find(asked.db, suspension_id))
