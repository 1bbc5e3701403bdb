"""Organisation page: tenant, accounts, projects and environments as a tree; made and changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, Query, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.presentation import PICO_DIGITS, exact_decimal
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.security import secrets

PATH = "/console/organization"
NEW, EDIT = f"{PATH}/new", f"{PATH}/edit"
LISTED_MAX = 200
PAGES_MAX = 5
"""Of the API's list that one page shows; what is left out is said."""
WRITE, MONEY = "org:write", "billing:write"
KINDS = ("project", "account", "environment", "tenant")
FIELDS = ("kind", "tenant", "account", "project", "name", "title", "prepaid", "credit")


class TreeUnit(msgspec.Struct):
    """A tenant, account, project or environment; see `GET /organization/units`."""

    id: str
    kind: str
    tenant: str
    account: str
    project: str
    name: str
    title: str
    closed_at_s: int | None
    closed_by_platform: bool
    prepaid: bool
    credit_pico: int
    second_factor_required: bool
    created_at_s: int
    version: int

    def may_change(self, visit: Visit) -> bool:
        """Whether the reader may rename it."""
        where = {"account": self.account, "project": self.project}
        if self.kind != "tenant":
            where[self.kind] = self.name
        return visit.reader.may_at(WRITE, self.tenant, **where)

    def may_close(self, visit: Visit) -> bool:
        """Whether the reader may close it, or open it again."""
        if self.kind == "tenant" or self.closed_by_platform:
            return visit.reader.may_at(WRITE)
        return self.may_change(visit)


class TreeUnits(msgspec.Struct):
    """A page of them."""

    data: list[TreeUnit]
    next_cursor: str | None = None


class Branch(NamedTuple):
    """A line of the tree, and how deep it is."""

    unit: TreeUnit
    depth: int


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The organisation as a tree."""
    parts = await visit.parts(units=_read_all(visit, visit.tenant))
    units = parts["units"]
    return renderer.page(
        "organization.html", visit, units=units,
        tree=[] if units.data is None else _tree(units.data.data),
        may_make=visit.reader.may(WRITE),
    )  # fmt: skip


async def _read_all(visit: Visit, tenant: str | None) -> TreeUnits:
    found = TreeUnits([])
    for _ in range(PAGES_MAX):
        query: Query = {"tenant": tenant, "limit": LISTED_MAX, "cursor": found.next_cursor}
        page = await visit.api.get("/organization/units", TreeUnits, query)
        found = TreeUnits(found.data + page.data, page.next_cursor)
        if page.next_cursor is None:
            break
    return found


def _tree(units: Sequence[TreeUnit]) -> list[Branch]:
    """Each unit below what it belongs to: accounts with their projects, then the others.

    What hangs on a unit that the reader may not see stands where that would be.
    """

    def place(unit: TreeUnit) -> tuple[str, ...]:
        match unit.kind:
            case "tenant":
                return (unit.tenant,)
            case "account":
                return (unit.tenant, "0", unit.name)
            case "project":
                return (unit.tenant, *_below(unit.account), unit.name)
        project = projects.get((unit.tenant, unit.project))
        account = "" if project is None else project.account
        return (unit.tenant, *_below(account), unit.project, unit.name)

    projects = {(one.tenant, one.name): one for one in units if one.kind == "project"}
    rows = sorted(((place(one), one) for one in units), key=lambda row: row[0])
    depths = {"tenant": 0, "account": 1, "project": 1, "environment": 2}
    return [
        Branch(one, depths[one.kind] + (at[1:2] == ("0",) and one.kind != "account"))
        for at, one in rows
    ]


def _below(account: str) -> tuple[str, ...]:
    """Where an account's projects are sorted: behind it; those of none behind all accounts."""
    return ("0", account) if account else ("1",)


