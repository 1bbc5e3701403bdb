"""What a request names: whoever may not see it is told what is told of nothing."""

from __future__ import annotations

from typing import Any

from tokenschain.control.api.context import RequestContext
from tokenschain.control.identity import organization
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

Row = dict[str, Any]


def need_tenant(asked: RequestContext, tenant: str) -> None:
    """Insist that a tenant is there; whoever asks has the permission in it.

    Raises:
        ApiError: `not_found`.
    """
    if organization.find(asked.db, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", f"There is no tenant `{tenant[:64]}`.", param="tenant")


def need_found(asked: RequestContext, found: Row | None, seen_with: str, what: str) -> Row:
    """Insist that something is there, and that the actor has the route's permission there.

    Args:
        found: a row with its `tenant`, empty for the platform's.
        seen_with: the permission with which one knows that it is there.
        what: in words; its id is the parameter `{what}_id`.

    Raises:
        ApiError: `not_found` or `permission_denied`.
    """
    tenant = PLATFORM if found is None else found["tenant"] or PLATFORM
    if found is None or not asked.may(seen_with, tenant):
        raise ApiError("not_found", f"There is no such {what}.", param=f"{what}_id")
    asked.need(tenant)
    return found
