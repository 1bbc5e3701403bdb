"""Wallet and budgets page: balance, credit line, ledger entries; deposits and their reversal."""

from __future__ import annotations

import re
from collections.abc import Awaitable

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, Query, segment
from tokenschain.console.limits import Limit, LimitList
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import PagePart, Visit, forbidden
from tokenschain.infra.security import secrets

PATH = "/console/wallet"
ENTRIES_SHOWN = 50
LINES_MAX = 200
LIMITS_READ_MAX = 200
"""Among them a tenant's budgets."""
"""Of a transaction, on its own page."""
REVERSIBLE = frozenset({"deposit", "adjustment"})
"""Kinds of transactions that the page offers to reverse."""
WRITE = "billing:write"
CURRENCIES = ("CNY", "USD")
_CALLS = re.compile(r"(\d+) calls from (\S+)")
DEPOSIT_FIELDS = ("tenant", "amount", "currency", "reference")
TYPED_CHARACTERS = 6


class FreeCreditLeft(msgspec.Struct):
    """Free credit that has not ended."""

    amount_pico: int
    left_pico: int
    expires_at_s: int


class WalletState(msgspec.Struct):
    """What a tenant has left; see `GET /wallets/{tenant}`."""

    tenant: str
    prepaid: bool
    credit_pico: int
    balances_pico: dict[str, int]
    grants: list[FreeCreditLeft] = []


class BookedLine(msgspec.Struct):
    """One line of a transaction; see `GET /ledger-entries`."""

    id: str
    transaction_id: str
    at_s: int
    kind: str
    account: str
    tenant: str
    currency: str
    amount_pico: int
    reference: str

    @property
    def calls(self) -> tuple[str, str] | None:
        """Of an entry for usage: of how many calls, and the id of the first."""
        found = _CALLS.fullmatch(self.reference) if self.kind == "usage" else None
        return None if found is None else (found[1], found[2])


class BookedLines(msgspec.Struct):
    """A page of them."""

    data: list[BookedLine]
    next_cursor: str | None = None

    @property
    def reversed(self) -> set[str]:
        """Transactions that another one on this page undoes."""
        return {one.reference.partition(" ")[0] for one in self.data if one.kind == "reversal"}


async def show(visit: Visit, renderer: Renderer) -> Response:
    """A tenant's wallet; for the platform without a tenant the ledger of all."""
    tenant = visit.shown_tenant
    query: Query = {
        "limit": ENTRIES_SHOWN, "cursor": visit.query.get("cursor"), "tenant": tenant
    }  # fmt: skip
    reads: dict[str, Awaitable[object]] = {
        "entries": visit.api.get("/ledger-entries", BookedLines, query)
    }
    if tenant and not visit.fragment:
        wanted: Query = {"tenant": tenant, "limit": LIMITS_READ_MAX}
        reads["wallet"] = visit.api.get(f"/wallets/{segment(tenant)}", WalletState)
        reads["limits"] = visit.api.get("/limits", LimitList, wanted)
    parts = await visit.parts(**reads)
    return renderer.page_or_part(
        "wallet.html", "_entries.html", visit, shown=tenant, entries=parts["entries"],
        wallet=parts.get("wallet"), limits=parts.get("limits"),
        budgets=_budgets(parts.get("limits")), reversible=REVERSIBLE,
    )  # fmt: skip


def _budgets(part: PagePart | None) -> list[Limit]:
    """The budgets of money among a tenant's limits, its wallet first."""
    found = [] if part is None or part.data is None else part.data.data
    money = (one for one in found if one.kind == "budget" and one.measure == "spend")
    return sorted(money, key=lambda one: (not one.wallet, one.id))


# --- deposits --------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for what a tenant paid."""
    _need_write(visit)
    given = dict.fromkeys(DEPOSIT_FIELDS, "") | {"tenant": visit.tenant or "", "currency": "CNY"}
    return _deposit_form(visit, renderer, given, None)


async def deposit(visit: Visit, renderer: Renderer) -> Response:
    """Enter what a tenant paid; the same form sent again enters nothing more."""
    given = {name: visit.form.get(name, "").strip() for name in DEPOSIT_FIELDS}
    path = f"/wallets/{segment(given['tenant'])}/deposits"
    body = {name: given[name] for name in ("amount", "currency", "reference")}
    try:
        await visit.api.send("POST", path, msgspec.Raw, body, visit.once)
    except ApiRefusal as refusal:
        return _deposit_form(visit, renderer, given, refusal)
    return RedirectResponse(visit.link(PATH, tenant=given["tenant"], project=""), 303)


def _deposit_form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    return renderer.form(
        "deposit.html", visit, refusal, given=given, currencies=CURRENCIES,
        once=secrets.new_id("once"),
    )  # fmt: skip


# --- reversals -------------------------------------------------------------------------------


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """What undoing a transaction does, with the end of its id to type."""
    _need_write(visit)
    return await _reversal_form(visit, renderer, visit.query.get("transaction", ""))


async def reverse(visit: Visit, renderer: Renderer) -> Response:
    """Undo a transaction by its opposite, with a reason."""
    transaction = visit.form.get("transaction", "")
    reason = visit.form.get("reason", "").strip()
    if visit.form.get("typed", "") != transaction[-TYPED_CHARACTERS:]:
        return await _reversal_form(visit, renderer, transaction, reason, wrong="wallet.not_its_id")
    path = f"/ledger-entries/{segment(transaction)}/reverse"
    try:
        await visit.api.send("POST", path, msgspec.Raw, {"reason": reason}, visit.once)
    except ApiRefusal as refusal:
        return await _reversal_form(visit, renderer, transaction, reason, refusal)
    return RedirectResponse(visit.link(PATH), 303)


async def _reversal_form(
    visit: Visit,
    renderer: Renderer,
    transaction: str,
    reason: str = "",
    refusal: ApiRefusal | None = None,
    wrong: str = "",
) -> Response:
    query: Query = {"transaction_id": transaction, "limit": LINES_MAX}
    lines: list[BookedLine] = []
    if transaction:
        lines = (await visit.api.get("/ledger-entries", BookedLines, query)).data
    if not lines:
        raise refusal or ApiRefusal(404, "not_found", visit.text("wallet.no_transaction"))
    return renderer.form(
        "reversal.html", visit, refusal, wrong, transaction=transaction, lines=lines,
        reason=reason, once=secrets.new_id("once"), typed=transaction[-TYPED_CHARACTERS:],
    )  # fmt: skip


def _need_write(visit: Visit) -> None:
    """Money is entered by the platform's people alone.

    Raises:
        ApiRefusal: it is not one who may.
    """
    if not visit.reader.may_at(WRITE):
        raise forbidden(WRITE)


PAGES = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/deposit"): ask,
    ("POST", f"{PATH}/deposit"): deposit,
    ("GET", f"{PATH}/reverse"): confirm,
    ("POST", f"{PATH}/reverse"): reverse,
}
