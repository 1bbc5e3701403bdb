"""Users, service accounts, their roles, and how they prove who they are."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, or_, select, update

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import ACTIONS, PLATFORM, ROLES, RoleBinding, conflict
from tokenschain.infra.database.tables import (
    bindings,
    roles,
    tokens,
    users,
)
from tokenschain.infra.security import passwords, secrets
from tokenschain.infra.security.suite import Sealer, Suite

SESSION_S = 12 * 3_600
API_TOKEN_MAX_S = 366 * 86_400
PASSWORD_CHARACTERS_MIN = 12
PASSWORD_CHARACTERS_MAX = 200
LOCK_AFTER = 5
"""Wrong passwords or codes in a row, after which an account is locked."""
LOCK_S = 15 * 60
SESSION_PREFIX, TOKEN_PREFIX = "tcs-", "tct-"


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


def shown(row: Any) -> dict[str, Any]:
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
    connection.execute(
        delete(tokens).where(tokens.c.user_id == user_id, tokens.c.kind == "session")
    )


def disable(connection: Connection, user_id: str) -> None:
    """Shut a user out, at once; its tokens are gone."""
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(disabled_at_s=int(time.time()), version=users.c.version + 1)
    )
    connection.execute(delete(tokens).where(tokens.c.user_id == user_id))


# --- roles ----------------------------------------------------------------------------------


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
            f"Nobody may hold both `{apart[0]}` and `{apart[1]}`: give the role to another.",
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


# --- tokens -----------------------------------------------------------------------------------


def issue_token(
    connection: Connection, suite: Suite, user_id: str, kind: str, name: str, lasts_s: int
) -> tuple[str, str]:
    """A session's or a program's token; returns its id and itself, which is shown this once."""
    prefix = SESSION_PREFIX if kind == "session" else TOKEN_PREFIX
    token = secrets.new_token(prefix)
    token_id = secrets.new_id("tok")
    now = int(time.time())
    connection.execute(
        insert(tokens).values(
            id=token_id,
            token_hash=suite.hex_digest(token.encode()),
            user_id=user_id,
            kind=kind,
            name=name,
            created_at_s=now,
            expires_at_s=now + lasts_s,
        )
    )
    return token_id, token


def actor_of(connection: Connection, suite: Suite, token: str) -> Actor | None:
    """Who a token belongs to; None when it is not valid."""
    row = connection.execute(
        select(users.c.id, users.c.tenant)
        .join(tokens, tokens.c.user_id == users.c.id)
        .where(
            tokens.c.token_hash == suite.hex_digest(token.encode()),
            tokens.c.expires_at_s > int(time.time()),
            users.c.disabled_at_s.is_(None),
        )
    ).first()
    if row is None:
        return None
    return Actor(row.id, row.tenant, bindings_of(connection, row.id))


def end_token(connection: Connection, suite: Suite, token: str) -> None:
    """The token is worth nothing any more."""
    connection.execute(
        delete(tokens).where(tokens.c.token_hash == suite.hex_digest(token.encode()))
    )


def sweep(connection: Connection) -> None:
    """Forget tokens that have expired."""
    connection.execute(delete(tokens).where(tokens.c.expires_at_s <= int(time.time())))


# --- signing in ---------------------------------------------------------------------------------

_WRONG = "The address, the password or the code is wrong."


def log_in(
    connection: Connection, sealer: Sealer, email: str, password: str, code: str | None
) -> str | None:
    """Check a password and, where there is one, the second factor; returns the user's id.

    None means wrong: the caller must commit what was counted and then refuse, so that a
    guess is counted even though it is refused.

    Args:
        key: seals second factors.

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
    # Nobody's password takes as long as somebody's.
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


def _use_code(connection: Connection, sealer: Sealer, row: Any, code: str) -> bool:
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
