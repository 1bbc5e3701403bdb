"""Admin API: API keys."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, Field

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    VISIBLE_LINE,
    AdminRoute,
    IfMatch,
    Label,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    check_version,
    tag,
)
from tokenschain.control.api.model_names import ModelNames
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity import api_keys, organization, ownership
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.tenancy import Disconnect
from tokenschain.infra.database.paging import seen_page
from tokenschain.infra.security import secrets

router = APIRouter(prefix="/api/v1/keys", route_class=AdminRoute, tags=["keys"])
Listing = Annotated[RequestContext, Depends(Permission("keys:read", Extent.ROWS, by_model=True))]
Reading = Annotated[RequestContext, Depends(Permission("keys:read", Extent.PART, by_model=True))]
Creating = Annotated[RequestContext, Depends(Permission("keys:create", Extent.PART, by_model=True))]
Changing = Annotated[
    RequestContext, Depends(Permission("keys:create", Extent.PART, "keys:read", by_model=True))
]
Revoking = Annotated[
    RequestContext, Depends(Permission("keys:revoke", Extent.PART, "keys:read", by_model=True))
]

_UNBOUNDED = ("models", "apis", "networks", "expires_at_s")
"""Null stands for all, or for ever."""
_APIS = tuple(form.name for form in API_FORMATS)
Priority = Literal["", "interactive", "default", "bulk"]
DataClass = Annotated[str, Field(max_length=32, pattern=r"^[\w-]*$")]


def _network(text: str) -> str:
    return str(ip_network(text, strict=False))


NETWORK_CHARACTERS_MAX = 64
"""Of a network's text: an IPv6 one with its zone and prefix has fewer."""
Models = ModelNames | None
Apis = Annotated[list[Literal[_APIS]] | None, Field(max_length=50)]  # type: ignore[valid-type]
Network = Annotated[str, Field(max_length=NETWORK_CHARACTERS_MAX), AfterValidator(_network)]
Networks = Annotated[list[Network] | None, Field(max_length=100)]
Tag = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^,\x00-\x1f]+$")]


class KeyRights(RequestBody):
    """What a key may do."""

    models: Models = None
    apis: Apis = None
    networks: Networks = None
    tags: Annotated[list[Tag], Field(default_factory=list, max_length=16)]
    priority: Priority = ""
    data_class: DataClass = ""
    routing_details: bool = False
    expires_at_s: Annotated[int | None, Field(gt=0, le=2**53)] = None
    disconnect: Literal["cancel", "drain"] = "cancel"


class NewKey(KeyRights):
    """A key to make."""

    example: ClassVar[Example] = {
        "name": "search",
        "tenant": "default",
        "project": "search",
        "apis": ["chat/completions", "embeddings"],
        "tags": ["team=search"],
    }
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=VISIBLE_LINE)] = "key"
    tenant: Label = "default"
    project: Label = "default"
    environment: Label = "default"


class KeyChange(RequestBody):
    """What may change of a key; what is left out stays."""

    example: ClassVar[Example] = {"name": "search, nightly", "priority": "bulk"}
    name: Annotated[str | None, Field(min_length=1, max_length=100, pattern=VISIBLE_LINE)] = None
    models: Models = None
    apis: Apis = None
    networks: Networks = None
    priority: Priority | None = None
    tags: Annotated[list[Tag] | None, Field(max_length=16)] = None
    expires_at_s: Annotated[int | None, Field(gt=0, le=2**53)] = None
    routing_details: bool | None = None


class Rotation(RequestBody):
    """How long the old key goes on."""

    example: ClassVar[Example] = {"overlap_s": 3_600}
    overlap_s: Annotated[int, Field(ge=0, le=api_keys.OVERLAP_MAX_S)] = DAY_S


class Key(AnswerBody):
    """An API key, without what would let anyone use it."""

    id: str
    prefix: str
    name: str
    tenant: str
    account: str
    project: str
    environment: str
    models: list[str] | None
    apis: list[str] | None
    networks: list[str] | None
    tags: list[str]
    priority: str
    data_class: str
    routing_details: bool
    disconnect: str
    created_at_s: int
    created_by: str
    rotated_from: str | None
    expires_at_s: int | None
    revoked_at_s: int | None
    last_used_at_s: int | None
    revision: int


class IssuedKey(AnswerBody):
    """A new key; `key` is in this answer and never again."""

    id: str
    key: str
    prefix: str


class RotatedKey(IssuedKey):
    """The successor of a key."""

    rotated_from: str


class RevokedKey(AnswerBody):
    """A key that is refused from now on."""

    id: str
    revoked: bool = True


@router.post("", status_code=201)
def create_key(asked: Creating, wanted: NewKey) -> IssuedKey:
    """Create an API key; `key` is in this answer and never again."""
    where = place_of(asked, wanted.tenant, wanted.project, wanted.environment)
    asked.need_for(wanted.models, wanted.tenant, **where)
    check_place(asked, wanted.tenant, where)
    check_class(asked, wanted.tenant, wanted.data_class)
    _check_fields(asked, "POST /keys", wanted)
    fields = wanted.model_dump(exclude={"disconnect"})
    key_id, key = api_keys.create_key(
        asked.db,
        asked.context.suite,
        **fields,
        disconnect=Disconnect(wanted.disconnect),
        created_by=asked.actor.id,
    )
    asked.note(wanted.tenant, key_id, fields)
    return IssuedKey(id=key_id, key=key, prefix=secrets.shown_part(key))


