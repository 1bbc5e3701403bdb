"""Shares: how many of each kind a tenant may have, whoever makes them.

All of it is in control's database, and most of it in every gateway's memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, func, select

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import (
    alert_silences,
    alert_targets,
    api_keys,
    bindings,
    limits,
    organization_units,
    roles,
    users,
)


class Share(NamedTuple):
    """How many rows of a table there may be of one tenant."""

    table: Table
    most: int
    words: str


KEYS = Share(api_keys, 20_000, "API keys in force")
USERS = Share(users, 20_000, "users")
ROLES = Share(roles, 200, "roles of its own")
UNITS = Share(organization_units, 20_000, "accounts, projects and environments")
LIMITS = Share(limits, 2_000, "limits")
ALERT_TARGETS = Share(alert_targets, 20, "targets of alerts")
ALERT_SILENCES = Share(alert_silences, 100, "silences of alerts that have not ended")
BINDINGS_PER_USER_MAX = 200
NAMES_CHARACTERS_MAX = 8_192
"""Of the models that a key or a role's binding names, all together."""


def are_few(names: Iterable[str]) -> bool:
    """Whether so many models may be named at one key or binding."""
    return sum(map(len, names)) <= NAMES_CHARACTERS_MAX


def check(connection: Connection, share: Share, tenant: str, *where: ColumnElement[bool]) -> None:
    """Insist that a tenant may have one more; the platform's own is the operator's to bound.

    Args:
        where: what counts of the table.

    Raises:
        ApiError: `conflict`.
    """
    if tenant in ("", PLATFORM):
        return
    counted = select(func.count()).select_from(share.table)
    mine = counted.where(share.table.c.tenant == tenant, *where)
    if (connection.execute(mine).scalar() or 0) >= share.most:
        raise ApiError("conflict", f"A tenant may have at most {share.most} {share.words}.")


def check_bindings(connection: Connection, user_id: str) -> None:
    """Insist that a user may have one role more.

    Raises:
        ApiError: `conflict`.
    """
    held = select(func.count()).select_from(bindings).where(bindings.c.user_id == user_id)
    if (connection.execute(held).scalar() or 0) >= BINDINGS_PER_USER_MAX:
        raise ApiError("conflict", f"A user may have at most {BINDINGS_PER_USER_MAX} roles.")
