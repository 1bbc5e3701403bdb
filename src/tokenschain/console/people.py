"""People pages: users and service accounts, their roles, and what each may do and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console import scope
from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.roles import RoleList, RolePermissions, read_roles
from tokenschain.console.step_up import PROOF_MAX_S, second_factor
from tokenschain.console.tokens import tokens_of
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.tenancy import ACTIONS, PLATFORM, ROLES, Resource, RoleBinding, may
from tokenschain.infra.security import secrets

PATH = "/console/people"
PERSON = f"{PATH}/person"
LISTED_MAX = 100
READ, WRITE, RESET = "users:read", "users:write", "factors:reset"
KINDS = ("user", "service")
ENTRIES = ("password", "none")
"""How somebody new signs in: by a password that is made now, or not by one."""
PLACE = ("account", "project", "environment")


class PersonSummary(msgspec.Struct):
    """A user or service account; see `GET /users`."""

    id: str
    tenant: str
    kind: str
    email: str
    name: str
    has_password: bool
    has_totp: bool
    has_oidc: bool
    disabled_at_s: int | None
    disabled_by_platform: bool
    created_at_s: int
    version: int
    invited_until_s: int | None = None
    invitation_mail: str | None = None
    """`waiting`, `retrying` or `failed`: what became of the mail with the link; see
    `people.mail.` in the catalogue."""
    email_confirmed_at_s: int | None = None

    @property
    def can_be_invited(self) -> bool:
        """Whether it is a person without a way to sign in."""
        return (self.kind, self.entry) == ("user", "none") and self.disabled_at_s is None

    @property
    def entry(self) -> str:
        """How it signs in; see `people.entry.` in the catalogue."""
        if self.has_oidc:
            return "company"
        return "password" if self.has_password else "none"


class People(msgspec.Struct):
    """A page of them."""

    data: list[PersonSummary]
    next_cursor: str | None = None


class Binding(msgspec.Struct):
    """A role that somebody has over a part of the organisation."""

    id: str
    role: str
    tenant: str
    account: str
    project: str
    environment: str
    models: list[str] | None
    source: str
    created_at_s: int | None


class PersonDetail(PersonSummary):
    """A user with its roles; see `GET /users/{user_id}`."""

    bindings: list[Binding] = []


class Reason(NamedTuple):
    """What somebody may do, and the bindings that it is from."""

    action: str
    by: list[Binding]


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Users and service accounts."""
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    parts = await visit.parts(people=visit.api.get("/users", People, query))
    return renderer.page_or_part("people.html", "_people.html", visit, people=parts["people"])


# --- somebody new ------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for somebody new."""
    if not visit.reader.may(WRITE):
        raise forbidden(WRITE)
    given = {"name": "", "email": "", "kind": "user", "entry": "password",
             "tenant": visit.shown_tenant or ""}  # fmt: skip
    return await _new_form(visit, renderer, given, None)


async def create(visit: Visit, renderer: Renderer) -> Response:
    """Make a user or a service account; its first password is shown this once."""
    names = ("name", "email", "kind", "entry", "tenant")
    given = {name: visit.form.get(name, "").strip() for name in names}
    is_person = given["kind"] != "service"
    password = secrets.new_token("") if is_person and given["entry"] == "password" else None
    body = {name: given[name] for name in ("name", "email", "kind")}
    body["tenant"] = given["tenant"] or PLATFORM
    if password:
        body["password"] = password
    try:
        api = visit.api.with_wait(PROOF_MAX_S)
        made = await api.send("POST", "/users", PersonSummary, body)
        if is_person and body["tenant"] == PLATFORM and visit.reader.makes_first_account:
            owner = {"role": "owner", "tenant": PLATFORM}
            await visit.api.send("POST", f"/users/{segment(made.id)}/bindings", msgspec.Raw, owner)
    except ApiRefusal as refusal:
        return await _new_form(visit, renderer, given, refusal)
    return renderer.page("person_password.html", visit, person=made, password=password)


async def _new_form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    parts = await visit.parts(tenants=scope.tenants(visit)) if visit.on_platform else {}
    return renderer.form(
        "person_new.html", visit, refusal, given=given, kinds=KINDS, entries=ENTRIES,
        tenants=parts.get("tenants"),
    )  # fmt: skip


# --- one of them ---------------------------------------------------------------------------------


async def detail(visit: Visit, renderer: Renderer) -> Response:
    """Somebody: the account, roles, what may be done and why, sign-ins and tokens."""
    return await person_page(visit, renderer, visit.query.get("person", ""))


