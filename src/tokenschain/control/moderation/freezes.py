"""Incident freezes: a model, a tenant, or a tenant's use of a model that is not served for now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from tokenschain.control import revisions
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.freeze import Freeze
from tokenschain.infra.database import paging
from tokenschain.infra.database.moderation_tables import moderation_freezes as freezes
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import secrets

IN_FORCE_MAX = 500
"""At one time: all of them are in every gateway's memory."""


def add(
    connection: Connection, tenant: str, model: str, reason: str, by: str, now_s: int
) -> dict[str, Any]:
    """Freeze from now on.

    Args:
        tenant: empty: for all tenants.
        model: empty: all models of the tenant.

    Raises:
        ApiError: `invalid_value` where neither is named, `conflict` where it is frozen already.
    """
    if not tenant and not model:
        why = "Name the tenant or the model that is to be frozen, or both."
        raise ApiError("invalid_value", why, param="model")
    table = freezes.c
    held = select(func.count()).select_from(freezes).where(table.lifted_at_s.is_(None))
    same = held.where(table.tenant == tenant, table.model == model)
    if connection.execute(same).scalar():
        raise ApiError("conflict", "It is frozen already.")
    if (connection.execute(held).scalar() or 0) >= IN_FORCE_MAX:
        raise ApiError("conflict", f"At most {IN_FORCE_MAX} freezes are in force at one time.")
    row = {
        "id": secrets.new_id("frz"), "tenant": tenant, "model": model, "reason": reason,
        "created_by": by, "created_at_s": now_s, "lifted_by": None, "lifted_at_s": None,
    }  # fmt: skip
    connection.execute(insert(freezes).values(row))
    revisions.bump(connection)
    return row


def lift(connection: Connection, freeze_id: str, by: str, now_s: int) -> bool:
    """End a freeze; whether it was in force."""
    table = freezes.c
    done = connection.execute(
        update(freezes)
        .where(table.id == freeze_id, table.lifted_at_s.is_(None))
        .values(lifted_by=by, lifted_at_s=now_s)
    )
    if done.rowcount:
        revisions.bump(connection)
    return done.rowcount == 1


def find(connection: Connection, freeze_id: str) -> dict[str, Any] | None:
    """One freeze."""
    row = connection.execute(select(freezes).where(freezes.c.id == freeze_id)).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of freezes, the latest first."""
    order = (freezes.c.created_at_s, freezes.c.id)
    return paging.read_page(connection, select(freezes), page_, order, newest=True, tenant=tenant)


def in_force(connection: Connection) -> tuple[Freeze, ...]:
    """Freezes as gateways know them."""
    table = freezes.c
    query = select(table.tenant, table.model).where(table.lifted_at_s.is_(None))
    rows: list[Mapping[str, Any]] = [
        dict(row) for row in connection.execute(query.order_by(table.id)).mappings()
    ]
    return tuple(Freeze(row["tenant"], row["model"]) for row in rows)