# --- making --------------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new unit."""
    if not visit.reader.may(WRITE):
        raise forbidden(WRITE)
    given = dict.fromkeys(FIELDS, "") | {
        "kind": visit.choice("kind", _kinds(visit)), "tenant": visit.shown_tenant or "",
        "account": visit.query.get("account", ""), "project": visit.query.get("project", ""),
    }  # fmt: skip
    return _new_form(visit, renderer, given, None)


async def make(visit: Visit, renderer: Renderer) -> Response:
    """Make a unit; the same form sent again makes no second."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body: dict[str, object] = {
        name: given[name] for name in ("kind", "tenant", "name", "title") if given[name]
    }
    match given["kind"]:
        case "tenant":
            body["tenant"] = given["name"]
            if given["prepaid"]:
                body["prepaid"] = True
            if given["credit"]:
                body["credit"] = given["credit"]
        case "project" if given["account"]:
            body["account"] = given["account"]
        case "environment":
            body["project"] = given["project"]
    try:
        await visit.api.send("POST", "/organization/units", msgspec.Raw, body, visit.once)
    except ApiRefusal as refusal:
        return _new_form(visit, renderer, given, refusal)
    return RedirectResponse(visit.link(PATH, project=""), 303)


def _new_form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    return renderer.form(
        "unit_new.html", visit, refusal, given=given, kinds=_kinds(visit),
        once=secrets.new_id("once"), may_set_money=visit.reader.may_at(MONEY),
    )  # fmt: skip


def _kinds(visit: Visit) -> tuple[str, ...]:
    """What the reader may make; tenants are the platform's."""
    return KINDS if visit.reader.may_at(WRITE) else KINDS[:-1]


# --- changing ------------------------------------------------------------------------------------


async def open_unit(visit: Visit, renderer: Renderer) -> Response:
    """The form for a unit: its title, a project's account, a tenant's credit; closing it."""
    unit = await _read(visit, visit.query.get("unit", ""))
    return _form(visit, renderer, unit)


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Rename a unit, close it or open it again, unless somebody else changed it meanwhile."""
    unit = await _read(visit, visit.form.get("unit", ""))
    what = visit.form.get("what", "")
    body: dict[str, object] = {}
    if what == "close":
        if visit.form.get("typed", "") != unit.name:
            return _form(visit, renderer, unit, wrong="organization.not_the_name")
        body["closed"] = True
    elif what == "open":
        body["closed"] = False
    elif what == "factor":
        body["second_factor_required"] = visit.form.get("required") == "yes"
    else:
        body["title"] = visit.form.get("title", "").strip()
        if unit.kind == "project" and "account" in visit.form:
            account = visit.form["account"].strip()
            body |= {} if account == unit.account else {"account": account}
        if unit.kind == "tenant" and "credit" in visit.form:
            body |= {
                "prepaid": bool(visit.form.get("prepaid")), "credit": visit.form["credit"] or "0"
            }  # fmt: skip
    headers = {"if-match": f'"{visit.form.get("version", "")[:20]}"'}
    try:
        path = f"/organization/units/{segment(unit.id)}"
        await visit.api.send("PATCH", path, msgspec.Raw, body, headers)
    except ApiRefusal as refusal:
        return _form(visit, renderer, unit, refusal)
    return RedirectResponse(visit.link(PATH), 303)


async def _read(visit: Visit, unit_id: str) -> TreeUnit:
    return await visit.api.get(f"/organization/units/{segment(unit_id)}", TreeUnit)


def _form(
    visit: Visit,
    renderer: Renderer,
    unit: TreeUnit,
    refusal: ApiRefusal | None = None,
    wrong: str = "",
) -> Response:
    return renderer.form(
        "unit.html", visit, refusal, wrong, unit=unit,
        credit=exact_decimal(unit.credit_pico, PICO_DIGITS, ""),
        may_set_money=unit.kind == "tenant" and visit.reader.may_at(MONEY, PLATFORM),
    )  # fmt: skip


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", NEW): ask,
    ("POST", NEW): make,
    ("GET", EDIT): open_unit,
    ("POST", EDIT): change,
}
