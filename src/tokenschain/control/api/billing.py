"""Admin API: wallets, ledger entries, selling prices, exchange rates, rating again."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Annotated, ClassVar

import msgspec
from fastapi import APIRouter, Depends
from pydantic import Field, StringConstraints

from tokenschain.control.api.bodies import AnswerBody, Example, ListAnswer, RequestBody, listed
from tokenschain.control.api.context import (
    AdminRoute,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.money import Currency, Money, Paid, PriceList
from tokenschain.control.billing import grants, ledger, pricing, rerating, wallets
from tokenschain.control.identity import organization
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import MICRO_PER_UNIT, PICO_PER_UNIT, Price, PriceTier
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["billing"])
Reading = Annotated[RequestContext, Depends(Permission("billing:read", Extent.TENANT))]
Listing = Annotated[RequestContext, Depends(Permission("billing:read", Extent.ROWS))]
ListingPrices = Annotated[
    RequestContext, Depends(Permission("billing:read", Extent.ROWS, by_model=True))
]
Writing = Annotated[RequestContext, Depends(Permission("billing:write", Extent.PLATFORM))]


class Deposit(RequestBody):
    """What a tenant paid."""

    example: ClassVar[Example] = {
        "amount": "1000.00",
        "currency": "CNY",
        "reference": "bank 2026-11-25/17",
    }
    amount: Paid
    currency: Currency = "CNY"
    reference: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=150)
    ]
    """The bank's: it counts once for a tenant."""


class Reversal(RequestBody):
    """Why a transaction is undone."""

    example: ClassVar[Example] = {"reason": "entered twice"}
    reason: Annotated[str, Field(min_length=1, max_length=120)]


class NewPrice(RequestBody):
    """What customers pay for a model, per 1,000,000 tokens."""

    example: ClassVar[Example] = {
        "model": "qwen-plus",
        "currency": "CNY",
        "input": "0.8",
        "output": "2",
    }
    model: Annotated[str, Field(min_length=1, max_length=256)]
    tenant: MaybeLabel = ""
    currency: Currency = "CNY"
    input: Money
    output: Money
    cached_input: Money | None = None
    from_s: Annotated[int | None, Field(ge=0, le=2**53)] = None


class NewFxRate(RequestBody):
    """Yuan for a dollar."""

    example: ClassVar[Example] = {"usd_cny": "7.0805", "source": "CFETS"}
    usd_cny: Annotated[Decimal, Field(gt=0, le=1_000, decimal_places=6)]
    source: Annotated[str, Field(min_length=1, max_length=200)]


class Rerate(RequestBody):
    """Which calls are rated again."""

    example: ClassVar[Example] = {
        "tenant": "acme",
        "model": "qwen-plus",
        "from_s": 1_764_000_000,
        "until_s": 1_764_086_400,
        "reason": "the price of November was entered late",
    }
    tenant: MaybeLabel = ""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    from_s: Annotated[int, Field(ge=0, le=2**53)]
    until_s: Annotated[int, Field(ge=0, le=2**53)]
    reason: Annotated[str, Field(min_length=1, max_length=120)]


class FreeCredit(AnswerBody):
    """Free credit of a tenant, in pico-yuan."""

    amount_pico: int
    left_pico: int
    """Not used yet; it ends then."""
    expires_at_s: int


class Wallet(AnswerBody):
    """What a tenant has left by currency, and what its wallet allows; in 10^-12 of the unit."""

    tenant: str
    prepaid: bool
    credit_pico: int
    balances_pico: dict[str, int]
    credited_pico_cny: int
    """Paid and credited in all, in pico-yuan; what was used is not in it."""
    grants: list[FreeCredit]
    """That have not ended."""


class Deposited(AnswerBody):
    """A deposit that was entered, and the balances after it."""

    transaction_id: str
    balances_pico: dict[str, int]


class Reversed(AnswerBody):
    """The transaction that undoes another."""

    transaction_id: str


class LedgerEntry(AnswerBody):
    """One line of a transaction of the double-entry ledger."""

    id: str
    transaction_id: str
    at_s: int
    kind: str
    account: str
    tenant: str
    currency: str
    amount_pico: int
    reference: str


class CreatedPrice(AnswerBody):
    """A selling price that was added."""

    id: str
    from_s: int


class SellingPrice(CreatedPrice):
    """What customers pay for a model from a time on."""

    tenant: str
    model: str
    price: PriceList
    created_at_s: int


class FxRate(AnswerBody):
    """The dollar's rate of a day, in millionths of a yuan."""

    day: str
    usd_cny_micro: int
    source: str


class Rerated(AnswerBody):
    """What rating again came to."""

    calls: int
    changed: int
    differences_pico: dict[str, int]
    """By `tenant currency`."""
    transaction_id: str


@router.get("/wallets/{tenant}")
def read_wallet(asked: Reading, tenant: str) -> Wallet:
    """Read what a tenant has left by currency, and what its wallet allows."""
    asked.need(tenant)
    unit = organization.find(asked.db, "tenant", tenant, tenant)
    if unit is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    rate = asked.context.ledger.usd_cny_micro
    return Wallet(
        tenant=tenant,
        prepaid=unit["prepaid"],
        credit_pico=unit["credit_pico"],
        balances_pico=ledger.balances_of(asked.db, tenant),
        credited_pico_cny=ledger.credited(asked.db, tenant, rate),
        grants=[FreeCredit(**one._asdict()) for one in grants.of_tenant(asked.db, tenant, rate)],
    )


