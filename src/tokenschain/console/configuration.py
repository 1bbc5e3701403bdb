"""The configuration's resources as pages show them, and what a change does before it is made."""

from __future__ import annotations

from typing import Literal

import msgspec

from tokenschain.console.admin_api import ApiRefusal, Query, segment
from tokenschain.console.visit import Visit

NO_RESOURCE = "There is no such resource."


class ListedResource(msgspec.Struct):
    """One resource; see `GET /upstreams`."""

    kind: str
    tenant: str
    name: str
    spec: dict[str, object]
    managed_by: str
    revision: int
    changed_at_ms: int

    @property
    def of_file(self) -> bool:
        """Whether the settings file keeps it up: it is changed there."""
        return self.managed_by == "file"


class ListedResources(msgspec.Struct):
    """A page of resources."""

    data: list[ListedResource]
    next_cursor: str | None = None


class ChangedField(msgspec.Struct):
    """One field before and after."""

    field: str
    before: object
    after: object

    @property
    def texts(self) -> tuple[str, str]:
        """Both as JSON; empty where the field is not set."""
        return _json(self.before), _json(self.after)


class ChangedResource(msgspec.Struct):
    """What becomes of one resource."""

    kind: str
    tenant: str
    name: str
    action: Literal["added", "changed", "removed"]
    fields: list[ChangedField]


class ChangedNames(msgspec.Struct):
    """Names that gateways gain, lose or have otherwise."""

    gained: list[str]
    lost: list[str]
    changed: list[str]
    more: int


class ChangeEffects(msgspec.Struct):
    """What a change does to what gateways serve by."""

    upstreams: ChangedNames
    models: ChangedNames
    virtual_models: ChangedNames
    routing: bool
    cache: bool

    @property
    def rows(self) -> list[tuple[str, ChangedNames]]:
        """By kind, those of which anything changes."""
        found = [
            ("upstreams", self.upstreams),
            ("models", self.models),
            ("virtual_models", self.virtual_models),
        ]
        return [(kind, one) for kind, one in found if one.gained or one.lost or one.changed]


class AppliedChange(msgspec.Struct):
    """What was changed, or would be."""

    revision: int | None
    dry_run: bool
    changes: list[ChangedResource]
    effects: ChangeEffects
    warnings: list[str]


class ResourceNamed(msgspec.Struct):
    """Which resource a page is about."""

    name: str
    owner: str
    """Its tenant; empty for the platform's."""

    @property
    def query(self) -> Query:
        """For the API."""
        return {"tenant": self.owner}

    def path(self, kind: str) -> str:
        """Below the API."""
        return f"/{kind}/{segment(self.name)}"


def named_in(visit: Visit) -> ResourceNamed:
    """What the address, or the form, names."""
    given = visit.form if visit.form else visit.query
    return ResourceNamed(given.get("name", "").strip(), given.get("of", "").strip())


_KINDS = {
    "upstreams": "an upstream", "virtual-models": "a virtual model", "credentials": "a key",
    "moderation-policies": "a moderation policy",
}  # fmt: skip


async def need_new(visit: Visit, named: ResourceNamed, kind: str) -> None:
    """Insist that no resource of a kind has the name: setting one would change that one.

    Raises:
        ApiRefusal: one has it, or none may be looked for.
    """
    if not named.name:
        raise ApiRefusal(400, "invalid_value", "A name is missing.", "name")
    try:
        await visit.api.get(named.path(kind), ListedResource, named.query)
    except ApiRefusal as refusal:
        if refusal.status != 404:
            raise
    else:
        message = f"There is {_KINDS[kind]} `{named.name}` already: choose another name."
        raise ApiRefusal(409, "conflict", message, "name")


def owner_of_new(visit: Visit) -> str:
    """Whose a new resource is: of the tenant that is shown, or the platform's."""
    return visit.shown_tenant or ""


def if_match(visit: Visit) -> dict[str, str]:
    """The revision that a form was made with; a later change is not overwritten."""
    revision = visit.form.get("revision", "")[:20]
    return {"if-match": f'"{revision}"'} if revision else {}


def _json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
