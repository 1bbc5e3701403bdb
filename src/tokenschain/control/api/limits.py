"""Admin API: rate limits and budgets."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import Field
from sqlalchemy import select

from tokenschain.control.api.context import (
    Asked,
    Body,
    IfMatch,
    MaybeLabel,
    NameQuery,
    Paged,
    RequestContext,
    TransactionRoute,
    check_version,
    listed,
    read_page,
    tag,
)
from tokenschain.control.billing import limits
from tokenschain.core.errors import ApiError
from tokenschain.core.limits import PER, SLOTS, Budget, OnUnavailable, Rate, Selector
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import limits as limits_table

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


AMOUNT_MAX = 9 * 10**15
"""Of a rate: counts are exact in Redis' numbers up to here (9,000 yuan, where it is money)."""


BUDGET_MAX = 10**18
"""Of a budget of money: a million yuan on SQLite's 64 bits is 10^18; PostgreSQL could more."""


class Match(Body):
    """Which calls are meant; what is left out is any."""

    tenant: MaybeLabel = ""
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    key_id: Annotated[str, Field(max_length=40, pattern=r"^\w*$")] = ""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    tag: Annotated[str, Field(max_length=128, pattern=r"^([^,=\x00-\x1f]+=[^,\x00-\x1f]+)?$")] = ""


_Per = Annotated[str, Field(max_length=70, pattern=rf"^({'|'.join(PER)}|tag:[\w.-]{{1,60}})$")]


LimitId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class NewRate(Body):
    """At most so much in any window, or at once."""

    kind: Literal["rate"]
    measure: Literal["requests", "tokens", "spend", "concurrent"]
    amount: Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
    window_s: Literal[1, 60, 3600] = 60
    match: Match = Match()
    per: Annotated[list[_Per], Field(default_factory=list, max_length=4)]
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    burst_when_idle: bool = False
    on_unavailable: OnUnavailable = "allow"


class NewBudget(Body):
    """At most so much in a day, a month, or in all."""

    kind: Literal["budget"]
    measure: Literal["requests", "tokens", "spend"]
    amount: Annotated[int, Field(ge=0, le=BUDGET_MAX)]
    period: Literal["day", "month", "total"] = "month"
    match: Match = Match()
    per: Annotated[list[_Per], Field(default_factory=list, max_length=4)]
    hard: bool = True
    on_unavailable: OnUnavailable = "deny"
    alerts: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000)]],
        Field(default_factory=lambda: [50, 80, 100], max_length=10),
    ]


NewLimit = Annotated[NewRate | NewBudget, Field(discriminator="kind")]


def _spec(limit_id: str, wanted: NewRate | NewBudget) -> Rate | Budget:
    fields = wanted.model_dump(exclude={"kind", "alerts", "match", "per"})
    match = Selector(**wanted.match.model_dump())
    per = tuple(wanted.per)
    if isinstance(wanted, NewRate):
        assert wanted.window_s in SLOTS
        return Rate(limit_id, match=match, per=per, **fields)
    return Budget(limit_id, match=match, per=per, **fields)


@router.put("/limits/{limit_id}")
def put_limit(
    asked: Asked, response: Response, limit_id: LimitId, wanted: NewLimit, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Set a rate or budget, anew or changed; in force within a second."""
    before = limits.find(asked.db, limit_id)
    match = wanted.match
    asked.need("limits:write", match.tenant or PLATFORM, account=match.account,
               project=match.project, environment=match.environment)  # fmt: skip
    if before is not None:
        check_version(if_match, before["version"])
        if before["tenant"] != match.tenant:
            raise ApiError("conflict", "The name is taken.", param="limit_id")
        if before["kind"] != wanted.kind:
            raise ApiError("conflict", "A limit does not change its kind.", param="kind")
    elif if_match:
        raise ApiError("precondition_failed", "There is no such limit.")
    thresholds = wanted.alerts if isinstance(wanted, NewBudget) else []
    limits.put(
        asked.db,
        _spec(limit_id, wanted),
        match.tenant,
        thresholds,
        asked.context.ledger.usd_cny_micro,
    )
    asked.note("limits:write", match.tenant, limit_id, wanted.model_dump(mode="json"))
    found = limits.find(asked.db, limit_id)
    assert found is not None
    tag(response, found["version"])
    return found


def _limit(asked: RequestContext, limit_id: str, action: str) -> dict[str, Any]:
    found = limits.find(asked.db, limit_id)
    if found is not None and asked.may(
        "limits:read", found["tenant"] or PLATFORM, **_places(found)
    ):
        asked.need(action, found["tenant"] or PLATFORM, **_places(found))
        return found
    raise ApiError("not_found", "There is no such limit.", param="limit_id")


def _places(limit: dict[str, Any]) -> dict[str, str]:
    match = limit["match"]
    return {name: match.get(name, "") for name in ("account", "project", "environment")}


@router.get("/limits")
def list_limits(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Rates and budgets; with a budget, what is spent of it now and what is promised."""
    whose = asked.tenant(tenant, "limits:read")
    order = (limits_table.c.id,)
    rows = read_page(asked.db, select(limits_table), page, order, tenant=whose)
    seen = [
        limit
        for limit in map(limits.shown, rows)
        if asked.may("limits:read", limit["tenant"] or PLATFORM, **_places(limit))
    ]
    _add_spent(asked, seen)
    return listed(rows, page, order, seen)


def _add_spent(asked: RequestContext, rows: list[dict[str, Any]]) -> None:
    budgets = [limits.budget_of(row) for row in rows if row["kind"] == "budget"]
    spent = limits.spent_of(asked.db, budgets, time.time())
    for row in rows:
        if row["kind"] == "budget":
            row["used"] = [
                {"subject": subject.split("\x1f") if subject else [], "spent": used,
                 "promised": promised}
                for (name, subject), (used, promised) in sorted(spent.items())
                if name == row["id"]
            ]  # fmt: skip


@router.get("/limits/{limit_id:path}")
def read_limit(asked: Asked, response: Response, limit_id: str) -> dict[str, Any]:
    """One rate or budget."""
    found = _limit(asked, limit_id, "limits:read")
    _add_spent(asked, [found])
    tag(response, found["version"])
    return found


@router.delete("/limits/{limit_id}")
def delete_limit(asked: Asked, limit_id: str, if_match: IfMatch = "") -> dict[str, Any]:
    """Take a rate or budget away."""
    found = _limit(asked, limit_id, "limits:write")
    check_version(if_match, found["version"])
    limits.remove(asked.db, limit_id)
    asked.note("limits:write", found["tenant"], limit_id, {"deleted": True})
    return {"id": limit_id, "deleted": True}
