"""Roles and role bindings: what a role permits, and who has it over which part of the tree."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update
from sqlalchemy import Row as DatabaseRow

from tokenschain.control.identity import separation, shares
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import (
    ACTIONS,
    PLATFORM,
    ROLES,
    Resource,
    RoleBinding,
    conflict,
    duties_of,
    may,
)
from tokenschain.infra.database.tables import bindings, roles, users
from tokenschain.infra.security import secrets

Row = dict[str, Any]
_ANYTHING = Resource()
_HOLDERS_COUNTED_MAX = 100


def role_of(connection: Connection, tenant: str, name: str) -> frozenset[str]:
    """What a role permits.

    Raises:
        ApiError: `not_found`.
    """
    if name in ROLES:
        return ROLES[name]
    # The platform's comes first: a tenant does not change what the platform's name means.
    for whose in (PLATFORM, tenant):
        found = own_role(connection, whose, name)
        if found is not None:
            return found
    raise ApiError("not_found", f"There is no role `{name}`.", param="role")


def own_role(connection: Connection, tenant: str, name: str) -> frozenset[str] | None:
    """What a role permits that was defined for just this tenant; None when none was."""
    found = connection.execute(
        select(roles.c.permissions).where(roles.c.name == name, roles.c.tenant == tenant)
    ).scalar()
    return None if found is None else frozenset(json.loads(found))


def own_roles(connection: Connection, tenant: str | None) -> list[Row]:
    """Roles that were defined: for a tenant those it may use, for the platform all."""
    query = select(roles).order_by(roles.c.tenant, roles.c.name)
    if tenant is not None:
        query = query.where(or_(roles.c.tenant == tenant, roles.c.tenant == PLATFORM))
    return [
        {"tenant": row.tenant, "name": row.name, "permissions": json.loads(row.permissions)}
        for row in connection.execute(query)
    ]


def put_role(connection: Connection, tenant: str, name: str, permissions: list[str]) -> None:
    """Define a role of a tenant.

    Raises:
        ApiError: `invalid_value` for what cannot be permitted, or not together; `conflict` when
            somebody who has the role holds what must stay apart from it.
    """
    if name in ROLES:
        raise ApiError("conflict", f"`{name}` is a role that is always there.", param="name")
    check_permissions(permissions)
    apart = conflict(frozenset(permissions))
    if apart is not None:
        raise ApiError(
            "invalid_value",
            f"`{apart[0]}` and `{apart[1]}` may not be held together.",
            param="permissions",
        )
    values = {"permissions": json.dumps(sorted(permissions))}
    changed = connection.execute(
        update(roles)
        .where(roles.c.tenant == tenant, roles.c.name == name)
        .values(**values, version=roles.c.version + 1)
    ).rowcount
    if not changed:
        shares.check(connection, shares.ROLES, tenant)
        connection.execute(insert(roles).values(tenant=tenant, name=name, **values))
    else:
        _keep_duties_apart(connection, tenant, name)


def remove_role(connection: Connection, tenant: str, name: str) -> None:
    """Take a role away that was defined for just this tenant.

    Raises:
        ApiError: `conflict` while somebody has it.
    """
    held = select(bindings.c.id).where(bindings.c.role == name)
    if tenant != PLATFORM:
        held = held.where(bindings.c.tenant == tenant)
    count = len(connection.execute(held.limit(_HOLDERS_COUNTED_MAX)).all())
    if count:
        more = " or more" if count == _HOLDERS_COUNTED_MAX else ""
        raise ApiError(
            "conflict", f"{count}{more} bindings give the role: take them away first.", param="name"
        )
    connection.execute(delete(roles).where(roles.c.tenant == tenant, roles.c.name == name))


def check_permissions(permissions: Iterable[str]) -> None:
    """Insist on permissions that there are: `kind:verb`, `kind:*` or `*:read`.

    Raises:
        ApiError: `invalid_value`.
    """
    kinds = {action.partition(":")[0] for action in ACTIONS}
    for permission in permissions:
        kind, _, verb = permission.partition(":")
        patterned = (kind in kinds and verb == "*") or (kind == "*" and verb == "read")
        if permission not in ACTIONS and not patterned:
            raise ApiError(
                "invalid_value", f"`{permission[:60]}` cannot be permitted.", param="permissions"
            )


def _keep_duties_apart(connection: Connection, tenant: str, name: str) -> None:
    """A role that changes must not bring together what one person may not hold.

    Raises:
        ApiError: `conflict`.
    """
    query = select(bindings.c.user_id).where(bindings.c.role == name).distinct()
    if tenant != PLATFORM:
        query = query.where(bindings.c.tenant == tenant)
    for user_id in connection.execute(query).scalars().all():
        held = bindings_of(connection, user_id)
        _refuse_conflict([b.permissions for b in held], "somebody has this role and the other")
        refuse_several_duties(connection, held)


def _refuse_conflict(held: list[frozenset[str]], instead: str) -> None:
    apart = conflict(frozenset().union(*held))
    if apart is not None and not any("*" in permissions for permissions in held):
        raise ApiError(
            "conflict",
            f"One person may not hold `{apart[0]}` and `{apart[1]}`: {instead}.",
            param="role",
        )


def refuse_several_duties(connection: Connection, held: Iterable[RoleBinding]) -> None:
    """Insist that all that one person has on the platform is of one duty; see `separation`.

    Raises:
        ApiError: `conflict`.
    """
    separation.refuse_together(connection, _of_platform(held))


def _of_platform(held: Iterable[RoleBinding]) -> list[frozenset[str]]:
    return [binding.permissions for binding in held if binding.tenant == PLATFORM]


def holders_of_several_duties(connection: Connection) -> dict[str, frozenset[str]]:
    """Who has more than one of the platform's duties, by user id; see `separation`."""
    found = duties_of_people(connection)
    return {user_id: duties for user_id, duties in found.items() if len(duties) > 1}


