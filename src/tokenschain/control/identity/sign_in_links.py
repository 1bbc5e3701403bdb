"""One-time sign-in links: how the operator of the machine comes into the console at the start."""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, Connection, delete, select

from tokenschain.control.identity import tokens, users
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.database.tables import tokens as tokens_table
from tokenschain.infra.security.suite import Suite

LINK_S = 15 * 60
KIND = "link"


def make(connection: Connection, suite: Suite) -> str:
    """The code of a link that signs the operator in once; one made before is worth nothing."""
    tokens.end_all_of(connection, users.OPERATOR.id, KIND)
    _, code = tokens.issue(connection, suite, users.OPERATOR.id, KIND, "sign-in link", LINK_S, ())
    return code


def is_open(connection: Connection, suite: Suite, code: str) -> bool:
    """Whether a link can still be used."""
    return (
        connection.execute(select(tokens_table.c.id).where(*_open(suite, code))).first() is not None
    )


def use(connection: Connection, suite: Suite, code: str, rules: AccessSettings) -> str | None:
    """A session's token for the code of a link; None for one that was used, is over, or is none.

    Of two at once one gets in: the row is taken away by whoever finds it there.
    """
    taken = connection.execute(delete(tokens_table).where(*_open(suite, code))).rowcount
    if not taken:
        return None
    return tokens.open_session(connection, suite, users.OPERATOR.id, "sign-in link", rules)


def _open(suite: Suite, code: str) -> tuple[ColumnElement[bool], ...]:
    return (
        tokens_table.c.token_hash.in_(suite.stored_digests(code.encode())),
        tokens_table.c.kind == KIND,
        tokens_table.c.expires_at_s > int(time.time()),
    )


def end_sessions(connection: Connection) -> None:
    """Whoever came in by a link is signed out, and links are worth nothing."""
    tokens.end_all_of(connection, users.OPERATOR.id)
