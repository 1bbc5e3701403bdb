"""Admin routes of the cache: what it did, and what it is to forget."""

import time
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, model_validator

from tokenschain.control import caching
from tokenschain.control.desk import (
    Asked,
    Body,
    IntMoment,
    MaybeLabel,
    NameQuery,
    TransactionRoute,
)
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

DAY_S = 86_400
router = APIRouter(prefix="/api/v1/cache", route_class=TransactionRoute)


class Flush(Body):
    """What is dropped: everything of a tenant, or one part of it; of all tenants without one."""

    tenant: MaybeLabel = ""
    project: MaybeLabel = ""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    tag: Annotated[str, Field(max_length=128, pattern=r"^([^,=\x00-\x1f]+=[^,\x00-\x1f]+)?$")] = ""
    entry: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_part(self) -> "Flush":
        if sum(map(bool, (self.project, self.model, self.tag, self.entry))) > 1:
            raise ValueError("name one of: project, model, tag, entry")
        if (self.project or self.tag or self.entry) and not self.tenant:
            raise ValueError("name the tenant it belongs to")
        return self

    @property
    def part(self) -> tuple[str, str]:
        """The kind of the part, and which."""
        for name in ("project", "model", "tag", "entry"):
            value = getattr(self, name)
            if value:
                return name, value
        return "", ""


@router.post("/flush")
def flush(asked: Asked, wanted: Flush) -> dict[str, Any]:
    """Give none of these answers again; gateways obey within a second.

    `hits_last_day` and `answers_last_day` say what that is worth: how often such answers were
    given again in the last day, and how many different ones. With `dry_run` that is all.
    """
    asked.need("cache:write", wanted.tenant or PLATFORM)
    part, value = wanted.part
    since_ms = int((time.time() - DAY_S) * 1_000)
    worth = caching.hits_of(asked.db, since_ms, wanted.tenant, part, value)
    answer: dict[str, Any] = {
        "hits_last_day": worth["hits"], "answers_last_day": worth["answers"], "flushed_until": None,
    }  # fmt: skip
    if not wanted.dry_run:
        answer["flushed_until"] = caching.flush(asked.db, wanted.tenant, part, value)
        asked.note("cache:write", wanted.tenant, f"{part}/{value}")
    return answer


@router.get("/stats")
def stats(
    asked: Asked,
    tenant: NameQuery = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> dict[str, Any]:
    """What the cache did, by tenant, model, outcome and reason, and what it saved; of the last
    day by default."""
    whose = asked.tenant(tenant, "cache:read")
    asked.need("cache:read", whose or PLATFORM)
    now = int(time.time())
    rows = caching.stats(
        asked.db,
        whose,
        (now - DAY_S if from_s is None else from_s) * 1_000,
        (now + DAY_S if until_s is None else until_s) * 1_000,
    )
    return {"data": rows}


class Feedback(Body):
    """What somebody says of an answer that came from the cache."""

    request_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
    right: bool
    comment: Annotated[str, Field(max_length=1_000)] = ""


@router.post("/feedback")
def feedback(asked: Asked, said: Feedback) -> dict[str, Any]:
    """Say whether an answer given again was right; a wrong one is dropped within a second, and
    counts against what is served by meaning.

    `request_id` is the `x-request-id` of the answer.
    """
    row = caching.call_of(asked.db, said.request_id)
    if row is None or not asked.may("cache:write", row.tenant, project=row.project):
        raise ApiError("not_found", "There is no such call.", param="request_id")
    if not row.cache_key:
        raise ApiError(
            "invalid_value", "This answer did not come from the cache.", param="request_id"
        )
    if not said.right:
        caching.flush(asked.db, row.tenant, "entry", row.cache_key)
    detail = {"right": said.right, "comment": said.comment, "cache": row.cache}
    asked.note("cache:write", row.tenant, f"entry/{row.cache_key}", detail)
    return {"entry": row.cache_key, "cache": row.cache, "dropped": not said.right}
