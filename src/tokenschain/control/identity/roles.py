"""Roles and role bindings: what a role permits, and who has it over which part of the tree."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import ACTIONS, PLATFORM, ROLES, RoleBinding, conflict
from tokenschain.infra.database.tables import bindings, roles
from tokenschain.infra.security import secrets

Row = dict[str, Any]


def role_of(connection: Connection, tenant: str, name: str) -> frozenset[str]:
    """What a role permits.

    Raises:
        ApiError: `not_found`.
    """
    if name in ROLES:
        return ROLES[name]
    found = connection.execute(
        select(roles.c.permissions).where(
            roles.c.name == name, roles.c.tenant.in_((tenant, PLATFORM))
        )
    ).scalar()
    if found is None:
        raise ApiError("not_found", f"There is no role `{name}`.", param="role")
    return frozenset(json.loads(found))


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
        ApiError: `invalid_value` for what cannot be permitted, or not together.
    """
    if name in ROLES:
        raise ApiError("conflict", f"`{name}` is a role that is always there.", param="name")
    kinds = {action.partition(":")[0] for action in ACTIONS}
    for permission in permissions:
        kind, _, verb = permission.partition(":")
        patterned = (kind in kinds and verb == "*") or (kind == "*" and verb == "read")
        if permission not in ACTIONS and not patterned:
            raise ApiError(
                "invalid_value", f"`{permission[:60]}` cannot be permitted.", param="permissions"
            )
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
        connection.execute(insert(roles).values(tenant=tenant, name=name, **values))


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
    held = [b.permissions for b in bindings_of(connection, user_id)]
    apart = conflict(frozenset().union(permissions, *held))
    if apart is not None and not any("*" in p for p in (permissions, *held)):
        raise ApiError(
            "conflict",
            f"One person may not hold `{apart[0]}` and `{apart[1]}`: give the role to another.",
            param="role",
        )
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


def tenant_of_binding(connection: Connection, binding_id: str) -> str | None:
    """The tenant that a binding is over; None when there is no such binding."""
    return connection.execute(select(bindings.c.tenant).where(bindings.c.id == binding_id)).scalar()


def bindings_shown(connection: Connection, user_id: str) -> list[Row]:
    """A user's bindings as people see them."""
    rows = connection.execute(select(bindings).where(bindings.c.user_id == user_id)).mappings()
    return [
        {**row, "models": None if row["models"] is None else json.loads(row["models"])}
        for row in rows
    ]


def bindings_of(connection: Connection, user_id: str) -> tuple[RoleBinding, ...]:
    """What a user may do, and where; a role that is gone permits nothing."""
    found = []
    for row in connection.execute(select(bindings).where(bindings.c.user_id == user_id)):
        try:
            permissions = role_of(connection, row.tenant, row.role)
        except ApiError:
            continue
        models = None if row.models is None else tuple(json.loads(row.models))
        found.append(
            RoleBinding(permissions, row.tenant, row.account, row.project, row.environment, models)
        )
    return tuple(found)