@router.post("/wallets/{tenant}/deposits", status_code=201)
def create_deposit(asked: Writing, tenant: str, wanted: Deposit) -> Deposited:
    """Enter what a tenant paid; a reference counts once, unless its deposit was reversed."""
    if organization.find(asked.db, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", "There is no such tenant.", param="tenant")
    amount = int(wanted.amount * PICO_PER_UNIT)
    try:
        transaction = ledger.deposit(asked.db, tenant, wanted.currency, amount, wanted.reference)
    except ledger.AlreadyEntered as before:
        raise ApiError(
            "conflict",
            f"The reference `{wanted.reference}` was entered before, by the transaction {before}; "
            "reverse that first if it was wrong.",
            param="reference",
        ) from None
    wallets.renew(asked.db, tenant, asked.context.ledger.usd_cny_micro)
    asked.note(tenant, transaction, wanted.model_dump(mode="json"))
    return Deposited(transaction_id=transaction, balances_pico=ledger.balances_of(asked.db, tenant))


@router.post("/ledger-entries/{transaction_id}/reverse", status_code=201)
def reverse_transaction(asked: Writing, transaction_id: str, wanted: Reversal) -> Reversed:
    """Undo a transaction by its opposite; nothing is ever changed or deleted."""
    made = ledger.reverse(asked.db, transaction_id, wanted.reason)
    if made is None:
        raise ApiError(
            "not_found", "There is no such transaction, or it is undone.", param="transaction_id"
        )
    for tenant in ledger.tenants_of(asked.db, made):
        wallets.renew(asked.db, tenant, asked.context.ledger.usd_cny_micro)
    asked.note("", made, {"reverses": transaction_id, "reason": wanted.reason})
    return Reversed(transaction_id=made)


@router.get("/ledger-entries")
def list_ledger_entries(
    asked: Reading, page: Paged, tenant: NameQuery = None, transaction_id: NameQuery = None
) -> ListAnswer[LedgerEntry]:
    """List the double-entry ledger, the latest entry first; or the lines of one transaction."""
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    found = ledger.entries_page(asked.db, page, whose, transaction_id)
    return listed(ListAnswer[LedgerEntry], found, found.rows)


@router.post("/prices", status_code=201)
def create_price(asked: Writing, wanted: NewPrice) -> CreatedPrice:
    """Let a selling price begin; calls before it keep theirs."""
    from_s = int(time.time()) if wanted.from_s is None else wanted.from_s
    cached = wanted.cached_input
    tier = PriceTier(
        int(wanted.input * MICRO_PER_UNIT),
        int(wanted.output * MICRO_PER_UNIT),
        None if cached is None else int(cached * MICRO_PER_UNIT),
    )
    price = Price(wanted.currency, (tier,), "")
    price_id = pricing.add_price(asked.db, wanted.tenant, wanted.model, price, from_s)
    asked.note(wanted.tenant, price_id, wanted.model_dump(mode="json"))
    return CreatedPrice(id=price_id, from_s=from_s)


@router.get("/prices")
def list_prices(
    asked: ListingPrices, page: Paged, tenant: NameQuery = None
) -> ListAnswer[SellingPrice]:
    """List selling prices; those of one tenant are not another's to see."""
    whose = asked.tenant(tenant)
    found = pricing.page(asked.db, page, whose, asked.models_anywhere(whose))
    return listed(ListAnswer[SellingPrice], found, found.rows)


@router.put("/fx-rates/{day}")
def put_fx_rate(asked: Writing, day: str, wanted: NewFxRate) -> FxRate:
    """Note the dollar's rate of a day, `2026-11-25`, China Standard Time."""
    try:
        time.strptime(day, "%Y-%m-%d")
    except ValueError:
        raise ApiError("invalid_value", "A day is as 2026-11-25.", param="day") from None
    micro = pricing.set_rate(asked.db, day[:10], wanted.usd_cny, wanted.source)
    asked.note("", day, wanted.model_dump(mode="json"))
    return FxRate(day=day, usd_cny_micro=micro, source=wanted.source)


@router.get("/fx-rates")
def list_fx_rates(asked: Listing, page: Paged) -> ListAnswer[FxRate]:
    """List the dollar's rates, the latest first."""
    asked.tenant(None)
    found = pricing.rates_page(asked.db, page)
    return listed(ListAnswer[FxRate], found, found.rows)


@router.post("/rerate", status_code=201)
def rerate(asked: Writing, wanted: Rerate) -> Rerated:
    """Rate calls again by the selling prices that now hold for their time.

    The differences are entered as one adjustment.
    """
    done = rerating.rerate(
        asked.db,
        tenant=wanted.tenant,
        model=wanted.model,
        from_ms=wanted.from_s * 1_000,
        until_ms=wanted.until_s * 1_000,
        reason=wanted.reason,
        clouds=asked.context.ledger.clouds,
        tag_names=asked.context.ledger.tag_names,
        usd_cny_micro=asked.context.ledger.usd_cny_micro,
        tenants=asked.context.publisher.snapshot.tenants,
    )
    for name in done.differences_pico:
        tenant = name.partition(" ")[0]
        wallets.renew(asked.db, tenant, asked.context.ledger.usd_cny_micro)
    asked.note(wanted.tenant, done.transaction_id, wanted.model_dump())
    return Rerated(**msgspec.structs.asdict(done))