def duties_of_people(connection: Connection) -> dict[str, frozenset[str]]:
    """Which of the platform's duties each has who has a role on it, by user id."""
    return {
        user_id: duties_of(frozenset().union(*_of_platform(held)))
        for user_id, held in _bound_to(connection, PLATFORM).items()
    }


def permitted_people(connection: Connection, action: str, tenant: str) -> set[str]:
    """Who may do something in all of a tenant, by its own roles; ids of users.

    Args:
        tenant: `*`: of the platform.
    """
    held = _bound_to(connection, tenant, users.c.kind == "user")
    return {one for one, of_one in held.items() if may(of_one, action, Resource(tenant))}


def _bound_to(
    connection: Connection, tenant: str, *where: ColumnElement[bool]
) -> dict[str, tuple[RoleBinding, ...]]:
    holders = connection.execute(
        select(bindings.c.user_id)
        .join(users, users.c.id == bindings.c.user_id)
        .where(bindings.c.tenant == tenant, users.c.disabled_at_s.is_(None), *where)
        .distinct()
    ).scalars()
    return {user_id: bindings_of(connection, user_id) for user_id in holders.all()}


def bind(
    connection: Connection,
    user_id: str,
    role: str,
    *,
    tenant: str,
    account: str = "",
    project: str = "",
    environment: str = "",
    models: list[str] | None = None,
    source: str = "admin",
) -> str:
    """Give a user a role over a part of the tree; returns the binding's id.

    Raises:
        ApiError: `not_found` for the role; `conflict` when duties must stay apart.
    """
    permissions = role_of(connection, tenant, role)
    shares.check_bindings(connection, user_id)
    held = bindings_of(connection, user_id)
    _refuse_conflict([permissions, *(b.permissions for b in held)], "give the role to another")
    if tenant == PLATFORM:
        separation.refuse_together(connection, [permissions, *_of_platform(held)])
    binding_id = secrets.new_id("bnd")
    connection.execute(
        insert(bindings).values(
            id=binding_id,
            user_id=user_id,
            role=role,
            tenant=tenant,
            account=account,
            project=project,
            environment=environment,
            models=None if models is None else json.dumps(models),
            source=source,
            created_at_s=int(time.time()),
        )
    )
    return binding_id


def unbind(connection: Connection, binding_id: str) -> None:
    """Take a role away."""
    connection.execute(delete(bindings).where(bindings.c.id == binding_id))


