"""Users and service accounts: passwords, second factor, lock-out, sign-in."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from tokenschain.control.identity import roles, tokens
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM, ROLES, RoleBinding
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import tokens as tokens_table
from tokenschain.infra.database.tables import users
from tokenschain.infra.security import passwords, secrets
from tokenschain.infra.security.suite import Sealer, Suite

PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 200
LOCK_AFTER = 5
"""Wrong passwords or codes in a row, after which an account is locked."""
LOCK_S = 15 * 60

Row = dict[str, Any]


class Actor(NamedTuple):
    """Who asks the admin API."""

    id: str
    tenant: str
    """`*`: of the platform."""
    bindings: tuple[RoleBinding, ...]


PLATFORM_OWNER = Actor("platform", PLATFORM, (RoleBinding(ROLES["owner"], PLATFORM),))
"""Whoever holds the admin token."""


# --- who there is ------------------------------------------------------------------------


def create_user(
    connection: Connection,
    *,
    tenant: str,
    email: str,
    name: str,
    kind: str = "user",
    password: str | None = None,
) -> str:
    """Make a user or a service account; returns its id.

    Raises:
        ApiError: `conflict` when the address is taken, `invalid_value` for a weak password.
    """
    email = email.lower()
    taken = connection.execute(select(users.c.id).where(users.c.email == email)).first()
    if taken is not None:
        raise ApiError("conflict", "There is a user with this address already.", param="email")
    user_id = secrets.new_id("svc" if kind == "service" else "usr")
    connection.execute(
        insert(users).values(
            id=user_id,
            tenant=tenant,
            kind=kind,
            email=email,
            name=name,
            password_hash=None if password is None else _hash_password(password),
            created_at_s=int(time.time()),
        )
    )
    return user_id


def _hash_password(password: str) -> str:
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise ApiError(
            "invalid_value",
            f"A password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters.",
            param="password",
        )
    return passwords.password_hash(password)


def get(connection: Connection, user_id: str) -> Row | None:
    """A user as it is stored, or None."""
    row = connection.execute(select(users).where(users.c.id == user_id)).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of users and service accounts, by id, as people see them."""
    order = (users.c.id,)
    found = paging.read_page(connection, select(users), page_, order, tenant=tenant)
    return found._replace(rows=list(map(shown, found.rows)))


def shown(row: Row) -> Row:
    """A user as people see it."""
    found = dict(row)
    found["has_password"] = found.pop("password_hash") is not None
    found["has_totp"] = found.pop("totp_sealed") is not None
    for name in ("totp_last", "failed_logins"):
        found.pop(name)
    return found


def set_password(connection: Connection, user_id: str, password: str) -> None:
    """Change a password; every session ends.

    Raises:
        ApiError: `invalid_value` for a weak one.
    """
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(password_hash=_hash_password(password), failed_logins=0, locked_until_s=None)
    )
    tokens.end_all_of(connection, user_id, "session")


def disable(connection: Connection, user_id: str, *, by_platform: bool = False) -> None:
    """Shut a user out, at once; its tokens are gone.

    Args:
        by_platform: only the platform lets it in again.
    """
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(
            disabled_at_s=int(time.time()),
            disabled_by_platform=by_platform,
            version=users.c.version + 1,
        )
    )
    tokens.end_all_of(connection, user_id)


def enable(connection: Connection, user_id: str) -> None:
    """Let a user in again."""
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(disabled_at_s=None, disabled_by_platform=False, version=users.c.version + 1)
    )


def rename(connection: Connection, user_id: str, name: str) -> None:
    """Give a user another name."""
    connection.execute(
        update(users).where(users.c.id == user_id).values(name=name, version=users.c.version + 1)
    )


def actor_of(connection: Connection, suite: Suite, token: str) -> Actor | None:
    """Who a token belongs to; None when it is not valid."""
    row = connection.execute(
        select(users.c.id, users.c.tenant)
        .join(tokens_table, tokens_table.c.user_id == users.c.id)
        .where(
            tokens_table.c.token_hash == suite.hex_digest(token.encode()),
            tokens_table.c.expires_at_s > int(time.time()),
            users.c.disabled_at_s.is_(None),
        )
    ).first()
    if row is None:
        return None
    return Actor(row.id, row.tenant, roles.bindings_of(connection, row.id))


# --- signing in ---------------------------------------------------------------------------------

_WRONG = "The address, the password or the code is wrong."


def log_in(
    connection: Connection, sealer: Sealer, email: str, password: str, code: str | None
) -> str | None:
    """Check a password and, where there is one, the second factor; returns the user's id.

    None means wrong: the caller must commit what was counted and then refuse, so that a
    guess is counted even though it is refused.

    Args:
        sealer: seals second factors.

    Raises:
        ApiError: `account_locked` after too many wrong guesses.
    """
    row = (
        connection.execute(
            select(users).where(users.c.email == email.lower(), users.c.kind == "user")
        )
        .mappings()
        .first()
    )
    now = int(time.time())
    if row is not None and (row["locked_until_s"] or 0) > now:
        raise ApiError(
            "account_locked",
            "Too many wrong guesses; try again later.",
            retry_after_s=float(row["locked_until_s"] - now),
        )
    # An unknown address takes as long as a known one, so that timing does not tell which exist.
    stored = (row["password_hash"] if row is not None else None) or passwords.UNKNOWN_USER_HASH
    right = passwords.password_matches(stored, password)
    if row is None or row["password_hash"] is None or row["disabled_at_s"] is not None:
        return None
    if right and row["totp_sealed"] is not None:
        right = code is not None and _use_code(connection, sealer, row, code)
    if not right:
        failed = row["failed_logins"] + 1
        locked = now + LOCK_S if failed >= LOCK_AFTER else None
        connection.execute(
            update(users)
            .where(users.c.id == row["id"])
            .values(failed_logins=0 if locked else failed, locked_until_s=locked)
        )
        return None
    connection.execute(
        update(users).where(users.c.id == row["id"]).values(failed_logins=0, locked_until_s=None)
    )
    return str(row["id"])


def wrong() -> ApiError:
    """What is said of a failed sign-in, whatever was wrong."""
    return ApiError("invalid_login", _WRONG)


def set_totp(connection: Connection, sealer: Sealer, user_id: str, secret: str) -> None:
    """Put a second factor in force."""
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(totp_sealed=sealer.seal(user_id, secret.encode()), totp_last=None)
    )


def _use_code(connection: Connection, sealer: Sealer, row: RowMapping, code: str) -> bool:
    """Whether a code is right; each counts once (RFC 6238, 5.2)."""
    secret = sealer.unseal(row["id"], row["totp_sealed"]).decode()
    step = passwords.totp_step(secret, code, time.time())
    if step is None or (row["totp_last"] is not None and step <= row["totp_last"]):
        return False
    changed = connection.execute(
        update(users)
        .where(
            users.c.id == row["id"],
            or_(users.c.totp_last.is_(None), users.c.totp_last < step),
        )
        .values(totp_last=step)
    ).rowcount
    return bool(changed)
