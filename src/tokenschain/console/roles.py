"""Roles page: what each role permits, and a tenant's own roles."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.tenancy import ACTIONS, PLATFORM, ROLES, Resource, RoleBinding, may

PATH = "/console/people/roles"
EDIT = f"{PATH}/edit"
WRITE = "users:write"


class RolePermissions(msgspec.Struct):
    """A role and what it permits; see `GET /roles`."""

    tenant: str
    name: str
    permissions: list[str]

    def permits(self, action: str) -> bool:
        """Whether it permits an action, by name or pattern."""
        held = RoleBinding(frozenset(self.permissions), PLATFORM)
        return may((held,), action, Resource())

    @property
    def is_built_in(self) -> bool:
        """Whether it is always there."""
        return self.tenant == PLATFORM and self.name in ROLES


class RoleList(msgspec.Struct):
    """Those that are always there, and a tenant's own."""

    data: list[RolePermissions]


async def read_roles(visit: Visit, tenant: str | None) -> RoleList:
    """The roles that may be given in a tenant."""
    query = {"tenant": None if tenant == PLATFORM else tenant}
    return await visit.api.get("/roles", RoleList, query)


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The roles, and what each permits."""
    parts = await visit.parts(roles=read_roles(visit, visit.tenant))
    return renderer.page(
        "roles.html", visit, roles=parts["roles"], actions=ACTIONS,
        may_write=visit.reader.may_at(WRITE, visit.shown_tenant or ""),
    )  # fmt: skip


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a role of the tenant's own, anew or as it is."""
    tenant = visit.query.get("of") or visit.shown_tenant or PLATFORM
    if not visit.reader.may_at(WRITE, "" if tenant == PLATFORM else tenant):
        raise forbidden(WRITE)
    name = visit.query.get("role", "")
    chosen: list[str] = []
    if name:
        found = await read_roles(visit, tenant)
        own = next((r for r in found.data if (r.tenant, r.name) == (tenant, name)), None)
        if own is None or own.is_built_in:
            raise ApiRefusal(404, "not_found", "There is no such role.")
        chosen = [action for action in ACTIONS if own.permits(action)]
    return _form(visit, renderer, tenant, name, chosen, None, is_new=not name)


async def save(visit: Visit, renderer: Renderer) -> Response:
    """Define a role; duties that exclude each other are refused with the reason."""
    tenant, name = visit.form.get("of", ""), visit.form.get("role", "").strip()
    chosen = [action for action in ACTIONS if visit.form.get(f"may {action}")]
    is_new = visit.form.get("is_new") == "yes"
    try:
        path = f"/roles/{segment(tenant)}/{segment(name)}"
        await visit.api.send("PUT", path, msgspec.Raw, {"permissions": chosen})
    except ApiRefusal as refusal:
        return _form(visit, renderer, tenant, name, chosen, refusal, is_new=is_new)
    return RedirectResponse(visit.link(PATH), 303)


async def remove(visit: Visit, renderer: Renderer) -> Response:
    """Take away a role that nobody has any more."""
    tenant, name = visit.form.get("of", ""), visit.form.get("role", "")
    try:
        path = f"/roles/{segment(tenant)}/{segment(name)}"
        await visit.api.send("DELETE", path, msgspec.Raw)
    except ApiRefusal as refusal:
        found = await read_roles(visit, tenant)
        own = next((r for r in found.data if (r.tenant, r.name) == (tenant, name)), None)
        chosen = [] if own is None else [one for one in ACTIONS if own.permits(one)]
        return _form(visit, renderer, tenant, name, chosen, refusal, is_new=False)
    return RedirectResponse(visit.link(PATH), 303)


def _form(
    visit: Visit,
    renderer: Renderer,
    tenant: str,
    name: str,
    chosen: list[str],
    refusal: ApiRefusal | None,
    *,
    is_new: bool,
) -> Response:
    return renderer.form(
        "role_edit.html", visit, refusal, of=tenant, name=name, chosen=chosen, actions=ACTIONS,
        is_new=is_new,
    )  # fmt: skip


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", EDIT): ask,
    ("POST", EDIT): save,
    ("POST", f"{PATH}/remove"): remove,
}
