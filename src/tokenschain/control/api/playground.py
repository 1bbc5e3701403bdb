"""Admin API: keys that live some minutes, for the console's playground."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends

from tokenschain.control.api.bodies import Example, RequestBody
from tokenschain.control.api.context import AdminRoute, Label, Permission, RequestContext
from tokenschain.control.api.keys import IssuedKey, check_place, place_of
from tokenschain.control.api.model_names import ModelNames
from tokenschain.control.identity import api_keys, shares
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import CALL
from tokenschain.infra.security import secrets

router = APIRouter(prefix="/api/v1/playground", route_class=AdminRoute, tags=["keys"])
Calling = Annotated[RequestContext, Depends(Permission(CALL, Extent.PART, by_model=True))]


class NewPlaygroundKey(RequestBody):
    """Whose calls the key's are."""

    example: ClassVar[Example] = {"tenant": "default", "project": "search"}
    tenant: Label = "default"
    project: Label = "default"
    environment: Label = "default"
    models: ModelNames | None = None
    """Those that it may call; by default all that its maker may."""
    purpose: Literal["playground", "cache-warming"] = "playground"
    """What it is made for, as the audit log has it."""


class PlaygroundKey(IssuedKey):
    """A key that ends by itself."""

    expires_at_s: int


@router.post("/keys", status_code=201)
def create_playground_key(asked: Calling, wanted: NewPlaygroundKey) -> PlaygroundKey:
    """Create a key for trying models; it ends after 15 minutes, and does chat completions only.

    Calls with it count as any of the project's. A person has five at a time: another one ends the
    oldest.
    """
    where = place_of(asked, wanted.tenant, wanted.project, wanted.environment)
    models = wanted.models
    if models is None:
        own = asked.models_in(wanted.tenant, **where)
        models = None if own is None else sorted(own)
        if not shares.are_few(models or ()):
            raise ApiError("invalid_value", "Your roles are for more models than a key may name: "
                           "name some.", param="models")  # fmt: skip
    asked.need_for(models, wanted.tenant, **where)
    check_place(asked, wanted.tenant, where)
    key_id, key, ends_s = api_keys.create_playground_key(
        asked.db,
        asked.context.suite,
        tenant=wanted.tenant,
        project=wanted.project,
        environment=wanted.environment,
        models=models,
        created_by=asked.actor.id,
    )
    detail = {"project": wanted.project, "expires_at_s": ends_s, "purpose": wanted.purpose}
    asked.note(wanted.tenant, key_id, detail)
    return PlaygroundKey(id=key_id, key=key, prefix=secrets.shown_part(key), expires_at_s=ends_s)
