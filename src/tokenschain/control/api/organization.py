"""Admin API: tenants, accounts, projects and environments."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    ONE_LINE,
    AdminRoute,
    IfMatch,
    Label,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    check_version,
    tag,
)
from tokenschain.control.api.keys import DataClass, check_class
from tokenschain.control.api.money import Money
from tokenschain.control.billing import wallets
from tokenschain.control.identity import organization, ownership
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.core import data_class
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import PICO_PER_UNIT
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.paging import seen_page

router = APIRouter(prefix="/api/v1/organization", route_class=AdminRoute, tags=["organization"])
Listing = Annotated[RequestContext, Depends(Permission("org:read", Extent.ROWS))]
Reading = Annotated[RequestContext, Depends(Permission("org:read", Extent.PART))]
Creating = Annotated[RequestContext, Depends(Permission("org:write", Extent.PART))]
Changing = Annotated[
    RequestContext,
    Depends(Permission("org:write", Extent.PART, "org:read", step_up=StepUp.POWER)),
]
_CHANGE = "PATCH /organization/units/{unit_id}"
Kind = Literal["tenant", "account", "project", "environment"]


class NewUnit(RequestBody):
    """A tenant, account, project or environment to make."""

    example: ClassVar[Example] = {
        "kind": "project",
        "tenant": "acme",
        "name": "search",
        "title": "Search",
    }
    kind: Kind
    tenant: Label
    name: Label
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    title: Annotated[str, Field(max_length=200, pattern=ONE_LINE)] = ""
    prepaid: bool = False
    credit: Money = Decimal(0)
    data_class: DataClass = ""
    """Of a tenant or project: the class of all of its calls' data, at least."""


class UnitChange(RequestBody):
    """What may change of one; what is left out stays."""

    example: ClassVar[Example] = {"title": "Search and recommendations", "closed": False}
    title: Annotated[str | None, Field(max_length=200, pattern=ONE_LINE)] = None
    closed: bool | None = None
    prepaid: bool | None = None
    credit: Money | None = None
    account: MaybeLabel | None = None
    second_factor_required: bool | None = None
    """Of a tenant: whether its people need a second factor when they sign in with a password. Who
    has none sets it up before anything else. `control.second_factor_required` stays in force."""
    data_class: DataClass | None = None
    """Of a tenant or project: the class of all of its calls' data, at least; empty: none. A lower
    one than before asks who sets it to show again all that signing in takes."""


class Unit(AnswerBody):
    """A tenant, account, project or environment."""

    id: str
    kind: Kind
    tenant: str
    account: str
    project: str
    name: str
    title: str
    closed_at_s: int | None
    closed_by_platform: bool
    """Only the platform opens it again."""
    prepaid: bool
    credit_pico: int
    second_factor_required: bool
    """Of a tenant: demanded of its people."""
    data_class: str
    """Of a tenant or project: the class of all of its calls' data, at least."""
    created_at_s: int
    version: int


@router.post("/units", status_code=201)
def create_unit(asked: Creating, wanted: NewUnit) -> Unit:
    """Make a tenant, account, project or environment."""
    _need_parent(asked, wanted)
    ownership.check_fields(asked, "POST /organization/units", wanted.kind, wanted.model_fields_set)
    name = wanted.tenant if wanted.kind == "tenant" else wanted.name
    if wanted.kind == "environment" and not wanted.project:
        raise ApiError("missing_required_parameter", "Name its project.", param="project")
    if wanted.data_class:
        _check_class(asked, wanted.kind, wanted.tenant, wanted.data_class)
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
        data_class=wanted.data_class,
    )
    wallets.renew(asked.db, wanted.tenant, asked.context.ledger.usd_cny_micro)
    asked.note(wanted.tenant, made["id"], wanted.model_dump(mode="json"))
    return Unit.model_validate(made)


def _need_parent(asked: RequestContext, wanted: NewUnit) -> None:
    """Insist on the right where the new unit will hang: a role over one project makes no other.

    Raises:
        ApiError: `permission_denied`.
    """
    match wanted.kind:
        case "tenant":
            asked.need(PLATFORM)
        case "account":
            asked.need(wanted.tenant)
        case "project":
            asked.need(wanted.tenant, account=wanted.account)
        case "environment":
            parent = organization.find(asked.db, "project", wanted.tenant, wanted.project)
            account = "" if parent is None else parent["account"]
            asked.need(wanted.tenant, account=account, project=wanted.project)


def _check_class(asked: RequestContext, kind: Kind, tenant: str, name: str) -> None:
    """
    Raises:
        ApiError: such a unit has no class, or there is none of the name.
    """
    if kind not in ("tenant", "project"):
        why = "Tenants and projects have a data class."
        raise ApiError("invalid_value", why, param="data_class")
    check_class(asked, tenant, name)


