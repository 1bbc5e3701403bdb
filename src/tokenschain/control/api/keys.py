"""Admin API: API keys."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field, field_validator
from sqlalchemy import select

from tokenschain.control.api.context import (
    Asked,
    Body,
    IfMatch,
    Label,
    NameQuery,
    Paged,
    RequestContext,
    TransactionRoute,
    check_version,
    listed,
    read_page,
    tag,
)
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity import api_keys as api_keys_module
from tokenschain.control.identity import organization
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.tenancy import PLATFORM, Disconnect
from tokenschain.infra.database.tables import api_keys
from tokenschain.infra.security import secrets

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


_APIS = tuple(form.name for form in API_FORMATS)


Priority = Literal["", "interactive", "default", "bulk"]


DataClass = Annotated[str, Field(max_length=32, pattern=r"^[\w-]*$")]


Tag = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^,\x00-\x1f]+$")]


class KeyRights(Body):
    """What a key may do."""

    models: Annotated[list[str] | None, Field(max_length=1_000)] = None
    apis: Annotated[list[Literal[_APIS]] | None, Field(max_length=50)] = None  # type: ignore[valid-type]
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
        asked.context.suite,
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


def _check_class(asked: RequestContext, data_class: str) -> None:
    """A class that no zones are set for would protect nothing."""
    if data_class and f"class/{data_class}" not in asked.context.settings.routing.residency:
        raise ApiError(
            "invalid_value",
            f"No zones are set for `class/{data_class}` in `routing.residency`.",
            param="data_class",
        )


def _key(asked: RequestContext, key_id: str, action: str) -> dict[str, Any]:
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
    new_id, key = api_keys_module.rotate_key(
        asked.db, asked.context.suite, key_id, wanted.overlap_s, asked.actor.id
    )
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
