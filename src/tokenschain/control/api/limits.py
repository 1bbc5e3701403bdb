"""Admin API: rate limits and budgets."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Header, Path, Response
from pydantic import Field

from tokenschain.control.api.bodies import (
    AnswerBody,
    Deleted,
    Example,
    ListAnswer,
    RequestBody,
    listed,
)
from tokenschain.control.api.context import (
    AdminRoute,
    IfMatch,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    check_version,
    tag,
)
from tokenschain.control.billing import limits
from tokenschain.control.identity import ownership, shares
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.limits import PER, SLOTS, Budget, OnUnavailable, Rate, Selector
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.paging import seen_page

router = APIRouter(prefix="/api/v1/limits", route_class=AdminRoute, tags=["limits"])
Listing = Annotated[RequestContext, Depends(Permission("limits:read", Extent.ROWS, by_model=True))]
Reading = Annotated[RequestContext, Depends(Permission("limits:read", Extent.PART, by_model=True))]
Setting = Annotated[RequestContext, Depends(Permission("limits:write", Extent.PART, by_model=True))]
Removing = Annotated[
    RequestContext, Depends(Permission("limits:write", Extent.PART, "limits:read", by_model=True))
]

AMOUNT_MAX = 9 * 10**15
"""Of a rate: counts are exact in Redis' numbers up to here (9,000 yuan, where it is money)."""
BUDGET_MAX = 10**18
"""Of a budget of money: a million yuan on SQLite's 64 bits is 10^18; PostgreSQL could more."""
RateMeasure = Literal["requests", "tokens", "spend", "concurrent"]
BudgetMeasure = Literal["requests", "tokens", "spend"]
Period = Literal["day", "month", "total"]


class Match(RequestBody):
    """Which calls are meant; what is left out is any."""

    example: ClassVar[Example] = {"tenant": "acme"}
    tenant: MaybeLabel = ""
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    key_id: Annotated[str, Field(max_length=40, pattern=r"^\w*$")] = ""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    tag: Annotated[str, Field(max_length=128, pattern=r"^([^,=\x00-\x1f]+=[^,\x00-\x1f]+)?$")] = ""


_Per = Annotated[str, Field(max_length=70, pattern=rf"^({'|'.join(PER)}|tag:[\w.-]{{1,60}})$")]
IfNoneMatch = Annotated[str, Header(alias="if-none-match", max_length=100)]
"""`*`: only if there is no such limit yet."""
LimitId = Annotated[str, Path(pattern=r"^([\w.@-]{1,64}/)?[a-z0-9][a-z0-9._-]{0,62}$")]
"""`TENANT/NAME`; the platform's own: `NAME`. A name alone is looked up among those in reach."""


class NewRate(RequestBody):
    """At most so much in any window, or at once."""

    example: ClassVar[Example] = {
        "kind": "rate",
        "measure": "requests",
        "amount": 600,
        "window_s": 60,
        "match": {"tenant": "acme"},
        "per": ["key_id"],
    }
    kind: Literal["rate"]
    measure: RateMeasure
    amount: Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
    window_s: Literal[1, 60, 3600] = 60
    match: Match = Match()
    per: Annotated[list[_Per], Field(default_factory=list, max_length=4)]
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    burst_when_idle: bool = False
    on_unavailable: OnUnavailable = "allow"


class NewBudget(RequestBody):
    """At most so much in a day, a month, or in all."""

    example: ClassVar[Example] = {
        "kind": "budget",
        "measure": "spend",
        "amount": 1_000_000_000_000_000,
        "period": "month",
        "match": {"tenant": "acme"},
        "alerts": [80, 100],
    }
    kind: Literal["budget"]
    measure: BudgetMeasure
    amount: Annotated[int, Field(ge=0, le=BUDGET_MAX)]
    period: Period = "month"
    match: Match = Match()
    per: Annotated[list[_Per], Field(default_factory=list, max_length=4)]
    hard: bool = True
    on_unavailable: OnUnavailable = "deny"
    alerts: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000)]],
        Field(default_factory=lambda: [50, 80, 100], max_length=10),
    ]