@router.get("/units")
def list_units(
    asked: Listing, page: Paged, tenant: NameQuery = None, kind: Kind | None = None
) -> ListAnswer[Unit]:
    """List the organization in alphabetical order."""
    whose = asked.tenant(tenant)
    found = seen_page(
        lambda part: organization.page(asked.db, part, whose, kind),
        page,
        lambda unit: bool(asked.visible([place_of(unit)])),
    )
    return listed(ListAnswer[Unit], found, found.rows)


def place_of(unit: organization.Row) -> organization.Row:
    """A unit as a place that bindings may reach."""
    found = {**unit, "environment": ""}
    if unit["kind"] != "tenant":
        found[unit["kind"]] = unit["name"]
    return found


def _unit(asked: RequestContext, unit_id: str) -> organization.Row:
    unit = organization.get(asked.db, unit_id)
    if unit is None or not asked.visible([place_of(unit)], "org:read"):
        raise ApiError("not_found", "There is no such organization unit.", param="unit_id")
    place = place_of(unit)
    asked.need(place["tenant"], account=place["account"], project=place["project"],
               environment=place["environment"])  # fmt: skip
    return unit


@router.get("/units/{unit_id}")
def read_unit(asked: Reading, response: Response, unit_id: str) -> Unit:
    """Read one unit of the organization."""
    unit = _unit(asked, unit_id)
    tag(response, unit["version"])
    return Unit.model_validate(unit)


@router.patch("/units/{unit_id}")
def change_unit(
    asked: Changing, response: Response, unit_id: str, wanted: UnitChange, if_match: IfMatch = ""
) -> Unit:
    """Rename, close or open a unit; a tenant's credit line and demand of a second factor; a
    project's account.

    A tenant's wallet and credit line need `billing:write` on the platform; closing or opening a
    tenant, and opening what the platform closed, need `org:write` there. A project moves by
    who has the right over both accounts.
    """
    unit = _unit(asked, unit_id)
    ownership.check_fields(asked, _CHANGE, unit["kind"], wanted.model_dump(exclude_none=True))
    check_version(if_match, unit["version"])
    changed = organization.change(asked.db, unit, _values(asked, unit, wanted))
    wallets.renew(asked.db, unit["tenant"], asked.context.ledger.usd_cny_micro)
    detail = wanted.model_dump(mode="json", exclude_none=True)
    asked.note(unit["tenant"], unit_id, detail)
    tag(response, changed["version"])
    return Unit.model_validate(changed)


def _values(asked: RequestContext, unit: organization.Row, wanted: UnitChange) -> organization.Row:
    """The columns to change.

    Raises:
        ApiError: the unit has no such property, or the account is not there.
    """
    values: organization.Row = {}
    if wanted.title is not None:
        values["title"] = wanted.title
    if wanted.closed is not None:
        if unit["closed_by_platform"]:
            ownership.check_fields(asked, _CHANGE, ownership.CLOSED, ["closed"])
        values["closed_at_s"] = int(time.time()) if wanted.closed else None
        values["closed_by_platform"] = wanted.closed and asked.may("org:write", PLATFORM)
    if wanted.prepaid is not None or wanted.credit is not None:
        if unit["kind"] != "tenant":
            raise ApiError("invalid_value", "Only tenants have wallets.", param="prepaid")
        if wanted.prepaid is not None:
            values["prepaid"] = wanted.prepaid
        if wanted.credit is not None:
            values["credit_pico"] = int(wanted.credit * PICO_PER_UNIT)
    if wanted.second_factor_required is not None:
        if unit["kind"] != "tenant":
            raise ApiError("invalid_value", "It is a tenant that demands it of its people.",
                           param="second_factor_required")  # fmt: skip
        if not wanted.second_factor_required:
            asked.need_step_up()
        values["second_factor_required"] = wanted.second_factor_required
    if wanted.data_class is not None:
        _check_class(asked, unit["kind"], unit["tenant"], wanted.data_class)
        if not data_class.is_raised(unit["data_class"], wanted.data_class):
            asked.need_step_up()
        values["data_class"] = wanted.data_class
    if wanted.account is not None:
        if unit["kind"] != "project":
            raise ApiError("invalid_value", "Only projects move.", param="account")
        if wanted.account and not organization.find(
            asked.db, "account", unit["tenant"], wanted.account
        ):
            raise ApiError("not_found", "There is no such account.", param="account")
        # Not a matter of the project alone: its calls leave one account's budgets for another's.
        for account in (unit["account"], wanted.account):
            asked.need_also("org:write", unit["tenant"], account=account)
        values["account"] = wanted.account
    return values