def unbind_source(connection: Connection, user_id: str, source: str) -> None:
    """Take away the roles that a user has from one source: `admin` or `oidc`."""
    connection.execute(
        delete(bindings).where(bindings.c.user_id == user_id, bindings.c.source == source)
    )


_OWNS = (
    bindings.c.role == "owner",
    bindings.c.account == "",
    bindings.c.project == "",
    bindings.c.environment == "",
    bindings.c.models.is_(None),
)
"""Of everything in its tenant."""


def owned_by(connection: Connection, user_id: str, binding_id: str | None = None) -> list[str]:
    """The tenants that a user owns; `*` is the platform.

    Args:
        binding_id: only by this binding.
    """
    query = select(bindings.c.tenant).where(bindings.c.user_id == user_id, *_OWNS).distinct()
    if binding_id is not None:
        query = query.where(bindings.c.id == binding_id)
    return list(connection.execute(query).scalars())


def has_owner(
    connection: Connection, tenant: str, *, but_user: str = "", but_binding: str = ""
) -> bool:
    """Whether a tenant has an owner besides; nobody takes another away until this ends."""
    owners = connection.execute(
        select(bindings.c.id, bindings.c.user_id)
        .join(users, users.c.id == bindings.c.user_id)
        .where(bindings.c.tenant == tenant, *_OWNS, users.c.disabled_at_s.is_(None))
        .order_by(bindings.c.id)
        .with_for_update()
    ).all()
    return any(row.id != but_binding and row.user_id != but_user for row in owners)


def has_person(connection: Connection) -> bool:
    """Whether a person of the platform can sign in and has a role."""
    found = (
        select(bindings.c.id)
        .join(users, users.c.id == bindings.c.user_id)
        .where(
            users.c.tenant == PLATFORM,
            users.c.kind == "user",
            users.c.disabled_at_s.is_(None),
            or_(users.c.password_hash.is_not(None), users.c.oidc_subject.is_not(None)),
        )
    )
    return connection.execute(found.limit(1)).first() is not None


class HeldBinding(NamedTuple):
    """A binding and who has it."""

    user_id: str
    binding: RoleBinding


def binding_of(connection: Connection, binding_id: str) -> HeldBinding | None:
    """A binding by its id, or None; a role that is gone permits nothing."""
    row = connection.execute(select(bindings).where(bindings.c.id == binding_id)).first()
    return None if row is None else HeldBinding(row.user_id, _binding(connection, row))


def bindings_shown(connection: Connection, user_id: str) -> list[Row]:
    """A user's bindings as people see them."""
    rows = connection.execute(select(bindings).where(bindings.c.user_id == user_id)).mappings()
    return [
        {**row, "models": None if row["models"] is None else json.loads(row["models"])}
        for row in rows
    ]


def bindings_of(
    connection: Connection, user_id: str, *, since_s: float | None = None
) -> tuple[RoleBinding, ...]:
    """What a user may do, and where; a role that is gone permits nothing.

    Args:
        since_s: only what was given by then; Unix time.
    """
    query = select(bindings).where(bindings.c.user_id == user_id)
    if since_s is not None:
        given = bindings.c.created_at_s
        query = query.where(or_(given.is_(None), given <= since_s))
    rows = connection.execute(query).all()
    return tuple(_binding(connection, row) for row in rows)


def within(binding: RoleBinding, allowed: frozenset[str]) -> RoleBinding:
    """What of a binding is left to who may do only what is allowed, as a token with a scope."""
    if "*" in allowed:
        return binding
    held, scope = RoleBinding(binding.permissions, PLATFORM), RoleBinding(allowed, PLATFORM)
    both = (a for a in ACTIONS if may((held,), a, _ANYTHING) and may((scope,), a, _ANYTHING))
    return msgspec.structs.replace(binding, permissions=frozenset(both))


def _binding(connection: Connection, row: DatabaseRow[Any]) -> RoleBinding:
    try:
        permissions = role_of(connection, row.tenant, row.role)
    except ApiError:
        permissions = frozenset()
    models = None if row.models is None else tuple(json.loads(row.models))
    return RoleBinding(permissions, row.tenant, row.account, row.project, row.environment, models)
