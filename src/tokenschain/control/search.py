"""Search by name or id: keys, users, configured resources and units of the organization."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from tokenschain.control.configuration.resources import Kind
from tokenschain.infra.database.tables import api_keys, organization_units, resources, users

ROWS_MAX = 200
"""Of each kind, before what may not be seen is left out."""
KINDS = (Kind.UPSTREAM, Kind.VIRTUAL_MODEL)
"""Of resources."""

Rows = list[Mapping[str, Any]]
Tenants = Collection[str] | None
"""Whose rows; None: all tenants'."""


def keys(connection: Connection, wanted: str, tenants: Tenants) -> Rows:
    """Keys that are not revoked, by name, id or the beginning that is shown of them."""
    c = api_keys.c
    has = or_(_has(c.name, wanted), c.id == wanted, c.prefix.startswith(wanted, autoescape=True))
    query = select(c.id, c.name, c.tenant, c.account, c.project, c.environment)
    return _rows(connection, query.where(has, c.revoked_at_s.is_(None)), c.tenant, c.id, tenants)


def people(connection: Connection, wanted: str, tenants: Tenants) -> Rows:
    """Users and service accounts, by name, address or id."""
    c = users.c
    has = or_(_has(c.name, wanted), _has(c.email, wanted), c.id == wanted)
    query = select(c.id, c.name, c.email, c.tenant).where(has)
    return _rows(connection, query, c.tenant, c.id, tenants)


def configured(connection: Connection, wanted: str, tenants: Tenants) -> Rows:
    """Upstreams and virtual models, by name."""
    c = resources.c
    query = select(c.kind, c.name, c.tenant).where(c.kind.in_(KINDS), _has(c.name, wanted))
    return _rows(connection, query, c.tenant, c.name, tenants)


def units(connection: Connection, wanted: str, tenants: Tenants) -> Rows:
    """Tenants, accounts, projects and environments, by name, title or id."""
    c = organization_units.c
    has = or_(_has(c.name, wanted), _has(c.title, wanted), c.id == wanted)
    query = select(c.id, c.kind, c.name, c.tenant, c.account, c.project).where(has)
    return _rows(connection, query, c.tenant, c.id, tenants)


def _has(column: ColumnElement[str], wanted: str) -> ColumnElement[bool]:
    return func.lower(column).contains(wanted.lower(), autoescape=True)


def _rows(
    connection: Connection,
    query: Select[Any],
    tenant: ColumnElement[str],
    order: ColumnElement[str],
    tenants: Tenants,
) -> Rows:
    if tenants is not None:
        query = query.where(tenant.in_(tenants))
    found = connection.execute(query.order_by(order).limit(ROWS_MAX)).mappings()
    return [dict(row) for row in found]
