"""Tokens: sessions of people, and programs' API tokens; only their hashes are stored."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from tokenschain.core.errors import ApiError
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.database.tables import tokens
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Suite

STEP_UP_S = 300
"""How long what was shown again counts in the session that it was shown in."""
API_TOKEN_MAX_S = 366 * 86_400
EVERYTHING = ("*",)
"""That the user may; what a session may do."""
SESSION_PREFIX, TOKEN_PREFIX, LINK_PREFIX, INVITE_PREFIX = "tcs-", "tct-", "tcl-", "tci-"
_PREFIXES = {
    "session": SESSION_PREFIX, "api": TOKEN_PREFIX, "link": LINK_PREFIX, "invite": INVITE_PREFIX
}  # fmt: skip
NOTED_S = 30
"""Between two notes that a session is used: much less than the shortest time that ends one."""
TOKENS_MAX = 100
"""Of one user, sessions included, when a program's token is issued."""
_SHOWN_MAX = 200

Row = dict[str, Any]


def issue(
    connection: Connection,
    suite: Suite,
    user_id: str,
    kind: str,
    name: str,
    lasts_s: int,
    permissions: Sequence[str] = EVERYTHING,
) -> tuple[str, str]:
    """A session's or a program's token; returns its id and itself, which is shown this once.

    Args:
        permissions: what it may do at most, of what its user may.

    Raises:
        ApiError: `conflict` when there are too many programs' tokens.
    """
    if kind != "session":
        count = connection.execute(
            select(func.count()).select_from(tokens).where(tokens.c.user_id == user_id)
        ).scalar_one()
        if count >= TOKENS_MAX:
            raise ApiError("conflict", f"There are {TOKENS_MAX} tokens already; end some first.")
    token = secrets.new_token(_PREFIXES[kind])
    token_id = secrets.new_id("tok")
    now = int(time.time())
    connection.execute(
        insert(tokens).values(
            id=token_id,
            token_hash=suite.stored_digest(token.encode()),
            user_id=user_id,
            kind=kind,
            name=name,
            created_at_s=now,
            expires_at_s=now + lasts_s,
            permissions=json.dumps(sorted(permissions)),
        )
    )
    return token_id, token


def open_session(
    connection: Connection, suite: Suite, user_id: str, name: str, rules: AccessSettings
) -> str:
    """Begin a session of a person; returns its token. One too many ends the oldest."""
    if rules.sessions_max:
        c = tokens.c
        kept = (
            select(c.id)
            .where(c.user_id == user_id, c.kind == "session")
            .order_by(c.created_at_s.desc(), c.id)
            .limit(rules.sessions_max - 1)
        )
        newest = list(connection.execute(kept).scalars())
        ended = delete(tokens).where(c.user_id == user_id, c.kind == "session")
        connection.execute(ended.where(c.id.not_in(newest)))
    _, token = issue(connection, suite, user_id, "session", name, rules.session_max_s)
    return token


def in_use(rules: AccessSettings, now_s: int) -> ColumnElement[bool]:
    """Whether a token is not of a session that nobody used for too long."""
    c = tokens.c
    if not rules.session_idle_max_s:
        return true()
    since_s = now_s - rules.session_idle_max_s
    return or_(c.kind != "session", func.coalesce(c.used_at_s, c.created_at_s) > since_s)


def note_use(engine: Engine, token_id: str, used_at_s: float, rules: AccessSettings) -> None:
    """Note that a session is used, now and then: a transaction of its own.

    Args:
        used_at_s: when that was noted last.
    """
    now_s = int(time.time())
    if not rules.session_idle_max_s or not token_id or now_s - used_at_s < NOTED_S:
        return
    with engine.begin() as connection:
        connection.execute(update(tokens).where(tokens.c.id == token_id).values(used_at_s=now_s))


def of_user(connection: Connection, user_id: str) -> list[Row]:
    """A user's tokens and sessions, the oldest first; never the tokens themselves."""
    table = tokens.c
    query = (
        select(
            table.id, table.kind, table.name, table.created_at_s, table.expires_at_s,
            table.permissions,
        )
        .where(table.user_id == user_id)
        .order_by(table.created_at_s)
        .limit(_SHOWN_MAX)
    )  # fmt: skip
    rows = connection.execute(query).mappings()
    return [{**row, "permissions": json.loads(row["permissions"])} for row in rows]


def issued_since(connection: Connection, since_s: int, most: int) -> list[tuple[str, int]]:
    """Hashes of the latest tokens that are valid, the oldest of them first, and when each was
    issued (Unix time)."""
    query = (
        select(tokens.c.token_hash, tokens.c.created_at_s)
        .where(tokens.c.created_at_s >= since_s, tokens.c.expires_at_s > int(time.time()))
        .order_by(tokens.c.created_at_s.desc())
        .limit(most)
    )
    return [(row.token_hash, row.created_at_s) for row in connection.execute(query)][::-1]


def is_session_of(
    connection: Connection, suite: Suite, user_id: str, token: str, rules: AccessSettings
) -> bool:
    """Whether it is the token of a user's session that has not ended."""
    query = select(tokens.c.id).where(
        tokens.c.token_hash.in_(suite.stored_digests(token.encode())),
        tokens.c.user_id == user_id,
        tokens.c.kind == "session",
        tokens.c.expires_at_s > int(time.time()),
        in_use(rules, int(time.time())),
    )
    return connection.execute(query).first() is not None


def owner_of(connection: Connection, token_id: str) -> str | None:
    """The user a token belongs to; None when there is no such token."""
    return connection.execute(select(tokens.c.user_id).where(tokens.c.id == token_id)).scalar()


def end(connection: Connection, suite: Suite, token: str) -> None:
    """The token is worth nothing any more."""
    connection.execute(
        delete(tokens).where(tokens.c.token_hash.in_(suite.stored_digests(token.encode())))
    )


def end_by_id(connection: Connection, token_id: str) -> None:
    """The token of that id is worth nothing any more."""
    connection.execute(delete(tokens).where(tokens.c.id == token_id))


def end_all_of(connection: Connection, user_id: str, kind: str | None = None) -> None:
    """A user's tokens are worth nothing any more.

    Args:
        kind: only those: `session` or `api`.
    """
    ended = delete(tokens).where(tokens.c.user_id == user_id)
    connection.execute(ended if kind is None else ended.where(tokens.c.kind == kind))


def note_step_up(connection: Connection, suite: Suite, token: str) -> None:
    """Whoever holds the session has shown all that signing in takes."""
    connection.execute(
        update(tokens)
        .where(tokens.c.token_hash.in_(suite.stored_digests(token.encode())))
        .values(stepped_up_at_s=int(time.time()))
    )


def sweep(connection: Connection) -> None:
    """Forget tokens that have expired."""
    connection.execute(delete(tokens).where(tokens.c.expires_at_s <= int(time.time())))
