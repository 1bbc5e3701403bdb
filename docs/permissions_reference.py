"""Writes docs/reference/permissions.md: the table of rights of the admin API, from its routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastapi import APIRouter

from tokenschain.control.api.app import ADMIN_SUBJECTS
from tokenschain.control.api.context import AdminRoute, Permission, permission_of
from tokenschain.control.identity import tokens
from tokenschain.control.identity.ownership import FIELD_RIGHTS, Extent, FieldRight
from tokenschain.core.tenancy import ACCOUNT_ACTIONS, ACTIONS, ROLES


class Operation(NamedTuple):
    """One operation of the admin API with what it declares."""

    name: str
    """Method and path below `/api/v1`."""
    needed: Permission | None
    """None: nobody has to be known."""


def operations() -> Iterator[Operation]:
    """Every operation, as its router has it."""
    for subject in ADMIN_SUBJECTS:
        yield from _of(subject.router)


def _of(router: APIRouter) -> Iterator[Operation]:
    for route in router.routes:
        assert isinstance(route, AdminRoute)
        path = route.path.removeprefix("/api/v1").replace(":path}", "}")
        for method in sorted(route.methods or ()):
            yield Operation(f"{method} {path}", permission_of(route))


def page() -> str:
    """The table of rights."""
    text = (
        "# Permissions\n\n"
        "What each operation of the [admin API](http.md) needs. Checks are made from this table, "
        "and `tests/security/test_permissions.py` asks each operation with roles that have and "
        "have not what it says. Roles and bindings: "
        "[Tenants and keys](../guides/tenants-and-keys.md).\n\n"
        "| where a permission holds | meaning |\n|---|---|\n"
        + "".join(f"| {extent.name.lower()} | {extent} |\n" for extent in Extent)
        + "\nAn object that the actor may not see is not there: 404. Anything else that is not "
        "permitted is a 403.\n\n"
        "## Operations\n\nA role for certain models permits what is about these alone, where its "
        "column says so: keys and limits for no others, of lists and sums these models' rows. "
        "Elsewhere it permits nothing.\n\n"
        "Who acts on accounts shows password and second factor again, as the last column says: in "
        f"the request, or for {tokens.STEP_UP_S // 60} minutes with `POST /me/step-up`. Whom "
        "single sign-on lets in signs in again instead, the admin token needs nothing more, and a "
        "program's token does not do. Power over accounts is "
        f"{' or '.join(f'`{action}`' for action in ACCOUNT_ACTIONS)}.\n\n"
        "| operation | permission | where | the object is seen with | a role for certain models | "
        "password and second factor shown again |\n|---|---|---|---|---|---|\n"
    )
    for name, needed in operations():
        text += f"| `{name}` | {_needed(needed)} |\n"
    text += (
        "\n## Fields that are the platform's own\n\n"
        "They need a permission on the platform besides, whatever the rights in the tenant. In a "
        "request they are refused without it, of an answer they are left out.\n\n"
        "| operation | of | field | permission on the platform |\n|---|---|---|---|\n"
    )
    for right in FIELD_RIGHTS:
        text += f"| `{right.route}` | {_when(right)} | {_field(right)} | `{right.action}` |\n"
    return text + _roles()


def _needed(needed: Permission | None) -> str:
    if needed is None:
        return "none, no token needed | | | |"
    again = str(needed.step_up or "")
    if needed.action is None or needed.extent is None:
        return f"none, any signed-in user | | | | {again}"
    own = "; none for one's own account" if needed.or_own else ""
    seen = f"`{needed.found_with}`" if needed.found_with else ""
    models = "of its models" if needed.by_model else ""
    return f"`{needed.action}`{own} | {needed.extent.name.lower()} | {seen} | {models} | {again}"


def _when(right: FieldRight) -> str:
    what = "answer" if right.side == "answer" else "request"
    return f"{what}: {right.when}" if right.when else what


def _field(right: FieldRight) -> str:
    return "all of it" if right.field == "*" else f"`{right.field}`"


def _roles() -> str:
    text = "\n## Roles that are always there\n\n| permission | allows to | roles |\n|---|---|---|\n"
    for action, meaning in ACTIONS.items():
        kind, _, verb = action.partition(":")
        names = {action, f"{kind}:*", f"*:{verb}", "*"}
        having = ", ".join(f"`{role}`" for role, given in ROLES.items() if given & names)
        text += f"| `{action}` | {meaning} | {having} |\n"
    return text
