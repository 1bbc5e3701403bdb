"""The admin API: organisation, keys, limits, usage, money, alerts, audit.

(No postponed annotations here: FastAPI reads them.)
"""

import csv
import io
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, field_validator
from sqlalchemy import insert, select

from tokenschain.control.api.context import (
    Asked,
    Asking,
    Body,
    IfMatch,
    IntMoment,
    Label,
    MaybeLabel,
    NameQuery,
    Paged,
    TransactionRoute,
    after_of,
    check_version,
    listed,
    read_page,
    tag,
)
from tokenschain.control.billing import (
    ledger as ledger_module,
)
from tokenschain.control.billing import (
    limits,
    pricing,
    rerating,
)
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity import api_keys as api_keys_module
from tokenschain.control.identity import organization
from tokenschain.control.observability import alerts
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import FORMS
from tokenschain.core.limits import (
    EACH,
    SLOTS,
    Budget,
    Rate,
    Selector,
)
from tokenschain.core.pricing.catalog import (
    MICRO_PER_UNIT,
    PICO_PER_UNIT,
    Price,
    PriceTier,
)
from tokenschain.core.tenancy import PLATFORM, Disconnect
from tokenschain.infra.database.tables import (
    alert_targets,
    api_keys,
    audit_events,
    entries,
    fx_rates,
    ledger,
    nodes,
    prices,
)
from tokenschain.infra.database.tables import alerts as alerts_table
from tokenschain.infra.database.tables import limits as limits_table
from tokenschain.infra.security import sealing, secrets

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)
AMOUNT_MAX = 9 * 10**15
"""Of a rate: counts are exact in Redis' numbers up to here (9,000 yuan, where it is money)."""
BUDGET_MAX = 10**18
"""Of a budget of money: a million yuan on SQLite's 64 bits is 10^18; PostgreSQL could more."""
_ENDPOINTS = tuple(form.name for form in FORMS)
Priority = Literal["", "interactive", "default", "bulk"]
DataClass = Annotated[str, Field(max_length=32, pattern=r"^[\w-]*$")]
Tag = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^,\x00-\x1f]+$")]
Money = Annotated[Decimal, Field(ge=0, le=10**6, max_digits=18, decimal_places=6)]


# --- organisation ------------------------------------------------------------------------


class NewNode(Body):
    """A tenant, account, project or environment to make."""

    kind: Literal["tenant", "account", "project", "environment"]
    tenant: Label
    name: Label
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    title: Annotated[str, Field(max_length=200)] = ""
    prepaid: bool = False
    credit: Money = Decimal(0)


class NodeChange(Body):
    """What may change of one; what is left out stays."""

    title: Annotated[str | None, Field(max_length=200)] = None
    closed: bool | None = None
    prepaid: bool | None = None
    credit: Money | None = None
    account: MaybeLabel | None = None


@router.post("/nodes", status_code=201)
def create_node(asked: Asked, wanted: NewNode) -> dict[str, Any]:
    """Make a tenant, account, project or environment."""
    asked.need("org:write", PLATFORM if wanted.kind == "tenant" else wanted.tenant,
               project=wanted.project)  # fmt: skip
    name = wanted.tenant if wanted.kind == "tenant" else wanted.name
    if wanted.kind == "environment" and not wanted.project:
        raise ApiError("missing_required_parameter", "Name its project.", param="project")
    made = organization.create(
        asked.db,
        kind=wanted.kind,
        tenant=wanted.tenant,
        name=name,
        account=wanted.account if wanted.kind == "project" else "",
        project=wanted.project,
        title=wanted.title,
        prepaid=wanted.prepaid and wanted.kind == "tenant",
        credit_pico=int(wanted.credit * PICO_PER_UNIT) if wanted.kind == "tenant" else 0,
    )
    _renew_wallet(asked, wanted.tenant)
    asked.note("org:write", wanted.tenant, made["id"], wanted.model_dump(mode="json"))
    return made


@router.get("/nodes")
def list_nodes(
    asked: Asked,
    page: Paged,
    tenant: NameQuery = None,
    kind: Literal["tenant", "account", "project", "environment"] | None = None,
) -> dict[str, Any]:
    """The organisation, in alphabetical order."""
    whose = asked.tenant(tenant, "org:read")
    query = select(nodes)
    if kind is not None:
        query = query.where(nodes.c.kind == kind)
    order = (nodes.c.tenant, nodes.c.kind, nodes.c.project, nodes.c.name)
    rows = read_page(asked.db, query, page, order, tenant=whose)
    seen = [row for row in rows if asked.visible("org:read", [_place(row)])]
    return listed(rows, page, order, seen)


