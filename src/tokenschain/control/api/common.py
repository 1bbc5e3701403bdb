"""What the routers of the admin API share."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import Field

from tokenschain.control.api.context import RequestContext
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing import limits

Money = Annotated[Decimal, Field(ge=0, le=10**6, max_digits=18, decimal_places=6)]


def renew_wallet(asked: RequestContext, tenant: str) -> None:
    total = ledger_module.credited(asked.db, tenant, asked.context.ledger.usd_cny_micro)
    limits.put_wallet(asked.db, tenant, total)


def with_detail(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"detail": msgspec.json.decode(row["detail"])}
