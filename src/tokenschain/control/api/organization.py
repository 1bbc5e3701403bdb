"""Admin API: tenants, accounts, projects and environments."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy import select

from tokenschain.control.api.common import Money, renew_wallet
from tokenschain.control.api.context import (
    Asked,
    Body,
    IfMatch,
    Label,
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
from tokenschain.control.identity import organization
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import PICO_PER_UNIT
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import organization_units as units

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


class NewUnit(Body):
    """A tenant, account, project or environment to make."""

    kind: Literal["tenant", "account", "project", "environment"]
    tenant: Label
    name: Label
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    title: Annotated[str, Field(max_length=200)] = ""
    prepaid: bool = False
    credit: Money = Decimal(0)


class UnitChange(Body):
    """What may change of one; what is left out stays."""

    title: Annotated[str | None, Field(max_length=200)] = None
    closed: bool | None = None
    prepaid: bool | None = None
    credit: Money | None = None
    account: MaybeLabel | None = None


@router.post("/organization/units", status_code=201)
def create_unit(asked: Asked, wanted: NewUnit) -> dict[str, Any]:
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
    renew_wallet(asked, wanted.tenant)
    asked.note("org:write", wanted.tenant, made["id"], wanted.model_dump(mode="json"))
    return made


@router.get("/organization/units")
def list_units(
    asked: Asked,
    page: Paged,
    tenant: NameQuery = None,
    kind: Literal["tenant", "account", "project", "environment"] | None = None,
) -> dict[str, Any]:
    """The organization, in alphabetical order."""
    whose = asked.tenant(tenant, "org:read")
    query = select(units)
    if kind is not None:
        query = query.where(units.c.kind == kind)
    order = (
        units.c.tenant,
        units.c.kind,
        units.c.project,
        units.c.name,
    )
    rows = read_page(asked.db, query, page, order, tenant=whose)
    seen = [row for row in rows if asked.visible("org:read", [_place(row)])]
    return listed(rows, page, order, seen)


def _place(unit: dict[str, Any]) -> dict[str, Any]:
    """A unit as a place that bindings may reach."""
    own = {"account": "account", "project": "project", "environment": "environment"}
    found = dict(unit)
    found["environment"] = ""
    if unit["kind"] in own:
        found[own[unit["kind"]]] = unit["name"]
    return found


def _unit(asked: RequestContext, unit_id: str, action: str) -> dict[str, Any]:
    row = asked.db.execute(select(units).where(units.c.id == unit_id)).mappings().first()
    if row is None or not asked.visible("org:read", [_place(dict(row))]):
        raise ApiError("not_found", "There is no such organization unit.", param="unit_id")
    place = _place(dict(row))
    asked.need(action, place["tenant"], account=place["account"], project=place["project"],
               environment=place["environment"])  # fmt: skip
    return dict(row)


@router.get("/organization/units/{unit_id}")
def read_unit(asked: Asked, response: Response, unit_id: str) -> dict[str, Any]:
    """One unit of the organization."""
    unit = _unit(asked, unit_id, "org:read")
    tag(response, unit["version"])
    return unit


@router.patch("/organization/units/{unit_id}")
def change_unit(
    asked: Asked, response: Response, unit_id: str, wanted: UnitChange, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Rename, close or open a unit; a tenant's credit line; a project's account."""
    unit = _unit(asked, unit_id, "org:write")
    check_version(if_match, unit["version"])
    values: dict[str, Any] = {}
    if wanted.title is not None:
        values["title"] = wanted.title
    if wanted.closed is not None:
        values["closed_at_s"] = int(time.time()) if wanted.closed else None
    if wanted.prepaid is not None or wanted.credit is not None:
        asked.need("billing:write", unit["tenant"])
        if unit["kind"] != "tenant":
            raise ApiError("invalid_value", "Only tenants have wallets.", param="prepaid")
        if wanted.prepaid is not None:
            values["prepaid"] = wanted.prepaid
        if wanted.credit is not None:
            values["credit_pico"] = int(wanted.credit * PICO_PER_UNIT)
    if wanted.account is not None:
        if unit["kind"] != "project":
            raise ApiError("invalid_value", "Only projects move.", param="account")
        if wanted.account and not organization.find(
            asked.db, "account", unit["tenant"], wanted.account
        ):
            raise ApiError("not_found", "There is no such account.", param="account")
        values["account"] = wanted.account
    changed = organization.change(asked.db, unit, values)
    renew_wallet(asked, unit["tenant"])
    detail = wanted.model_dump(mode="json", exclude_none=True)
    asked.note("org:write", unit["tenant"], unit_id, detail)
    tag(response, changed["version"])
    return changed
