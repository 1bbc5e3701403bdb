"""Admin API: transfers of data abroad, by tenant and month."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import AdminRoute, NameQuery, Permission, RequestContext
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.sovereignty import transfers
from tokenschain.core.compliance.transfers import ABROAD, Basis, day_of
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["audit"])
Reading = Annotated[RequestContext, Depends(Permission("audit:read", Extent.TENANT))]


class Transfers(AnswerBody):
    """What of a tenant's data went abroad in a month, or where nobody knows."""

    tenant: str
    month: str
    calls: int
    """Calls that an upstream abroad was asked for, whether it answered or not."""
    unnamed_calls: int
    """Of those, calls without an end user (`safety_identifier`, `user`): nobody knows how many
    people they are about, and they are in none of the other counts."""
    new_end_users: int
    """People whose data went abroad in this month for the first time in the year."""
    end_users_in_year: int
    """Different end users since 1 January, in China."""
    sensitive_end_users_in_year: int
    """Of those, with data of `sovereignty.sensitive_classes`."""
    basis: Basis
    """See `sovereignty.transfer_basis`."""
    end_users_max: int | None
    sensitive_end_users_max: int | None
    warning: bool
    """Whether four fifths of a limit are reached."""
    stopped: bool
    """Whether nothing of the tenant's goes abroad any more."""
    recipients: list[str]
    """Who abroad, or nobody knows where, is registered (`processors`) and may be asked."""


@router.get("/transfers")
def list_transfers(
    asked: Reading,
    month: Annotated[
        str, Query(max_length=7, pattern=r"^(\d{4}-\d\d)?$", examples=["2026-11"])
    ] = "",
    tenant: NameQuery = None,
) -> Items[Transfers]:
    """Report data sent abroad in a month in China, the present one by default, by tenant."""
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    given = month or time.strftime("%Y-%m", time.gmtime(day_of(time.time_ns() // 10**6) * 86_400))
    try:
        rows = transfers.report(
            asked.db, asked.context.settings.sovereignty, whose, given, _recipients(asked)
        )
    except ValueError as error:
        raise ApiError("invalid_value", "There is no such month.", param="month") from error
    return Items[Transfers](data=[Transfers(**row) for row in rows])


def _recipients(asked: RequestContext) -> Callable[[str], list[str]]:
    """Vendors of upstreams abroad that are the platform's or a tenant's own."""
    register = asked.context.configurator.current(asked.db).given.processors.values()
    known = asked.context.publisher.snapshot.upstreams
    abroad = {name: one.tenant for name, one in known.items() if one.zone in ABROAD}

    def of(tenant: str) -> list[str]:
        mine = {name for name, owner in abroad.items() if owner in ("", tenant)}
        return sorted({one.vendor for one in register if not mine.isdisjoint(one.upstreams)})

    return of
