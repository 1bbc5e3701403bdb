"""Organization units: tenants, their accounts and projects, the projects' environments."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tokenschain.control import revisions
from tokenschain.control.identity import shares
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import api_keys
from tokenschain.infra.database.tables import organization_units as units
from tokenschain.infra.security import secrets

KINDS = ("tenant", "account", "project", "environment")
Row = dict[str, Any]


def find(
    connection: Connection, kind: str, tenant: str, name: str, project: str = ""
) -> Row | None:
    """A unit by its name, or None."""
    row = (
        connection.execute(
            select(units).where(
                units.c.tenant == tenant,
                units.c.kind == kind,
                units.c.project == project,
                units.c.name == name,
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else dict(row)


def get(connection: Connection, unit_id: str) -> Row | None:
    """A unit by its id, or None."""
    row = connection.execute(select(units).where(units.c.id == unit_id)).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None, kind: str | None) -> Rows:
    """One page of units, in alphabetical order."""
    query = select(units)
    if kind is not None:
        query = query.where(units.c.kind == kind)
    order = (units.c.tenant, units.c.kind, units.c.project, units.c.name)
    return paging.read_page(connection, query, page_, order, tenant=tenant)


def create(
    connection: Connection,
    *,
    kind: str,
    tenant: str,
    name: str,
    account: str = "",
    project: str = "",
    title: str = "",
    prepaid: bool = False,
    credit_pico: int = 0,
    data_class: str = "",
) -> Row:
    """Make a unit below one that exists.

    Raises:
        ApiError: `not_found` for the parent, `conflict` when it is there already.
    """
    if kind != "tenant" and find(connection, "tenant", tenant, tenant) is None:
        raise ApiError("not_found", f"There is no tenant `{tenant}`.", param="tenant")
    if account and find(connection, "account", tenant, account) is None:
        raise ApiError("not_found", f"There is no account `{account}`.", param="account")
    if kind == "environment":
        parent = find(connection, "project", tenant, project)
        if parent is None:
            raise ApiError("not_found", f"There is no project `{project}`.", param="project")
        account = parent["account"]
    else:
        project = ""
    if find(connection, kind, tenant, name, project) is not None:
        raise ApiError("conflict", f"There is a {kind} `{name}` already.", param="name")
    row = {
        "id": secrets.new_id("unit"),
        "kind": kind,
        "tenant": tenant,
        "account": account,
        "project": project,
        "name": name,
        "title": title or name,
        "closed_at_s": None,
        "closed_by_platform": False,
        "prepaid": prepaid,
        "credit_pico": credit_pico,
        "second_factor_required": False,
        "data_class": data_class,
        "created_at_s": int(time.time()),
        "version": 1,
    }
    if kind != "tenant":
        shares.check(connection, shares.UNITS, tenant)
    connection.execute(insert(units).values(row))
    return row


def is_there(connection: Connection, tenant: str, project: str, environment: str) -> bool:
    """Whether a project and its environment are there, so that `ensure` would make nothing."""
    return (
        find(connection, "project", tenant, project) is not None
        and find(connection, "environment", tenant, environment, project) is not None
    )


def ensure(connection: Connection, tenant: str, project: str, environment: str) -> str:
    """Make a tenant, its project and the project's environment where they are missing.

    Returns:
        The account that the project belongs to, or nothing.
    """
    if find(connection, "tenant", tenant, tenant) is None:
        create(connection, kind="tenant", tenant=tenant, name=tenant)
    found = find(connection, "project", tenant, project)
    if found is None:
        found = create(connection, kind="project", tenant=tenant, name=project)
    if find(connection, "environment", tenant, environment, project) is None:
        create(connection, kind="environment", tenant=tenant, name=environment, project=project)
    return str(found["account"])


def keys_below(unit: Row) -> list[Any]:
    """Conditions that find the API keys below a unit."""
    found = [api_keys.c.tenant == unit["tenant"]]
    match unit["kind"]:
        case "account":
            found.append(api_keys.c.account == unit["name"])
        case "project":
            found.append(api_keys.c.project == unit["name"])
        case "environment":
            found.append(api_keys.c.project == unit["project"])
            found.append(api_keys.c.environment == unit["name"])
    return found


def change(connection: Connection, unit: Row, values: Row) -> Row:
    """Change a unit; keys below it follow.

    Args:
        values: of `title`, `closed_at_s`, `closed_by_platform`, `prepaid`, `credit_pico`,
            `second_factor_required`, `data_class`, and a project's `account`.
    """
    connection.execute(
        update(units).where(units.c.id == unit["id"]).values(**values, version=units.c.version + 1)
    )
    revision = revisions.bump(connection)
    if not values.keys().isdisjoint(("closed_at_s", "account", "data_class")):
        moved = {"account": values["account"]} if "account" in values else {}
        connection.execute(
            update(api_keys).where(*keys_below(unit)).values(revision=revision, **moved)
        )
        if moved:
            connection.execute(
                update(units)
                .where(
                    units.c.tenant == unit["tenant"],
                    units.c.kind == "environment",
                    units.c.project == unit["name"],
                )
                .values(**moved)
            )
    return dict(connection.execute(select(units).where(units.c.id == unit["id"])).mappings().one())


def data_classes(connection: Connection) -> dict[tuple[str, str], str]:
    """Data classes that tenants and projects were given, by tenant and project; the project of a
    tenant itself is empty."""
    rows = connection.execute(select(units).where(units.c.data_class != "")).mappings()
    return {
        (row["tenant"], row["name"] if row["kind"] == "project" else ""): row["data_class"]
        for row in rows
    }


def closed(connection: Connection) -> dict[tuple[str, str, str], str]:
    """Units that are closed: (kind, tenant, name or project/name) and what to say of it."""
    rows = connection.execute(select(units).where(units.c.closed_at_s.is_not(None))).mappings()
    return {
        (row["kind"], row["tenant"], f"{row['project']}/{row['name']}"): (
            f"the {row['kind']} `{row['name']}` is closed"
        )
        for row in rows
    }
