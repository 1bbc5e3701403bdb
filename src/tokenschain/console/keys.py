"""API keys page: the list, a new key shown once, and revoking by typing the name."""

from __future__ import annotations

from datetime import datetime

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.models import ModelList
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit
from tokenschain.core.presentation import SHANGHAI
from tokenschain.infra.security import secrets

PATH = "/console/keys"
LISTED_MAX = 75
FIELDS = ("name", "tenant", "project", "environment", "models", "networks", "expires")


class ApiKey(msgspec.Struct):
    """A key as its list shows it; see `GET /keys`."""

    id: str
    prefix: str
    name: str
    tenant: str
    project: str
    environment: str
    models: list[str] | None
    networks: list[str] | None
    created_at_s: int
    expires_at_s: int | None
    revoked_at_s: int | None
    last_used_at_s: int | None
    revision: int

    def state(self, now_s: float) -> str:
        """Whether it is served; see `keys.state.` in the catalogue."""
        if self.revoked_at_s is not None and self.revoked_at_s <= now_s:
            return "revoked"
        if self.expires_at_s is not None and self.expires_at_s <= now_s:
            return "expired"
        return "ending" if self.revoked_at_s is not None else "active"


class ApiKeyList(msgspec.Struct):
    """A page of keys."""

    data: list[ApiKey]
    next_cursor: str | None = None


class CreatedKey(msgspec.Struct):
    """A new key; it is shown once."""

    id: str
    key: str


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The keys, the newest first."""
    query = {
        "limit": LISTED_MAX,
        "cursor": visit.query.get("cursor"),
        "tenant": visit.tenant,
        "project": visit.query.get("project"),
    }
    parts = await visit.parts(keys=visit.api.get("/keys", ApiKeyList, query))
    return renderer.page("keys.html", visit, keys=parts["keys"])


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new key."""
    given = {
        "name": "",
        "tenant": visit.shown_tenant or "default",
        "project": visit.project("keys:create") or "default",
        "environment": "default",
    }
    return _form(visit, renderer, given, None)


async def create(visit: Visit, renderer: Renderer) -> Response:
    """Make a key, and show it this once: never in an address, nor kept by the browser."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body: dict[str, object] = {
        name: given[name] for name in ("name", "tenant", "project", "environment") if given[name]
    }
    for name in ("models", "networks"):
        if given[name]:
            body[name] = [one for one in given[name].replace(",", " ").split() if one]
    try:
        if given["expires"]:
            body["expires_at_s"] = _end_of_day(given["expires"])
        made = await visit.api.send("POST", "/keys", CreatedKey, body, visit.once)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, refusal)
    named = body.get("models")
    model = str(named[0]) if isinstance(named, list) and named else await _any_model(visit)
    return renderer.page("key_created.html", visit, made=made, given=given, model=model)


async def _any_model(visit: Visit) -> str:
    """A model for the code to try the key with, so that it runs as it stands."""
    try:
        served = await visit.api.get("/served-models", ModelList)
    except ApiRefusal:
        return "MODEL"
    return next((one.name for one in served.data if one.kind == "chat"), "MODEL")


def _form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    full = {name: given.get(name, "") for name in FIELDS}
    return renderer.form("key_new.html", visit, refusal, given=full, once=secrets.new_id("once"))


def _end_of_day(day: str) -> int:
    """When a day ends in Shanghai.

    Raises:
        ApiRefusal: it is none.
    """
    try:
        found = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=SHANGHAI)
    except ValueError:
        raise ApiRefusal(400, "invalid_value", f"{day[:20]} is no day.", "expires_at_s") from None
    return int(found.timestamp()) + 86_400


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """What revoking a key does, with its name to type."""
    key = await visit.api.get(f"/keys/{segment(visit.query.get('key', ''))}", ApiKey)
    return renderer.form("key_revoke.html", visit, key=key)


async def revoke(visit: Visit, renderer: Renderer) -> Response:
    """Revoke a key whose name was typed, unless it was changed since the page was read."""
    path = f"/keys/{segment(visit.form.get('key', ''))}"
    key = await visit.api.get(path, ApiKey)
    if visit.form.get("typed", "") != key.name:
        return renderer.form("key_revoke.html", visit, wrong="keys.not_the_name", key=key)
    revision = f'"{visit.form.get("revision", "")[:20]}"'
    try:
        await visit.api.send("DELETE", path, msgspec.Raw, headers={"if-match": revision})
    except ApiRefusal as refusal:
        return renderer.form("key_revoke.html", visit, refusal, key=key)
    return RedirectResponse(visit.link(PATH), 303)