async def person_page(
    visit: Visit, renderer: Renderer, user_id: str, refusal: ApiRefusal | None = None
) -> Response:
    """The page of somebody, also after what was asked for there was refused."""
    person = await visit.api.get(f"/users/{segment(user_id)}", PersonDetail)
    parts = await visit.parts(
        tokens=tokens_of(visit, user_id), roles=read_roles(visit, person.tenant)
    )
    roles: RoleList | None = parts["roles"].data
    return renderer.form(
        "person.html", visit, refusal, person=person, tokens=parts["tokens"],
        roles=[] if roles is None else roles.data,
        reasons=_reasons(person.bindings, [] if roles is None else roles.data),
        may_write=visit.reader.may_at(WRITE, person.tenant),
        may_reset=visit.reader.may_at(RESET, person.tenant) and person.has_totp,
        is_self=person.id == visit.reader.id, built_in=ROLES, place=PLACE,
    )  # fmt: skip


def _reasons(bindings: Sequence[Binding], roles: Sequence[RolePermissions]) -> list[Reason]:
    """For each action the bindings that permit it, as the API decides."""
    permitted = {(role.tenant, role.name): frozenset(role.permissions) for role in roles}
    found = [Reason(action, []) for action in ACTIONS]
    for one in bindings:
        permissions = permitted.get((one.tenant, one.role)) or permitted.get(("*", one.role))
        if permissions is None:
            continue
        place = one.tenant, one.account, one.project, one.environment
        models = None if one.models is None else tuple(one.models)
        held = RoleBinding(permissions, *place, models)
        where = Resource(*place, models[0] if models else "")
        for reason in found:
            if may((held,), reason.action, where):
                reason.by.append(one)
    return [reason for reason in found if reason.by]


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Rename somebody, shut it out or let it in, or make it a new password, shown this once."""
    user_id, what = visit.form.get("person", ""), visit.form.get("what", "")
    password = secrets.new_token("") if what == "password" else ""
    changes: dict[str, dict[str, object]] = {
        "rename": {"name": visit.form.get("name", "").strip()},
        "disable": {"disabled": True},
        "enable": {"disabled": False},
        "password": {"password": password},
    }
    headers = {"if-match": f'"{visit.form.get("version", "")[:20]}"'}
    try:
        path = f"/users/{segment(user_id)}"
        api = visit.api.with_wait(PROOF_MAX_S)
        person = await api.send("PATCH", path, PersonSummary, changes.get(what, {}), headers)
    except ApiRefusal as refusal:
        return await person_page(visit, renderer, user_id, refusal)
    if password:
        return renderer.page("person_password.html", visit, person=person, password=password)
    return _to_person(visit, user_id)


async def give(visit: Visit, renderer: Renderer) -> Response:
    """Give somebody a role over a part of the organisation."""
    user_id = visit.form.get("person", "")
    body: dict[str, object] = {name: visit.form.get(name, "").strip() for name in PLACE}
    body["role"] = visit.form.get("role", "")
    body["tenant"] = visit.form.get("tenant", "").strip() or "*"
    models = visit.form.get("models", "").replace(",", " ").split()
    if models:
        body["models"] = models
    try:
        path = f"/users/{segment(user_id)}/bindings"
        await visit.api.send("POST", path, msgspec.Raw, body)
    except ApiRefusal as refusal:
        return await person_page(visit, renderer, user_id, refusal)
    return _to_person(visit, user_id)


async def take(visit: Visit, renderer: Renderer) -> Response:
    """Take a role away."""
    user_id = visit.form.get("person", "")
    try:
        path = f"/bindings/{segment(visit.form.get('binding', ''))}"
        await visit.api.send("DELETE", path, msgspec.Raw)
    except ApiRefusal as refusal:
        return await person_page(visit, renderer, user_id, refusal)
    return _to_person(visit, user_id)


async def confirm_reset(visit: Visit, renderer: Renderer) -> Response:
    """What taking a second factor away does, with the own password to show."""
    return await _reset_form(visit, renderer, visit.query.get("person", ""), None)


async def reset(visit: Visit, renderer: Renderer) -> Response:
    """Take away a second factor that its user lost."""
    user_id = visit.form.get("person", "")
    proof = {"password": visit.form.get("password", "")}
    proof |= second_factor(visit.form.get("code", ""))
    try:
        path = f"/users/{segment(user_id)}/totp/reset"
        await visit.api.with_wait(PROOF_MAX_S).send("POST", path, msgspec.Raw, proof)
    except ApiRefusal as refusal:
        return await _reset_form(visit, renderer, user_id, refusal)
    return _to_person(visit, user_id)


async def _reset_form(
    visit: Visit, renderer: Renderer, user_id: str, refusal: ApiRefusal | None
) -> Response:
    person = await visit.api.get(f"/users/{segment(user_id)}", PersonDetail)
    return renderer.form("person_factor.html", visit, refusal, person=person)


def _to_person(visit: Visit, user_id: str) -> Response:
    return RedirectResponse(visit.link(PERSON, person=user_id), 303)


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/new"): ask,
    ("POST", f"{PATH}/new"): create,
    ("GET", PERSON): detail,
    ("POST", f"{PATH}/change"): change,
    ("POST", f"{PATH}/give"): give,
    ("POST", f"{PATH}/take"): take,
    ("GET", f"{PATH}/factor"): confirm_reset,
    ("POST", f"{PATH}/factor"): reset,
}
