"""Admin API: one's own signing keys.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends
from pydantic import Field

from tokenschain.control.api.bodies import AnswerBody, Example, Items, RequestBody
from tokenschain.control.api.context import VISIBLE_LINE, AdminRoute, Permission, RequestContext
from tokenschain.control.api.sessions import Changed
from tokenschain.control.identity import signing_keys
from tokenschain.control.identity.ownership import StepUp
from tokenschain.core.errors import ApiError

router = APIRouter(prefix="/api/v1/me", route_class=AdminRoute, tags=["users"])
Owning = Annotated[RequestContext, Depends(Permission(None))]
Proving = Annotated[RequestContext, Depends(Permission(None, step_up=StepUp.ALWAYS))]


class NewSigningKey(RequestBody):
    """A public key; the private one stays with its owner."""

    example: ClassVar[Example] = {
        "name": "laptop", "public_key": "7Q8q6O8lB2R3NVB1kKyc2x3Pq8n0c8C4b8Wl1vJg0mE=",
    }  # fmt: skip
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=VISIBLE_LINE)]
    public_key: Annotated[str, Field(max_length=200)]
    """Ed25519 in base64, or `sm2:` and an SM2 point in base64."""


class SigningKey(AnswerBody):
    """A public key that somebody signs acts with."""

    id: str
    name: str
    public_key: str
    created_at_s: int
    used_at_ms: int
    """When the last act was signed that changed something; 0: never."""


@router.post("/signing-keys", status_code=201)
def create_signing_key(asked: Proving, wanted: NewSigningKey) -> SigningKey:
    """Register a public key of one's own, to sign acts with that take a signature."""
    user_id = _person(asked)
    asked.need_step_up()
    made = signing_keys.add(asked.db, user_id, wanted.name, wanted.public_key, int(time.time()))
    detail = {"public_key": wanted.public_key, "name": wanted.name}
    asked.note(asked.actor.tenant, made["id"], detail, action="signing-key")
    return SigningKey.model_validate(made)


@router.get("/signing-keys")
def list_signing_keys(asked: Owning) -> Items[SigningKey]:
    """List one's own signing keys that are in force."""
    found = signing_keys.of_person(asked.db, _person(asked))
    return Items[SigningKey](data=[SigningKey.model_validate(one) for one in found])


@router.delete("/signing-keys/{key_id}")
def delete_signing_key(asked: Owning, key_id: str) -> Changed:
    """Let one of one's own signing keys sign nothing any more."""
    if not signing_keys.revoke(asked.db, _person(asked), key_id, int(time.time())):
        raise ApiError("not_found", "You have no such signing key.", param="key_id")
    asked.note(asked.actor.tenant, key_id, {"deleted": True}, action="signing-key")
    return Changed()


def _person(asked: RequestContext) -> str:
    if not asked.is_self(asked.actor.id) or not asked.actor.token_id:
        raise ApiError("permission_denied", "Only a person who signed in has signing keys.")
    return asked.actor.id
