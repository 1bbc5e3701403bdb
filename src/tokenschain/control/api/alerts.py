"""Admin API: alert targets and alerts."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import insert, select

from tokenschain.control.api.common import with_detail
from tokenschain.control.api.context import (
    Asked,
    Body,
    MaybeLabel,
    NameQuery,
    Paged,
    TransactionRoute,
    listed,
    read_page,
)
from tokenschain.control.observability import alerts
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import alert_targets
from tokenschain.infra.database.tables import alerts as alerts_table
from tokenschain.infra.security import secrets

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


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
    alerts.check_address(wanted.kind, wanted.address, asked.context.settings.alerts.networks)
    target_id = secrets.new_id("tgt")
    sealed = asked.context.sealer.seal(
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
    return listed(rows, page, order, list(map(with_detail, seen)))
