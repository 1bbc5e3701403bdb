"""Admin API: wallets, selling prices, exchange rates, rating again."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select

from tokenschain.control.api.common import Money, renew_wallet
from tokenschain.control.api.context import (
    Asked,
    Body,
    MaybeLabel,
    NameQuery,
    Paged,
    TransactionRoute,
    listed,
    read_page,
)
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing import pricing, rerating
from tokenschain.control.identity import organization
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import MICRO_PER_UNIT, PICO_PER_UNIT, Price, PriceTier
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import fx_rates, ledger_entries, prices

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


class Deposit(Body):
    """What a tenant paid."""

    amount: Annotated[Decimal, Field(gt=0, le=10**6, max_digits=18, decimal_places=6)]
    currency: Literal["CNY", "USD"] = "CNY"
    reference: Annotated[str, Field(min_length=1, max_length=150)]


class Reversal(Body):
    """Why a transaction is undone."""

    reason: Annotated[str, Field(min_length=1, max_length=120)]


class NewPrice(Body):
    """What customers pay for a model, per 1,000,000 tokens."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    tenant: MaybeLabel = ""
    currency: Literal["CNY", "USD"] = "CNY"
    input: Money
    output: Money
    cached_input: Money | None = None
    from_s: Annotated[int | None, Field(ge=0, le=2**53)] = None


class FxRate(Body):
    """Yuan for a dollar."""

    usd_cny: Annotated[Decimal, Field(gt=0, le=1_000, decimal_places=6)]
    source: Annotated[str, Field(min_length=1, max_length=200)]


class Rerate(Body):
    """Which calls are rated again."""

    tenant: MaybeLabel = ""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    from_s: Annotated[int, Field(ge=0, le=2**53)]
    until_s: Annotated[int, Field(ge=0, le=2**53)]
    reason: Annotated[str, Field(min_length=1, max_length=120)]


@router.get("/wallets/{tenant}")
def read_wallet(asked: Asked, tenant: str) -> dict[str, Any]:
    """What a tenant has left by currency, and what its wallet allows."""
    asked.need("billing:read", tenant)
    unit = organization.find(asked.db, "tenant", tenant, tenant)
    if unit is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    return {
        "tenant": tenant,
        "prepaid": unit["prepaid"],
        "credit_pico": unit["credit_pico"],
        "balances_pico": ledger_module.balances_of(asked.db, tenant),
        "credited_pico_cny": ledger_module.credited(
            asked.db, tenant, asked.context.ledger.usd_cny_micro
        ),
    }


@router.post("/wallets/{tenant}/deposits", status_code=201)
def create_deposit(asked: Asked, tenant: str, wanted: Deposit) -> dict[str, Any]:
    """Enter what a tenant paid."""
    asked.need("billing:write", PLATFORM)
    if organization.find(asked.db, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    amount = int(wanted.amount * PICO_PER_UNIT)
    transaction = ledger_module.deposit(asked.db, tenant, wanted.currency, amount, wanted.reference)
    renew_wallet(asked, tenant)
    asked.note("billing:write", tenant, transaction, wanted.model_dump(mode="json"))
    return {
        "transaction_id": transaction,
        "balances_pico": ledger_module.balances_of(asked.db, tenant),
    }


@router.post("/ledger-entries/{transaction_id}/reverse", status_code=201)
def reverse_transaction(asked: Asked, transaction_id: str, wanted: Reversal) -> dict[str, Any]:
    """Undo a transaction by its opposite; nothing is ever changed or deleted."""
    asked.need("billing:write", PLATFORM)
    made = ledger_module.reverse(asked.db, transaction_id, wanted.reason)
    if made is None:
        raise ApiError(
            "not_found", "There is no such transaction, or it is undone.", param="transaction_id"
        )
    for tenant in ledger_module.tenants_of(asked.db, made):
        renew_wallet(asked, tenant)
    asked.note("billing:write", "", made, {"reverses": transaction_id, "reason": wanted.reason})
    return {"transaction_id": made}


@router.get("/ledger-entries")
def list_ledger_entries(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """The double-entry ledger, the latest first."""
    whose = asked.tenant(tenant, "billing:read")
    asked.need("billing:read", whose or PLATFORM)
    order = (ledger_entries.c.at_s, ledger_entries.c.id)
    rows = read_page(asked.db, select(ledger_entries), page, order, newest=True, tenant=whose)
    return listed(rows, page, order, rows)


@router.post("/prices", status_code=201)
def create_price(asked: Asked, wanted: NewPrice) -> dict[str, Any]:
    """Let a selling price begin; calls before it keep theirs."""
    asked.need("billing:write", PLATFORM)
    from_s = int(time.time()) if wanted.from_s is None else wanted.from_s
    cached = wanted.cached_input
    tier = PriceTier(
        int(wanted.input * MICRO_PER_UNIT),
        int(wanted.output * MICRO_PER_UNIT),
        None if cached is None else int(cached * MICRO_PER_UNIT),
    )
    price_id = pricing.add_price(
        asked.db, wanted.tenant, wanted.model, Price(wanted.currency, (tier,), ""), from_s
    )
    asked.note("billing:write", wanted.tenant, price_id, wanted.model_dump(mode="json"))
    return {"id": price_id, "from_s": from_s}


@router.get("/prices")
def list_prices(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Selling prices; those of one tenant are not another's to see."""
    whose = asked.tenant(tenant, "billing:read")
    query = select(prices)
    if whose is not None:
        query = query.where(prices.c.tenant.in_((whose, "")))
    order = (prices.c.id,)
    rows = read_page(asked.db, query, page, order)
    return listed(rows, page, order, list(map(pricing.shown, rows)))


@router.put("/fx-rates/{day}")
def put_fx_rate(asked: Asked, day: str, wanted: FxRate) -> dict[str, Any]:
    """Note the dollar's rate of a day, `2026-11-25`, China Standard Time."""
    asked.need("billing:write", PLATFORM)
    try:
        time.strptime(day, "%Y-%m-%d")
    except ValueError:
        raise ApiError("invalid_value", "A day is as 2026-11-25.", param="day") from None
    micro = pricing.set_rate(asked.db, day[:10], wanted.usd_cny, wanted.source)
    asked.note("billing:write", "", day, wanted.model_dump(mode="json"))
    return {"day": day, "usd_cny_micro": micro, "source": wanted.source}


@router.get("/fx-rates")
def list_fx_rates(asked: Asked, page: Paged) -> dict[str, Any]:
    """The dollar's rates, the latest first."""
    asked.tenant(None, "billing:read")
    order = (fx_rates.c.day,)
    rows = read_page(asked.db, select(fx_rates), page, order, newest=True)
    return listed(rows, page, order, rows)


@router.post("/rerate", status_code=201)
def rerate(asked: Asked, wanted: Rerate) -> dict[str, Any]:
    """Rate calls again by the selling prices that now hold for their time; the differences
    are entered as one adjustment."""
    asked.need("billing:write", PLATFORM)
    done = rerating.rerate(
        asked.db,
        tenant=wanted.tenant,
        model=wanted.model,
        from_ms=wanted.from_s * 1_000,
        until_ms=wanted.until_s * 1_000,
        reason=wanted.reason,
        clouds=asked.context.ledger.clouds,
        usd_cny_micro=asked.context.ledger.usd_cny_micro,
    )
    for tenant in done.differences_pico:
        renew_wallet(asked, tenant.partition(" ")[0])
    asked.note("billing:write", wanted.tenant, done.transaction_id, wanted.model_dump())
    return msgspec.to_builtins(done)  # type: ignore[no-any-return]
