"""Ownership: where a permission has to hold, and which fields are the platform's own.

With the permission that each operation of the admin API declares, this is the table of rights:
operation x field x permission. The checks are made from it, docs/reference/permissions.md shows it,
and tests/security/test_permissions.py walks it with roles of every kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Connection, select, update

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import limits


class Extent(StrEnum):
    """Where somebody must have the permission that an operation declares."""

    PLATFORM = "on the platform"
    TENANT = "in the tenant, or on the platform"
    PART = "in the part of the tenant that it is about, in the tenant, or on the platform"
    ROWS = "anywhere in the tenant; what it does not reach is not shown"


class StepUp(StrEnum):
    """When whoever acts has to show again all that signing in takes: a session may be somebody
    else's by now. A program's token never does, the admin token always."""

    REQUEST = "in the request itself"
    ALWAYS = "within the last minutes"
    POWER = (
        "within the last minutes, for a password, an address, letting in, power over accounts, or "
        "no longer demanding a second factor"
    )


class FieldRight(NamedTuple):
    """A field that is the platform's own, whatever the rights in the tenant."""

    route: str
    """Method and path below `/api/v1`."""
    side: Literal["request", "answer"]
    """In a request it is refused, of an answer it is left out."""
    when: str
    """Of which objects; empty: of all."""
    field: str
    """`*`: the whole operation."""
    action: str
    """The permission that is needed on the platform."""


TENANT_UNIT = "tenant"
CLOSED = "closed by the platform"
DISABLED = "disabled by the platform"
SET = "set by the platform"
NEW_TENANT = "a tenant that is not there yet"
ROUTING_DETAILS = "set to true"
OWN = "a tenant's own upstream"
PINNED = "a tenant's own upstream of which the platform set a field"
_COSTS = ("cost_pico", "currency")
_ATTEMPT_COSTS = tuple(f"attempts.{n}" for n in (*_COSTS, "price_version", "overhead"))
_CALL_COSTS = (*_COSTS, "price_version", "route", "gateway", *_ATTEMPT_COSTS)
_HIDDEN = {
    "GET /usage": (
        *_COSTS, "platform_prompt_tokens", "platform_completion_tokens", "platform_cost_pico",
    ),
    "GET /calls": _CALL_COSTS,
    "GET /calls/{event_id}": _CALL_COSTS,
    "GET /calls/export": (*_COSTS, "price_version", "route", *_ATTEMPT_COSTS),
    "GET /audit-log/entries": ("platform",),
    "GET /audit-log/proofs/{event_id}": ("platform",),
}  # fmt: skip
_UNIT, _LIMIT = "/organization/units/{unit_id}", "/limits/{limit_id}"
_UPSTREAM = "PUT /upstreams/{resource_name}"
_USER = "PATCH /users/{user_id}"

