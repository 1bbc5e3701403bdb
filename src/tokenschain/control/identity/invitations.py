"""Invitations: one-time links by which users without a password choose one and sign in."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select

from tokenschain.control import mails
from tokenschain.control.identity import tokens
from tokenschain.core import mail_address
from tokenschain.core.errors import ApiError
from tokenschain.infra.database.tables import audit_events, users
from tokenschain.infra.database.tables import tokens as tokens_table
from tokenschain.infra.security.suite import Suite

KIND = "invite"
MAILED, HANDED_OVER = "mailed", "handed over"
"""How a link reaches whom it is for: the name of its token."""
LASTS_S = 7 * 86_400
PER_DAY_MAX = 100
"""Of a tenant: nobody sends the world letters through an account of its own."""
PER_MAILBOX_PER_DAY_MAX = 5
"""Of all tenants together; what stands behind a `+` is the same mailbox."""
AGAIN_AFTER_S = 60
"""To the same person."""
ACTION = "invitation"
"""In the audit trail, which invitations are counted by."""

Row = dict[str, Any]


def make(connection: Connection, suite: Suite, user_id: str, *, mailed: bool) -> str:
    """The code of a user's new invitation; one made before is worth nothing.

    Args:
        mailed: whether the link goes to the address alone, so that who uses it reads that.

    Raises:
        ApiError: `conflict` where the user has, or may have, another way in.
    """
    row = connection.execute(select(users).where(users.c.id == user_id)).one()
    if not _may_be_invited(row._mapping):
        raise ApiError("conflict", "Only who has no way to sign in yet can be invited.",
                       param="user_id")  # fmt: skip
    withdraw(connection, user_id)
    way = MAILED if mailed else HANDED_OVER
    _, code = tokens.issue(connection, suite, user_id, KIND, way, LASTS_S, ())
    return code


def _may_be_invited(row: Any) -> bool:
    return row["kind"] == "user" and all(
        row[name] is None for name in ("password_hash", "oidc_subject", "disabled_at_s")
    )


def find(connection: Connection, suite: Suite, code: str) -> Row | None:
    """The user that an open invitation is for, with its `expires_at_s` and whether it was
    `mailed`; None where there is none."""
    row = connection.execute(
        select(
            users,
            tokens_table.c.expires_at_s,
            (tokens_table.c.name == MAILED).label("mailed"),
        )
        .join(tokens_table, tokens_table.c.user_id == users.c.id)
        .where(
            tokens_table.c.token_hash.in_(suite.stored_digests(code.encode())),
            tokens_table.c.kind == KIND,
            tokens_table.c.expires_at_s > int(time.time()),
        )
    ).first()
    if row is None or not _may_be_invited(row._mapping):
        return None
    return dict(row._mapping)


def use(connection: Connection, suite: Suite, code: str) -> Row | None:
    """The user that an invitation was for, which is used up; None where there was none.

    Of two at once one gets in: the row is taken away by whoever finds it there.
    """
    row = find(connection, suite, code)
    if row is None or not withdraw(connection, row["id"]):
        return None
    return row


def withdraw(connection: Connection, user_id: str) -> bool:
    """Whether a user had an invitation, which is worth nothing now; nor is its mail sent."""
    mails.forget(connection, user_id)
    ended = connection.execute(
        delete(tokens_table).where(tokens_table.c.user_id == user_id, tokens_table.c.kind == KIND)
    ).rowcount
    return bool(ended)


def open_until(connection: Connection, user_ids: Collection[str]) -> dict[str, int]:
    """Until when invitations of users are open (Unix time); of those that have one."""
    rows = connection.execute(
        select(tokens_table.c.user_id, func.max(tokens_table.c.expires_at_s))
        .where(
            tokens_table.c.user_id.in_(user_ids),
            tokens_table.c.kind == KIND,
            tokens_table.c.expires_at_s > int(time.time()),
        )
        .group_by(tokens_table.c.user_id)
    )
    return {user_id: int(until_s) for user_id, until_s in rows}


def check_rate(connection: Connection, row: Mapping[str, Any], now_s: float) -> None:
    """Insist that a user's tenant may invite once more, and this person again.

    Args:
        row: of the user.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    made = select(func.count()).where(audit_events.c.action == ACTION)
    since, target = audit_events.c.at_ms, audit_events.c.target
    today = made.where(since > (now_s - 86_400) * 1_000)

    def has_had(query: Select[int], most: int) -> bool:
        return connection.execute(query).scalar_one() >= most

    if has_had(today.where(audit_events.c.tenant == row["tenant"]), PER_DAY_MAX):
        raise ApiError("rate_limit_exceeded", f"{PER_DAY_MAX} invitations a day are sent.",
                       retry_after_s=3_600.0)  # fmt: skip
    if has_had(made.where(since > (now_s - AGAIN_AFTER_S) * 1_000, target == row["id"]), 1):
        raise ApiError("rate_limit_exceeded", "An invitation was just sent; wait a minute.",
                       retry_after_s=float(AGAIN_AFTER_S))  # fmt: skip
    same = select(users.c.id).where(_same_mailbox(row["email"]))
    if has_had(today.where(target.in_(same)), PER_MAILBOX_PER_DAY_MAX):
        raise ApiError("rate_limit_exceeded", "This mailbox had enough invitations today; "
                       "try again tomorrow.", retry_after_s=3_600.0)  # fmt: skip


def _same_mailbox(email: str) -> ColumnElement[bool]:
    name, domain = mail_address.mailbox_of(email)
    return or_(
        users.c.email == f"{name}@{domain}",
        users.c.email.startswith(f"{name}+", autoescape=True)
        & users.c.email.endswith(f"@{domain}", autoescape=True),
    )