@router.get("")
def list_keys(
    asked: Listing, page: Paged, tenant: NameQuery = None, project: NameQuery = None
) -> ListAnswer[Key]:
    """List API keys, the newest first; never the keys themselves."""
    whose = asked.tenant(tenant)
    found = seen_page(
        lambda part: api_keys.page(asked.db, part, whose, project),
        page,
        lambda row: _is_seen(asked, Key.model_validate(row)),
    )
    return listed(ListAnswer[Key], found, found.rows)


def place_of(asked: RequestContext, tenant: str, project: str, environment: str) -> dict[str, str]:
    """Where in a tenant a new key will be."""
    found = organization.find(asked.db, "project", tenant, project)
    account = "" if found is None else found["account"]
    return {"account": account, "project": project, "environment": environment}


def check_place(asked: RequestContext, tenant: str, where: dict[str, str]) -> None:
    """What is missing there is made on the way by who may create keys for all models, and a tenant
    by the platform alone.

    Raises:
        ApiError: `permission_denied`.
    """
    if organization.is_there(asked.db, tenant, where["project"], where["environment"]):
        return
    if not asked.may("keys:create", tenant, **where):
        raise ApiError("permission_denied", "Name a project and an environment that are there.",
                       param="project")  # fmt: skip
    if not organization.find(asked.db, "tenant", tenant, tenant):
        ownership.check_fields(asked, "POST /keys", ownership.NEW_TENANT)


def check_class(asked: RequestContext, tenant: str, data_class: str) -> None:
    """A class that nothing is said of would protect nothing.

    Raises:
        ApiError: `invalid_value`.
    """
    scopes = (f"class/{data_class}", f"tenant/{tenant}/class/{data_class}")
    known = asked.context.publisher.snapshot.routing.residency
    if data_class and known.keys().isdisjoint(scopes):
        raise ApiError(
            "invalid_value",
            f"There is no data class `{data_class}`, and no zones are set for "
            f"`class/{data_class}` in `routing.residency`.",
            param="data_class",
        )


def _check_fields(asked: RequestContext, route: str, wanted: NewKey | KeyChange) -> None:
    """What others' calls cost and how busy they keep the upstreams is the platform's to show."""
    if wanted.routing_details:
        ownership.check_fields(asked, route, ownership.ROUTING_DETAILS, ("routing_details",))


def _key(asked: RequestContext, key_id: str) -> Key:
    """A key, by nobody whose role is for fewer models than it."""
    found = Key.model_validate(api_keys.find_key(asked.db, key_id))
    if not _is_seen(asked, found):
        raise ApiError("not_found", "There is no such key.", param="key_id")
    asked.need_for(found.models, found.tenant, **_place(found))
    return found


def _lasting_key(asked: RequestContext, key_id: str) -> Key:
    """A key that may be changed.

    Raises:
        ApiError: `conflict` of a key of the playground.
    """
    found = _key(asked, key_id)
    if not api_keys.is_lasting(key_id):
        raise ApiError("conflict", "A key of the playground ends by itself; it can only be "
                       "revoked.", param="key_id")  # fmt: skip
    return found


def _is_seen(asked: RequestContext, key: Key) -> bool:
    return asked.may_for("keys:read", key.models, key.tenant, **_place(key))


def _place(key: Key) -> dict[str, str]:
    return {"account": key.account, "project": key.project, "environment": key.environment}


@router.get("/{key_id}")
def read_key(asked: Reading, response: Response, key_id: str) -> Key:
    """Read one API key."""
    key = _key(asked, key_id)
    tag(response, key.revision)
    return key


@router.patch("/{key_id}")
def change_key(
    asked: Changing, response: Response, key_id: str, wanted: KeyChange, if_match: IfMatch = ""
) -> Key:
    """Change what a key may do; gateways follow within a second."""
    key = _lasting_key(asked, key_id)
    check_version(if_match, key.revision)
    values = wanted.model_dump(exclude_unset=True)
    if "models" in values:
        asked.need_for(wanted.models, key.tenant, **_place(key))
    _check_fields(asked, "PATCH /keys/{key_id}", wanted)
    values = {k: v for k, v in values.items() if v is not None or k in _UNBOUNDED}
    if values:
        api_keys.change_key(asked.db, key_id, values)
        asked.note(key.tenant, key_id, values)
    changed = Key.model_validate(api_keys.find_key(asked.db, key_id))
    tag(response, changed.revision)
    return changed


@router.post("/{key_id}/rotate", status_code=201)
def rotate_key(asked: Changing, key_id: str, wanted: Rotation) -> RotatedKey:
    """Make a successor of a key; the old key is served beside it for `overlap_s`."""
    old = _lasting_key(asked, key_id)
    new_id, key = api_keys.rotate_key(
        asked.db, asked.context.suite, key_id, wanted.overlap_s, asked.actor.id
    )
    asked.note(old.tenant, new_id, {"rotated_from": key_id})
    return RotatedKey(id=new_id, key=key, prefix=secrets.shown_part(key), rotated_from=key_id)


@router.delete("/{key_id}")
def revoke_key(asked: Revoking, key_id: str, if_match: IfMatch = "") -> RevokedKey:
    """Revoke a key; gateways refuse it within a second."""
    key = _key(asked, key_id)
    check_version(if_match, key.revision)
    api_keys.revoke_key(asked.db, key_id)
    asked.note(key.tenant, key_id)
    return RevokedKey(id=key_id)
