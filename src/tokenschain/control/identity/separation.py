"""Separation of powers: system, security and audit administrators are different people.

Off by default: one person runs a small installation. While it is on, nobody holds two of the
platform's duties (`core.tenancy.DUTIES`), and the holder of `users:write` on the platform may give
the roles of all three, without having what they permit.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from tokenschain.control import revisions
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import ADMINISTRATORS, ROLES, duties_of

_NAME = "separation_of_powers"


def is_on(connection: Connection) -> bool:
    """Whether powers are kept apart."""
    return revisions.get_meta(connection, _NAME) == "on"


def switch(connection: Connection, *, on: bool) -> None:
    """Keep powers apart from now on, or no longer. Who holds two is for the caller to look at."""
    revisions.put_meta(connection, _NAME, "on" if on else "off")


def refuse_together(connection: Connection, held: Iterable[frozenset[str]]) -> None:
    """Insist that permissions that one person has on the platform are of one duty.

    Raises:
        ApiError: `conflict`, while powers are kept apart.
    """
    duties = duties_of(frozenset().union(*held))
    if len(duties) > 1 and is_on(connection):
        raise ApiError(
            "conflict",
            f"Powers are kept apart: one person may not be of {' and '.join(sorted(duties))}.",
            param="role",
        )


def is_administrators(permissions: frozenset[str]) -> bool:
    """Whether these are what one of the three roles of administrators permits."""
    return any(permissions == ROLES[name] for name in ADMINISTRATORS)