def _place(node: dict[str, Any]) -> dict[str, Any]:
    """A node as a place that bindings may reach."""
    own = {"account": "account", "project": "project", "environment": "environment"}
    found = dict(node)
    found["environment"] = ""
    if node["kind"] in own:
        found[own[node["kind"]]] = node["name"]
    return found


def _node(asked: Asking, node_id: str, action: str) -> dict[str, Any]:
    row = asked.db.execute(select(nodes).where(nodes.c.id == node_id)).mappings().first()
    if row is None or not asked.visible("org:read", [_place(dict(row))]):
        raise ApiError("not_found", "There is no such node.", param="node_id")
    place = _place(dict(row))
    asked.need(action, place["tenant"], account=place["account"], project=place["project"],
               environment=place["environment"])  # fmt: skip
    return dict(row)


@router.get("/nodes/{node_id}")
def read_node(asked: Asked, response: Response, node_id: str) -> dict[str, Any]:
    """One node of the organisation."""
    node = _node(asked, node_id, "org:read")
    tag(response, node["version"])
    return node


@router.patch("/nodes/{node_id}")
def change_node(
    asked: Asked, response: Response, node_id: str, wanted: NodeChange, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Rename, close or open a node; a tenant's credit line; a project's account."""
    node = _node(asked, node_id, "org:write")
    check_version(if_match, node["version"])
    values: dict[str, Any] = {}
    if wanted.title is not None:
        values["title"] = wanted.title
    if wanted.closed is not None:
        values["closed_at_s"] = int(time.time()) if wanted.closed else None
    if wanted.prepaid is not None or wanted.credit is not None:
        asked.need("billing:write", node["tenant"])
        if node["kind"] != "tenant":
            raise ApiError("invalid_value", "Only tenants have wallets.", param="prepaid")
        if wanted.prepaid is not None:
            values["prepaid"] = wanted.prepaid
        if wanted.credit is not None:
            values["credit_pico"] = int(wanted.credit * PICO_PER_UNIT)
    if wanted.account is not None:
        if node["kind"] != "project":
            raise ApiError("invalid_value", "Only projects move.", param="account")
        if wanted.account and not organization.find(
            asked.db, "account", node["tenant"], wanted.account
        ):
            raise ApiError("not_found", "There is no such account.", param="account")
        values["account"] = wanted.account
    changed = organization.change(asked.db, node, values)
    _renew_wallet(asked, node["tenant"])
    detail = wanted.model_dump(mode="json", exclude_none=True)
    asked.note("org:write", node["tenant"], node_id, detail)
    tag(response, changed["version"])
    return changed


def _renew_wallet(asked: Asking, tenant: str) -> None:
    total = ledger_module.credited(asked.db, tenant, asked.desk.ledger.usd_cny_micro)
    limits.put_wallet(asked.db, tenant, total)


# --- keys -----------------------------------------------------------------------------------


class KeyRights(Body):
    """What a key may do."""

    models: Annotated[list[str] | None, Field(max_length=1_000)] = None
    endpoints: Annotated[list[Literal[_ENDPOINTS]] | None, Field(max_length=50)] = None  # type: ignore[valid-type]
    networks: Annotated[list[str] | None, Field(max_length=100)] = None
    tags: Annotated[list[Tag], Field(default_factory=list, max_length=16)]
    priority: Priority = ""
    data_class: DataClass = ""
    expires_at_s: Annotated[int | None, Field(gt=0, le=2**53)] = None
    disconnect: Literal["cancel", "drain"] = "cancel"

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else [str(ip_network(each, strict=False)) for each in value]


class NewKey(KeyRights):
    """A key to make."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = "key"
    tenant: Label = "default"
    project: Label = "default"
    environment: Label = "default"


class KeyChange(Body):
    """What may change of a key; what is left out stays."""

    name: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    models: Annotated[list[str] | None, Field(max_length=1_000)] = None
    priority: Priority | None = None
    tags: Annotated[list[Tag] | None, Field(max_length=16)] = None
    expires_at_s: Annotated[int | None, Field(gt=0, le=2**53)] = None


class Rotation(Body):
    """How long the old key goes on."""

    overlap_s: Annotated[int, Field(ge=0, le=api_keys_module.OVERLAP_MAX_S)] = DAY_S


@router.post("/keys", status_code=201)
def create_key(asked: Asked, wanted: NewKey) -> dict[str, Any]:
    """Create an API key; `key` is in this answer and never again."""
    asked.need("keys:create", wanted.tenant, project=wanted.project,
               environment=wanted.environment)  # fmt: skip
    if not organization.find(asked.db, "tenant", wanted.tenant, wanted.tenant):
        asked.need("org:write", PLATFORM)
    _check_class(asked, wanted.data_class)
    fields = wanted.model_dump(exclude={"disconnect"})
    key_id, key = api_keys_module.create_key(
        asked.db,
        **fields,
        disconnect=Disconnect(wanted.disconnect),
        created_by=asked.actor.id,
    )
    asked.note("keys:create", wanted.tenant, key_id, fields)
    return {"id": key_id, "key": key, "prefix": secrets.shown_part(key)}


@router.get("/keys")
def list_keys(
    asked: Asked, page: Paged, tenant: NameQuery = None, project: NameQuery = None
) -> dict[str, Any]:
    """API keys, without what would let anyone use them; the newest first."""
    whose = asked.tenant(tenant, "keys:read")
    query = select(api_keys)
    if project is not None:
        query = query.where(api_keys.c.project == project)
    order = (api_keys.c.created_at_s, api_keys.c.id)
    rows = read_page(asked.db, query, page, order, newest=True, tenant=whose)
    seen = asked.visible("keys:read", [api_keys_module.shown(row) for row in rows])
    return listed(rows, page, order, seen)


def _check_class(asked: Asking, data_class: str) -> None:
    """A class that no zones are set for would protect nothing."""
    if data_class and f"class/{data_class}" not in asked.desk.settings.routing.residency:
        raise ApiError(
            "invalid_value",
            f"No zones are set for `class/{data_class}` in `routing.residency`.",
            param="data_class",
        )


def _key(asked: Asking, key_id: str, action: str) -> dict[str, Any]:
    key = api_keys_module.find_key(asked.db, key_id)
    if not asked.visible("keys:read", [key]):
        raise ApiError("not_found", "There is no such key.", param="key_id")
    asked.need(action, key["tenant"], account=key["account"], project=key["project"],
               environment=key["environment"])  # fmt: skip
    return key


@router.get("/keys/{key_id}")
def read_key(asked: Asked, response: Response, key_id: str) -> dict[str, Any]:
    """One API key."""
    key = _key(asked, key_id, "keys:read")
    tag(response, key["revision"])
    return key


@router.patch("/keys/{key_id}")
def change_key(
    asked: Asked, response: Response, key_id: str, wanted: KeyChange, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Change what a key may do; gateways follow within a second."""
    key = _key(asked, key_id, "keys:create")
    check_version(if_match, key["revision"])
    values = wanted.model_dump(exclude_unset=True)
    values = {k: v for k, v in values.items() if v is not None or k in ("models", "expires_at_s")}
    _check_class(asked, values.get("data_class", ""))
    if values:
        api_keys_module.change_key(asked.db, key_id, values)
        asked.note("keys:create", key["tenant"], key_id, values)
    changed = api_keys_module.find_key(asked.db, key_id)
    tag(response, changed["revision"])
    return changed


@router.post("/keys/{key_id}/rotate", status_code=201)
def rotate_key(asked: Asked, key_id: str, wanted: Rotation) -> dict[str, Any]:
    """Make a successor; the old key is served beside it for `overlap_s`."""
    old = _key(asked, key_id, "keys:create")
    new_id, key = api_keys_module.rotate_key(asked.db, key_id, wanted.overlap_s, asked.actor.id)
    asked.note("keys:create", old["tenant"], new_id, {"rotated_from": key_id})
    return {"id": new_id, "key": key, "prefix": secrets.shown_part(key), "rotated_from": key_id}


@router.delete("/keys/{key_id}")
def revoke_key(asked: Asked, key_id: str, if_match: IfMatch = "") -> dict[str, Any]:
    """Revoke a key; gateways refuse it within a second."""
    key = _key(asked, key_id, "keys:revoke")
    check_version(if_match, key["revision"])
    api_keys_module.revoke_key(asked.db, key_id)
    asked.note("keys:revoke", key["tenant"], key_id)
    return {"id": key_id, "revoked": True}


# --- limits ---------------------------------------------------------------------------------


class Of(Body):
    """Which calls are meant; what is left out is any."""

    tenant: MaybeLabel = ""
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    key_id: Annotated[str, Field(max_length=40, pattern=r"^\w*$")] = ""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    tag: Annotated[str, Field(max_length=128, pattern=r"^([^,=\x00-\x1f]+=[^,\x00-\x1f]+)?$")] = ""


_Each = Annotated[str, Field(max_length=70, pattern=rf"^({'|'.join(EACH)}|tag:[\w.-]{{1,60}})$")]
LimitId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class NewRate(Body):
    """At most so much in any window, or at once."""

    kind: Literal["rate"]
    measure: Literal["requests", "tokens", "spend", "concurrent"]
    amount: Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
    window_s: Literal[1, 60, 3600] = 60
    of: Of = Of()
    each: Annotated[list[_Each], Field(default_factory=list, max_length=4)]
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    borrow: bool = False
    unknown: Literal["open", "closed"] = "open"


_Percent = Annotated[int, Field(ge=1, le=1_000)]


def _thresholds() -> list[int]:
    return [50, 80, 100]


class NewBudget(Body):
    """At most so much in a day, a month, or in all."""

    kind: Literal["budget"]
    measure: Literal["requests", "tokens", "spend"]
    amount: Annotated[int, Field(ge=0, le=BUDGET_MAX)]
    period: Literal["day", "month", "total"] = "month"
    of: Of = Of()
    each: Annotated[list[_Each], Field(default_factory=list, max_length=4)]
    hard: bool = True
    unknown: Literal["open", "closed"] = "closed"
    alerts: Annotated[
        list[Annotated[int, Field(ge=1, le=1_000)]],
        Field(default_factory=lambda: [50, 80, 100], max_length=10),
    ]


NewLimit = Annotated[NewRate | NewBudget, Field(discriminator="kind")]


def _spec(limit_id: str, wanted: NewRate | NewBudget) -> Rate | Budget:
    fields = wanted.model_dump(exclude={"kind", "alerts", "of", "each"})
    of = Selector(**wanted.of.model_dump())
    each = tuple(wanted.each)
    if isinstance(wanted, NewRate):
        assert wanted.window_s in SLOTS
        return Rate(limit_id, of=of, each=each, **fields)
    return Budget(limit_id, of=of, each=each, **fields)


@router.put("/limits/{limit_id}")
def put_limit(
    asked: Asked, response: Response, limit_id: LimitId, wanted: NewLimit, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Set a rate or budget, anew or changed; in force within a second."""
    before = limits.find(asked.db, limit_id)
    of = wanted.of
    asked.need("limits:write", of.tenant or PLATFORM, account=of.account, project=of.project,
               environment=of.environment)  # fmt: skip
    if before is not None:
        check_version(if_match, before["version"])
        if before["tenant"] != of.tenant:
            raise ApiError("conflict", "The name is taken.", param="limit_id")
        if before["kind"] != wanted.kind:
            raise ApiError("conflict", "A limit does not change its kind.", param="kind")
    elif if_match:
        raise ApiError("precondition_failed", "There is no such limit.")
    thresholds = wanted.alerts if isinstance(wanted, NewBudget) else []
    limits.put(
        asked.db, _spec(limit_id, wanted), of.tenant, thresholds, asked.desk.ledger.usd_cny_micro
    )
    asked.note("limits:write", of.tenant, limit_id, wanted.model_dump(mode="json"))
    found = limits.find(asked.db, limit_id)
    assert found is not None
    tag(response, found["version"])
    return found


def _limit(asked: Asking, limit_id: str, action: str) -> dict[str, Any]:
    found = limits.find(asked.db, limit_id)
    if found is not None and asked.may(
        "limits:read", found["tenant"] or PLATFORM, **_places(found)
    ):
        asked.need(action, found["tenant"] or PLATFORM, **_places(found))
        return found
    raise ApiError("not_found", "There is no such limit.", param="limit_id")


def _places(limit: dict[str, Any]) -> dict[str, str]:
    of = limit["of"]
    return {name: of.get(name, "") for name in ("account", "project", "environment")}


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


def _add_spent(asked: Asking, rows: list[dict[str, Any]]) -> None:
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


# --- usage ------------------------------------------------------------------------------------


@router.get("/usage", responses={200: {"content": {"text/csv": {}}}})
def usage(
    asked: Asked,
    group_by: Annotated[str, Query(max_length=100)] = "tenant,model,day",
    from_s: IntMoment = None,
    until_s: IntMoment = None,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Any:
    """Calls, tokens, charges and cost; amounts are 10^-12 of the currency unit, exact."""
    whose = asked.tenant(tenant, "usage:read")
    dimensions = [name.strip() for name in group_by.split(",") if name.strip()]
    for name in dimensions:
        if name not in ledger_module.DIMENSIONS:
            known = ", ".join(ledger_module.DIMENSIONS)
            raise ApiError(
                "invalid_value", f"`{name[:50]}` is not one of: {known}.", param="group_by"
            )
    named = (("project", project), ("key_id", key_id), ("model", model))
    where = [(name, value) for name, value in named if value is not None]
    where += _only_own(asked, whose, project)
    now = int(time.time())
    try:
        rows = ledger_module.usage(
            asked.db,
            group_by=list(dict.fromkeys(dimensions)),
            from_s=now - 30 * DAY_S if from_s is None else from_s,
            until_s=now + DAY_S if until_s is None else until_s,
            tenant=whose,
            where=where,
        )
    except ValueError as error:
        raise ApiError("invalid_value", f"{error}.", param="group_by") from None
    if not asked.may("billing:read", PLATFORM):
        for row in rows:  # what the platform pays is its own affair
            row.pop("cost_pico", None)
            row.pop("currency", None)
    if form == "csv":
        return _csv_answer([rows])
    return {"data": rows}


def _only_own(asked: Asking, tenant: str | None, project: str | None) -> list[tuple[str, str]]:
    """Who is bound to a project only sees that project's usage.

    Raises:
        ApiError: `permission_denied` when it would have to be several.
    """
    if tenant is None or asked.may("usage:read", tenant):
        return []
    if project is not None and asked.may("usage:read", tenant, project=project):
        return []
    raise ApiError("permission_denied", "Name a project of yours: `project=...`.", param="project")


@router.get("/calls")
def list_calls(
    asked: Asked,
    page: Paged,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    outcome: Annotated[str | None, Query(max_length=64)] = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> dict[str, Any]:
    """Single calls with their attempts and the choice among upstreams; the latest first."""
    whose = asked.tenant(tenant, "usage:export")
    named = (("project", project), ("key_id", key_id), ("model_asked", model),
             ("outcome", outcome))  # fmt: skip
    where = [(name, value) for name, value in named if value is not None]
    where += _only_own(asked, whose, project)
    now = int(time.time())
    after = after_of(page, int, str)
    rows = ledger_module.calls(
        asked.db,
        tenant=whose,
        from_ms=(now - DAY_S if from_s is None else from_s) * 1_000,
        until_ms=(now + DAY_S if until_s is None else until_s) * 1_000,
        where=where,
        after=None if after is None else (after[0], after[1]),
        count=page.limit,
    )
    order = (ledger.c.started_ms, ledger.c.event_id)
    return listed(rows, page, order, _calls_seen(asked, rows))


def _calls_seen(asked: Asking, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if asked.may("billing:read", PLATFORM):
        return rows
    hidden = ("cost_pico", "currency", "price_version", "route", "gateway")
    return [{k: v for k, v in row.items() if k not in hidden} for row in rows]


@router.get(
    "/calls/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/vnd.apache.parquet": {}}}},
)
def export_calls(
    asked: Asked,
    from_s: Annotated[int, Query(ge=0, le=2**53)],
    until_s: Annotated[int, Query(ge=0, le=2**53)],
    tenant: NameQuery = None,
    form: Annotated[Literal["csv", "parquet"], Query(alias="format")] = "csv",
) -> Response:
    """All calls of a time as CSV or Parquet."""
    whose = asked.tenant(tenant, "usage:export")
    asked.need("usage:export", whose or PLATFORM)
    everything = asked.may("billing:read", PLATFORM)
    engine = asked.desk.engine

    def pages() -> Iterator[list[dict[str, Any]]]:
        # Read after the request's own transaction, as the answer is sent.
        for rows in ledger_module.each_call(
            engine, tenant=whose, from_ms=from_s * 1_000, until_ms=until_s * 1_000
        ):
            for row in rows:
                for name in ("attempts", "route"):
                    row[name] = msgspec.json.encode(row[name]).decode()
                if not everything:
                    for name in ("cost_pico", "currency", "price_version", "route"):
                        row.pop(name)
            yield rows

    asked.note("usage:export", whose or "", f"{from_s}..{until_s}", {"format": form})
    if form == "csv":
        return _csv_answer(pages())
    from tokenschain.infra import parquet  # noqa: PLC0415 - slow to load, seldom needed

    return StreamingResponse(parquet.encode(pages()), media_type="application/vnd.apache.parquet")


def _csv_answer(pages: Iterable[list[dict[str, Any]]]) -> Response:
    return StreamingResponse(_csv(pages), media_type="text/csv; charset=utf-8")


def _csv(pages: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    first = True
    for rows in pages:
        out = io.StringIO()
        writer = csv.writer(out)
        if rows and first:
            writer.writerow(rows[0])
            first = False
        for row in rows:
            writer.writerow([_cell(value) for value in row.values()])
        yield out.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula is shown as text (CWE-1236)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


# --- money ------------------------------------------------------------------------------------


class Deposit(Body):
    """What a tenant paid."""

    amount: Annotated[Decimal, Field(gt=0, le=10**6, max_digits=18, decimal_places=6)]
    currency: Literal["CNY", "USD"] = "CNY"
    reference: Annotated[str, Field(min_length=1, max_length=150)]


class Reversal(Body):
    """Why a transaction is undone."""

    reason: Annotated[str, Field(min_length=1, max_length=120)]


class NewPrice(Body):
    """What customers pay for a model, per 1,000,000 tokens."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    tenant: MaybeLabel = ""
    currency: Literal["CNY", "USD"] = "CNY"
    input: Money
    output: Money
    cached_input: Money | None = None
    from_s: Annotated[int | None, Field(ge=0, le=2**53)] = None


class FxRate(Body):
    """Yuan for a dollar."""

    usd_cny: Annotated[Decimal, Field(gt=0, le=1_000, decimal_places=6)]
    source: Annotated[str, Field(min_length=1, max_length=200)]


class Rerate(Body):
    """Which calls are rated again."""

    tenant: MaybeLabel = ""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    from_s: Annotated[int, Field(ge=0, le=2**53)]
    until_s: Annotated[int, Field(ge=0, le=2**53)]
    reason: Annotated[str, Field(min_length=1, max_length=120)]


@router.get("/wallets/{tenant}")
def read_wallet(asked: Asked, tenant: str) -> dict[str, Any]:
    """What a tenant has left by currency, and what its wallet allows."""
    asked.need("billing:read", tenant)
    node = organization.find(asked.db, "tenant", tenant, tenant)
    if node is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    return {
        "tenant": tenant,
        "prepaid": node["prepaid"],
        "credit_pico": node["credit_pico"],
        "balances_pico": ledger_module.balances_of(asked.db, tenant),
        "credited_pico_cny": ledger_module.credited(
            asked.db, tenant, asked.desk.ledger.usd_cny_micro
        ),
    }


@router.post("/wallets/{tenant}/deposits", status_code=201)
def create_deposit(asked: Asked, tenant: str, wanted: Deposit) -> dict[str, Any]:
    """Enter what a tenant paid."""
    asked.need("billing:write", PLATFORM)
    if organization.find(asked.db, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    amount = int(wanted.amount * PICO_PER_UNIT)
    transaction = ledger_module.deposit(asked.db, tenant, wanted.currency, amount, wanted.reference)
    _renew_wallet(asked, tenant)
    asked.note("billing:write", tenant, transaction, wanted.model_dump(mode="json"))
    return {
        "transaction_id": transaction,
        "balances_pico": ledger_module.balances_of(asked.db, tenant),
    }


@router.post("/entries/{transaction_id}/reverse", status_code=201)
def reverse_transaction(asked: Asked, transaction_id: str, wanted: Reversal) -> dict[str, Any]:
    """Undo a transaction by its opposite; nothing is ever changed or deleted."""
    asked.need("billing:write", PLATFORM)
    made = ledger_module.reverse(asked.db, transaction_id, wanted.reason)
    if made is None:
        raise ApiError(
            "not_found", "There is no such transaction, or it is undone.", param="transaction_id"
        )
    for tenant in ledger_module.tenants_of(asked.db, made):
        _renew_wallet(asked, tenant)
    asked.note("billing:write", "", made, {"reverses": transaction_id, "reason": wanted.reason})
    return {"transaction_id": made}


@router.get("/entries")
def list_entries(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """The double-entry ledger, the latest first."""
    whose = asked.tenant(tenant, "billing:read")
    asked.need("billing:read", whose or PLATFORM)
    order = (entries.c.at_s, entries.c.id)
    rows = read_page(asked.db, select(entries), page, order, newest=True, tenant=whose)
    return listed(rows, page, order, rows)


@router.post("/prices", status_code=201)
def create_price(asked: Asked, wanted: NewPrice) -> dict[str, Any]:
    """Let a selling price begin; calls before it keep theirs."""
    asked.need("billing:write", PLATFORM)
    from_s = int(time.time()) if wanted.from_s is None else wanted.from_s
    cached = wanted.cached_input
    tier = PriceTier(
        int(wanted.input * MICRO_PER_UNIT),
        int(wanted.output * MICRO_PER_UNIT),
        None if cached is None else int(cached * MICRO_PER_UNIT),
    )
    price_id = pricing.add_price(
        asked.db, wanted.tenant, wanted.model, Price(wanted.currency, (tier,), ""), from_s
    )
    asked.note("billing:write", wanted.tenant, price_id, wanted.model_dump(mode="json"))
    return {"id": price_id, "from_s": from_s}


@router.get("/prices")
def list_prices(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Selling prices; those of one tenant are not another's to see."""
    whose = asked.tenant(tenant, "billing:read")
    query = select(prices)
    if whose is not None:
        query = query.where(prices.c.tenant.in_((whose, "")))
    order = (prices.c.id,)
    rows = read_page(asked.db, query, page, order)
    return listed(rows, page, order, list(map(pricing.shown, rows)))


@router.put("/fx-rates/{day}")
def put_fx_rate(asked: Asked, day: str, wanted: FxRate) -> dict[str, Any]:
    """Note the dollar's rate of a day, `2026-11-25`, China Standard Time."""
    asked.need("billing:write", PLATFORM)
    try:
        time.strptime(day, "%Y-%m-%d")
    except ValueError:
        raise ApiError("invalid_value", "A day is as 2026-11-25.", param="day") from None
    micro = pricing.set_rate(asked.db, day[:10], wanted.usd_cny, wanted.source)
    asked.note("billing:write", "", day, wanted.model_dump(mode="json"))
    return {"day": day, "usd_cny_micro": micro, "source": wanted.source}


@router.get("/fx-rates")
def list_fx_rates(asked: Asked, page: Paged) -> dict[str, Any]:
    """The dollar's rates, the latest first."""
    asked.tenant(None, "billing:read")
    order = (fx_rates.c.day,)
    rows = read_page(asked.db, select(fx_rates), page, order, newest=True)
    return listed(rows, page, order, rows)


@router.post("/rerate", status_code=201)
def rerate(asked: Asked, wanted: Rerate) -> dict[str, Any]:
    """Rate calls again by the selling prices that now hold for their time; the differences
    are entered as one adjustment."""
    asked.need("billing:write", PLATFORM)
    done = rerating.rerate(
        asked.db,
        tenant=wanted.tenant,
        model=wanted.model,
        from_ms=wanted.from_s * 1_000,
        until_ms=wanted.until_s * 1_000,
        reason=wanted.reason,
        clouds=asked.desk.ledger.clouds,
        usd_cny_micro=asked.desk.ledger.usd_cny_micro,
    )
    for tenant in done.differences_pico:
        _renew_wallet(asked, tenant.partition(" ")[0])
    asked.note("billing:write", wanted.tenant, done.transaction_id, wanted.model_dump())
    return msgspec.to_builtins(done)  # type: ignore[no-any-return]


@router.get("/metering")
def metering(asked: Asked) -> dict[str, Any]:
    """How complete the ledger is: records received, entered, and put aside unread."""
    asked.need("billing:read", PLATFORM)
    return ledger_module.capture(asked.db, asked.desk.ledger)


# --- alerts -------------------------------------------------------------------------------------


class NewTarget(Body):
    """Where alerts go: a webhook (signed), an e-mail address, or a chat group's robot."""

    tenant: MaybeLabel = ""
    kind: Literal["webhook", "email", "dingtalk", "feishu", "wecom"]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    address: Annotated[str, Field(min_length=3, max_length=1_000, pattern=r"^[\x21-\x7e]+$")]
    secret: Annotated[str, Field(max_length=200)] = ""


@router.post("/alert-targets", status_code=201)
def create_target(asked: Asked, wanted: NewTarget) -> dict[str, Any]:
    """Add a target; its address and secret are sealed and not shown again."""
    asked.need("alerts:write", wanted.tenant or PLATFORM)
    alerts.check_address(wanted.kind, wanted.address, asked.desk.settings.alert_networks)
    target_id = secrets.new_id("tgt")
    sealed = sealing.seal(
        asked.desk.master_key,
        target_id,
        msgspec.json.encode({"address": wanted.address, "secret": wanted.secret}),
    )
    asked.db.execute(
        insert(alert_targets).values(
            id=target_id, tenant=wanted.tenant, kind=wanted.kind, name=wanted.name,
            sealed=sealed, created_at_s=int(time.time()),
        )
    )  # fmt: skip
    asked.note("alerts:write", wanted.tenant, target_id, {"kind": wanted.kind})
    return {"id": target_id, "kind": wanted.kind, "name": wanted.name}


@router.get("/alert-targets")
def list_targets(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Where alerts go; never their addresses, which may hold secrets."""
    whose = asked.tenant(tenant, "alerts:read")
    table = alert_targets.c
    query = select(table.id, table.tenant, table.kind, table.name, table.created_at_s)
    order = (table.id,)
    rows = read_page(asked.db, query, page, order, tenant=whose)
    return listed(rows, page, order, asked.visible("alerts:read", rows))


@router.delete("/alert-targets/{target_id}")
def delete_target(asked: Asked, target_id: str) -> dict[str, Any]:
    """Take a target away."""
    row = asked.db.execute(
        select(alert_targets.c.tenant).where(alert_targets.c.id == target_id)
    ).first()
    if row is None or not asked.may("alerts:read", row.tenant or PLATFORM):
        raise ApiError("not_found", "There is no such target.", param="target_id")
    asked.need("alerts:write", row.tenant or PLATFORM)
    asked.db.execute(alert_targets.delete().where(alert_targets.c.id == target_id))
    asked.note("alerts:write", row.tenant, target_id, {"deleted": True})
    return {"id": target_id, "deleted": True}


@router.get("/alerts")
def list_alerts(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """What was found, and whether it was sent; the latest first."""
    whose = asked.tenant(tenant, "alerts:read")
    order = (alerts_table.c.at_s, alerts_table.c.id)
    rows = read_page(asked.db, select(alerts_table), page, order, newest=True, tenant=whose)
    seen = asked.visible("alerts:read", rows)
    return listed(rows, page, order, list(map(_with_detail, seen)))


def _with_detail(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"detail": msgspec.json.decode(row["detail"])}


# --- audit --------------------------------------------------------------------------------------


@router.get("/audit")
def list_audit(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Who changed what, the latest first."""
    whose = asked.tenant(tenant, "audit:read")
    order = (audit_events.c.at_ms, audit_events.c.id)
    rows = read_page(asked.db, select(audit_events), page, order, newest=True, tenant=whose)
    seen = asked.visible("audit:read", rows)
    return listed(rows, page, order, list(map(_with_detail, seen)))


# --- models ---------------------------------------------------------------------------------------


@router.get("/models")
def list_models(asked: Asked) -> dict[str, Any]:
    """Models served; for operators with the upstreams behind them."""
    asked.tenant(None, "models:read")
    models = msgspec.to_builtins(list(asked.desk.publisher.snapshot.models.values()))
    if not asked.may("models:read", PLATFORM):
        models = [{k: v for k, v in model.items() if k != "offers"} for model in models]
    return {"data": models}


@router.get("/endpoints")
def list_endpoints(asked: Asked) -> dict[str, Any]:
    """Upstreams with their health as last probed."""
    asked.need("models:read", PLATFORM)
    publisher = asked.desk.publisher
    return {
        "data": [
            {
                "id": upstream.id,
                "provider": upstream.provider,
                "base_url": upstream.base_url,
                "health": publisher.health.get(upstream.id, "not probed"),
                "metrics": publisher.engine_metrics.get(upstream.id, {}),
            }
            for upstream in publisher.snapshot.upstreams.values()
        ]
    }