FIELD_RIGHTS = (
    FieldRight("POST /organization/units", "request", TENANT_UNIT, "*", "org:write"),
    FieldRight("POST /organization/units", "request", TENANT_UNIT, "prepaid", "billing:write"),
    FieldRight("POST /organization/units", "request", TENANT_UNIT, "credit", "billing:write"),
    FieldRight(f"PATCH {_UNIT}", "request", TENANT_UNIT, "prepaid", "billing:write"),
    FieldRight(f"PATCH {_UNIT}", "request", TENANT_UNIT, "credit", "billing:write"),
    FieldRight(f"PATCH {_UNIT}", "request", TENANT_UNIT, "closed", "org:write"),
    FieldRight(f"PATCH {_UNIT}", "request", CLOSED, "closed", "org:write"),
    FieldRight("POST /keys", "request", NEW_TENANT, "*", "org:write"),
    FieldRight("POST /keys", "request", ROUTING_DETAILS, "routing_details", "billing:read"),
    FieldRight(
        "PATCH /keys/{key_id}", "request", ROUTING_DETAILS, "routing_details", "billing:read"
    ),
    FieldRight(f"PUT {_LIMIT}", "request", SET, "*", "limits:write"),
    FieldRight(f"DELETE {_LIMIT}", "request", SET, "*", "limits:write"),
    FieldRight(_UPSTREAM, "request", OWN, "zone", "configuration:write"),
    FieldRight(_UPSTREAM, "request", OWN, "call_fee_micro_cny", "configuration:write"),
    # A reference leads to what the gateway's machine holds; `stored:` is the tenant's.
    FieldRight(_UPSTREAM, "request", OWN, "credential", "configuration:write"),
    *(
        FieldRight(_UPSTREAM, "request", PINNED, field, "configuration:write")
        for field in ("provider", "base_url", "token_url")
    ),
    FieldRight(_UPSTREAM.replace("PUT", "DELETE"), "request", PINNED, "*", "configuration:write"),
    FieldRight(_USER, "request", DISABLED, "disabled", "users:write"),
    # An older account goes first where an address signs in, unless one of them is confirmed.
    FieldRight(_USER, "request", "", "email", "users:write"),
    *(
        FieldRight(route, "answer", "", field, "billing:read")
        for route, fields in _HIDDEN.items()
        for field in fields
    ),
    # Gateways are the platform's, and so is what else a configuration holds.
    *(
        FieldRight(route, "answer", "", f"refusals.{field}", "configuration:read")
        for route in ("GET /revisions", "GET /revisions/{revision}")
        for field in ("gateway", "why")
    ),
    FieldRight("GET /served-models", "answer", "", "offers", "models:read"),
)


class Asker(Protocol):
    """Who asks; see `control.api.context.RequestContext`."""

    def need_also(self, action: str, tenant: str, *, model: str = "") -> None:
        """Insist on a permission.

        Raises:
            ApiError: `permission_denied`.
        """

    def may(self, action: str, tenant: str, *, model: str = "") -> bool:
        """Whether a permission is given."""


def check_fields(
    asked: Asker,
    route: str,
    when: str,
    fields: Iterable[str] = (),
    why: str = "",
    *,
    model: str = "",
) -> None:
    """Insist on the platform's permission for what is its own in a request.

    Args:
        when: of which objects it is one.
        fields: those that the request sets.
        why: what is said where the permission's name alone does not explain it.
        model: that the object is about, if it is about one.

    Raises:
        ApiError: `permission_denied`.
    """
    given = frozenset(fields)
    for right in FIELD_RIGHTS:
        if (right.route, right.side, right.when) == (route, "request", when) and (
            right.field == "*" or right.field in given
        ):
            if why and not asked.may(right.action, PLATFORM, model=model):
                raise ApiError("permission_denied", why)
            asked.need_also(right.action, PLATFORM, model=model)


def hidden_fields(asked: Asker, route: str) -> frozenset[str]:
    """The fields that are left out of an answer."""
    return frozenset(
        right.field
        for right in FIELD_RIGHTS
        if (right.route, right.side) == (route, "answer") and not asked.may(right.action, PLATFORM)
    )


def without(rows: Iterable[Mapping[str, Any]], hidden: Collection[str]) -> list[dict[str, Any]]:
    """Rows without hidden fields; `list.field` is one of the rows of a list in them."""
    shown = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    inner = [name.partition(".") for name in hidden if "." in name]
    for row in shown:
        for inside in {inside for inside, _, _ in inner}:
            names = {name for where, _, name in inner if where == inside}
            row[inside] = without(row[inside], names)
    return shown


def is_set_by_platform(connection: Connection, limit_id: str) -> bool:
    """Whether the platform set a limit last; it alone changes it then."""
    found = connection.execute(
        select(limits.c.set_by_platform).where(limits.c.id == limit_id)
    ).scalar()
    return bool(found)


def note_limit(connection: Connection, limit_id: str, *, set_by_platform: bool) -> None:
    """Note who set a limit."""
    connection.execute(
        update(limits).where(limits.c.id == limit_id).values(set_by_platform=set_by_platform)
    )