NewLimit = Annotated[NewRate | NewBudget, Field(discriminator="kind")]


class Matched(AnswerBody):
    """Which calls are meant; an empty field is any."""

    tenant: str
    account: str
    project: str
    environment: str
    key_id: str
    model: str
    tag: str


class _Limit(AnswerBody):
    id: str
    tenant: str
    amount: int
    """Requests, tokens, pico-yuan, or calls at once."""
    match: Matched
    per: list[str]
    on_unavailable: OnUnavailable
    alerts: list[int]
    created_at_s: int
    version: int
    set_by_platform: bool
    """The platform alone changes it then."""


class RateLimit(_Limit):
    """At most so much in any window, or at once."""

    kind: Literal["rate"]
    measure: RateMeasure
    window_s: int
    wait_s: float
    burst_when_idle: bool


class BudgetUse(AnswerBody):
    """What is used of one count of a budget in its period."""

    subject: list[str]
    """Values of what it is counted per."""
    spent: int
    promised: int
    """Leased to gateways and not yet spent."""


class BudgetLimit(_Limit):
    """At most so much in a day, a month, or in all."""

    kind: Literal["budget"]
    measure: BudgetMeasure
    period: Period
    hard: bool
    wallet: bool
    used: Annotated[list[BudgetUse], Field(default_factory=list)]
    """The fullest 100 of its counts in this period, the fullest first."""
    counts: int = 0
    """How many counts it has in this period."""


Limit = Annotated[RateLimit | BudgetLimit, Field(discriminator="kind")]


def _spec(limit_id: str, wanted: NewRate | NewBudget) -> Rate | Budget:
    fields = wanted.model_dump(exclude={"kind", "alerts", "match", "per"})
    match = Selector(**wanted.match.model_dump())
    per = tuple(wanted.per)
    if isinstance(wanted, NewRate):
        assert wanted.window_s in SLOTS
        return Rate(limit_id, match=match, per=per, **fields)
    return Budget(limit_id, match=match, per=per, **fields)


def _shown(limit: limits.Row) -> RateLimit | BudgetLimit:
    return (RateLimit if limit["kind"] == "rate" else BudgetLimit).model_validate(limit)


@router.put("/{limit_id:path}")
def put_limit(
    asked: Setting,
    response: Response,
    limit_id: LimitId,
    wanted: NewLimit,
    if_match: IfMatch = "",
    if_none_match: IfNoneMatch = "",
) -> Limit:
    """Set a rate or budget, anew or changed; in force within a second.

    Its id is `TENANT/NAME`, of the tenant that it matches; NAME alone means that, too. To change
    one needs the permission where it was, too; what the platform set, only the platform changes.
    """
    match = wanted.match
    asked.need(match.tenant or PLATFORM, account=match.account, project=match.project,
               environment=match.environment, model=match.model)  # fmt: skip
    tenant, _, name = limit_id.rpartition("/")
    if tenant not in ("", match.tenant):
        raise ApiError("conflict", "A limit stays in its tenant: match that one, or set another.",
                       param="match.tenant")  # fmt: skip
    if match.tenant and name == limits.WALLET:
        raise _wallet_refused()
    limit_id = limits.id_of(match.tenant, name)
    before = limits.find(asked.db, limit_id)
    if before is not None:
        _need_old(asked, before, "PUT /limits/{limit_id}")
        if if_none_match.strip() == "*":
            raise ApiError("precondition_failed", "There is a limit of this name already.")
        check_version(if_match, before["version"])
        if before["kind"] != wanted.kind:
            raise ApiError("conflict", "A limit does not change its kind.", param="kind")
    elif if_match:
        raise ApiError("precondition_failed", "There is no such limit.")
    else:
        shares.check(asked.db, shares.LIMITS, match.tenant)
    thresholds = wanted.alerts if isinstance(wanted, NewBudget) else []
    rate = asked.context.ledger.usd_cny_micro
    limits.put(asked.db, _spec(limit_id, wanted), match.tenant, thresholds, rate)
    by_platform = asked.may("limits:write", PLATFORM, model=match.model)
    ownership.note_limit(asked.db, limit_id, set_by_platform=by_platform)
    asked.note(match.tenant, limit_id, wanted.model_dump(mode="json"))
    found = limits.find(asked.db, limit_id)
    assert found is not None
    tag(response, found["version"])
    return _shown(found)


