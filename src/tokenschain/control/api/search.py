"""Admin API: search by name or id over all that the asker may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, Select, func, or_, select

from tokenschain.control.api.context import (
    AdminRoute,
    AnswerBody,
    Items,
    RequestContext,
    SignedIn,
)
from tokenschain.control.api.organization import place_of
from tokenschain.control.billing import ledger
from tokenschain.control.configuration.resources import Kind
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import api_keys, organization_units, resources, users

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["organization"])
FOUND_MAX = 10
"""Of each kind."""
LOOKED_AT_MAX = 200
"""Rows of a kind that are looked at before what may not be seen is left out."""
FoundKind = Literal["call", "key", "user", "model", "upstream", "virtual_model", "unit"]
RESOURCES: dict[str, FoundKind] = {Kind.UPSTREAM: "upstream", Kind.VIRTUAL_MODEL: "virtual_model"}


class SearchHit(AnswerBody):
    """Something that has what was looked for in its name, or has that id."""

    kind: FoundKind
    id: str
    name: str
    tenant: str
    """Empty: the platform's."""
    project: str


@router.get("/search")
def search(
    asked: SignedIn, text: Annotated[str, Query(min_length=2, max_length=100)]
) -> Items[SearchHit]:
    """Find calls by their id, and keys, users, models, upstreams and parts of the organization by
    name; of each kind ten that you may see."""
    wanted = text.strip()
    found: list[SearchHit] = []
    if len(wanted) >= 2:
        for one in (_calls, _keys, _users, _models, _resources, _units):
            found += list(one(asked, wanted))[:FOUND_MAX]
    return Items[SearchHit](data=found)


def _calls(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    row = ledger.call(asked.db, wanted)
    if row is not None and asked.visible([row], "usage:read"):
        yield SearchHit(kind="call", id=wanted, name=row["model_asked"], tenant=row["tenant"],
                    project=row["project"])  # fmt: skip


def _keys(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    table = api_keys.c
    has = or_(_has(table.name, wanted), table.id == wanted, table.prefix.startswith(wanted))
    query = select(api_keys).where(has, table.revoked_at_s.is_(None))
    for row in _rows(asked, query, table.tenant, table.id, "keys:read"):
        yield SearchHit(kind="key", id=row["id"], name=row["name"], tenant=row["tenant"],
                    project=row["project"])  # fmt: skip


def _users(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    table = users.c
    query = select(users.c.id, table.tenant, table.name, table.email).where(
        or_(_has(table.name, wanted), _has(table.email, wanted), table.id == wanted)
    )
    for row in _rows(asked, query, table.tenant, table.id, "users:read"):
        tenant = "" if row["tenant"] == PLATFORM else row["tenant"]
        yield SearchHit(kind="user", id=row["id"], name=row["name"] or row["email"], tenant=tenant,
                    project="")  # fmt: skip


def _models(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    """Those served; all who may read models see all of the platform's."""
    if not any(one.models is None and asked.may("models:read", one.tenant, account=one.account,
               project=one.project, environment=one.environment)
               for one in asked.actor.bindings):  # fmt: skip
        return
    for name in sorted(asked.context.publisher.snapshot.models):
        if wanted.lower() in name.lower():
            yield SearchHit(kind="model", id=name, name=name, tenant="", project="")


def _resources(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    table = resources.c
    query = select(table.kind, table.tenant, table.name).where(
        table.kind.in_(RESOURCES), _has(table.name, wanted)
    )
    for row in _rows(asked, query, table.tenant, table.name, "configuration:read"):
        yield SearchHit(kind=RESOURCES[row["kind"]], id=row["name"], name=row["name"],
                    tenant=row["tenant"], project="")  # fmt: skip


def _units(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    table = organization_units.c
    query = select(table.id, table.kind, table.tenant, table.account, table.project, table.name,
                   table.title).where(or_(_has(table.name, wanted), _has(table.title, wanted),
                                          table.id == wanted))  # fmt: skip
    for row in _rows(asked, query, table.tenant, table.id, "org:read", place_of):
        project = row["name"] if row["kind"] == "project" else row["project"]
        yield SearchHit(kind="unit", id=row["id"], name=row["name"], tenant=row["tenant"],
                    project=project)  # fmt: skip


def _has(column: ColumnElement[str], wanted: str) -> ColumnElement[bool]:
    return func.lower(column).contains(wanted.lower(), autoescape=True)


def _rows(
    asked: RequestContext,
    query: Select[Any],
    tenant: ColumnElement[str],
    order: ColumnElement[str],
    action: str,
    place: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Rows that may be seen, of the tenants that the asker is bound to.

    Args:
        place: of a row, where it does not have its place in its columns.
    """
    bound = {one.tenant for one in asked.actor.bindings}
    if PLATFORM not in bound:
        query = query.where(tenant.in_(bound))
    rows = asked.db.execute(query.order_by(order).limit(LOOKED_AT_MAX)).mappings()
    places = place or (lambda row: row)
    return [dict(row) for row in rows if asked.visible([places(dict(row))], action)]
