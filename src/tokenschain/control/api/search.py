"""Admin API: search by name or id over all that the asker may see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from tokenschain.control import search as rows
from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import AdminRoute, RequestContext, SignedIn
from tokenschain.control.api.organization import place_of
from tokenschain.control.billing import ledger
from tokenschain.control.configuration.resources import Kind
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1/me", route_class=AdminRoute, tags=["organization"])
FOUND_MAX = 10
"""Of each kind."""
TEXT_MIN = 2
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
def search(asked: SignedIn, text: Annotated[str, Query(max_length=100)] = "") -> Items[SearchHit]:
    """Find calls by their id, and keys, users, models, upstreams and parts of the organization by
    name; of each kind ten that you may see. Less than two characters find nothing."""
    wanted = text.strip()
    found: list[SearchHit] = []
    if len(wanted) >= TEXT_MIN:
        for one in (_calls, _keys, _users, _models, _resources, _units):
            found += list(one(asked, wanted))[:FOUND_MAX]
    return Items[SearchHit](data=found)


def _tenants(asked: RequestContext) -> frozenset[str] | None:
    """Those that the asker is bound to; None: all."""
    bound = frozenset(one.tenant for one in asked.actor.bindings)
    return None if PLATFORM in bound else bound


def _calls(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    row = ledger.call(asked.db, wanted)
    if row is not None and asked.visible([row], "usage:read"):
        yield SearchHit(kind="call", id=wanted, name=row["model_asked"], tenant=row["tenant"],
                        project=row["project"])  # fmt: skip


def _keys(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    found = [dict(row) for row in rows.keys(asked.db, wanted, _tenants(asked))]
    for row in asked.visible(found, "keys:read"):
        yield SearchHit(kind="key", id=row["id"], name=row["name"], tenant=row["tenant"],
                        project=row["project"])  # fmt: skip


def _users(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    found = [dict(row) for row in rows.people(asked.db, wanted, _tenants(asked))]
    for row in asked.visible(found, "users:read"):
        tenant = "" if row["tenant"] == PLATFORM else row["tenant"]
        yield SearchHit(kind="user", id=row["id"], name=row["name"] or row["email"],
                        tenant=tenant, project="")  # fmt: skip


def _models(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    """Those served, for who may read models of any kind: they are the same for all."""
    if not any(
        one.models is None
        and asked.may("models:read", one.tenant, account=one.account, project=one.project,
                      environment=one.environment)
        for one in asked.actor.bindings
    ):  # fmt: skip
        return
    for name in sorted(asked.context.publisher.snapshot.models):
        if wanted.lower() in name.lower():
            yield SearchHit(kind="model", id=name, name=name, tenant="", project="")


def _resources(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    found = [dict(row) for row in rows.configured(asked.db, wanted, _tenants(asked))]
    for row in asked.visible(found, "configuration:read"):
        yield SearchHit(kind=RESOURCES[row["kind"]], id=row["name"], name=row["name"],
                        tenant=row["tenant"], project="")  # fmt: skip


def _units(asked: RequestContext, wanted: str) -> Iterator[SearchHit]:
    for found in rows.units(asked.db, wanted, _tenants(asked)):
        row = dict(found)
        if asked.visible([place_of(row)], "org:read"):
            project = row["name"] if row["kind"] == "project" else row["project"]
            yield SearchHit(kind="unit", id=row["id"], name=row["name"], tenant=row["tenant"],
                            project=project)  # fmt: skip
