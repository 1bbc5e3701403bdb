"""Ownership: what of a tenant belongs to the platform and needs the platform's permission."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, select, update

from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import limits


class FieldRight(NamedTuple):
    """A field of a request that only the platform may set, whatever the rights in the tenant."""

    route: str
    """Method and path below `/api/v1`."""
    kind: str
    """Of the unit."""
    field: str
    action: str
    """The permission that is needed on the platform."""


FIELD_RIGHTS = (
    FieldRight("POST /organization/units", "tenant", "prepaid", "billing:write"),
    FieldRight("POST /organization/units", "tenant", "credit", "billing:write"),
    FieldRight("PATCH /organization/units/{unit_id}", "tenant", "prepaid", "billing:write"),
    FieldRight("PATCH /organization/units/{unit_id}", "tenant", "credit", "billing:write"),
    FieldRight("PATCH /organization/units/{unit_id}", "tenant", "closed", "org:write"),
)


class Asker(Protocol):
    """Who asks; see `control.api.context.RequestContext`."""

    def need_also(self, action: str, tenant: str) -> None:
        """Insist on a permission.

        Raises:
            ApiError: `permission_denied`.
        """


def check_fields(asked: Asker, route: str, kind: str, fields: Iterable[str]) -> None:
    """Insist on the platform's permission for those fields that are its own.

    Raises:
        ApiError: `permission_denied`.
    """
    given = frozenset(fields)
    for right in FIELD_RIGHTS:
        if right.route == route and right.kind == kind and right.field in given:
            asked.need_also(right.action, PLATFORM)


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