def _need_old(asked: RequestContext, before: limits.Row, route: str) -> None:
    """Insist on the right over a limit as it stands, which is to be changed or taken away.

    Raises:
        ApiError: `permission_denied`.
    """
    asked.need(before["tenant"] or PLATFORM, **_places(before))
    if ownership.is_set_by_platform(asked.db, before["id"]):
        ownership.check_fields(asked, route, ownership.SET, model=before["match"]["model"])


def _limit(asked: RequestContext, limit_id: str) -> limits.Row:
    """The limit of an id, or the only one of a name that the actor may see.

    Raises:
        ApiError: `not_found`; `conflict`: several tenants have one of that name.
    """
    one = limits.find(asked.db, limit_id)
    known = [] if one is None else [one]
    if "/" not in limit_id:
        known = limits.named(asked.db, limit_id)
    seen = [
        limit
        for limit in known
        if asked.may("limits:read", limit["tenant"] or PLATFORM, **_places(limit))
    ]
    found = next((limit for limit in seen if limit["id"] == limit_id), seen[0] if seen else None)
    if found is None:
        raise ApiError("not_found", "There is no such limit.", param="limit_id")
    if found["id"] != limit_id and len(seen) > 1:
        raise ApiError("conflict", "Limits of several tenants have this name: say TENANT/NAME.",
                       param="limit_id")  # fmt: skip
    asked.need(found["tenant"] or PLATFORM, **_places(found))
    return found


def _wallet_refused() -> ApiError:
    return ApiError("conflict", "A tenant's `wallet` follows its deposits and credit: see wallets.",
                    param="limit_id")  # fmt: skip


def _places(limit: limits.Row) -> dict[str, str]:
    match = limit["match"]
    return {name: match[name] for name in ("account", "project", "environment", "model")}


@router.get("")
def list_limits(asked: Listing, page: Paged, tenant: NameQuery = None) -> ListAnswer[Limit]:
    """List rates and budgets; with a budget, what is spent of it now and what is promised."""
    whose = asked.tenant(tenant)
    found = seen_page(
        lambda part: limits.page(asked.db, part, whose),
        page,
        lambda row: asked.may("limits:read", row["tenant"] or PLATFORM, **_places(row)),
    )
    limits.add_used(asked.db, found.rows)
    return listed(ListAnswer[Limit], found, found.rows)


@router.get("/{limit_id:path}")
def read_limit(asked: Reading, response: Response, limit_id: str) -> Limit:
    """Read one rate or budget; of a budget, what is spent of it now."""
    found = _limit(asked, limit_id)
    limits.add_used(asked.db, [found])
    tag(response, found["version"])
    return _shown(found)


@router.delete("/{limit_id:path}")
def delete_limit(asked: Removing, limit_id: str, if_match: IfMatch = "") -> Deleted:
    """Take a rate or budget away; what the platform set, only the platform takes away."""
    found = _limit(asked, limit_id)
    _need_old(asked, found, "DELETE /limits/{limit_id}")
    if found.get("wallet"):
        raise _wallet_refused()
    check_version(if_match, found["version"])
    limits.remove(asked.db, found["id"])
    asked.note(found["tenant"], found["id"], {"deleted": True})
    return Deleted(id=found["id"])
