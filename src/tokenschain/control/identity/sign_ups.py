"""Sign-ups: who wants an account waits for the confirmation of the address; no tenant before it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from tokenschain.control.identity import users
from tokenschain.core import mail_address
from tokenschain.core.errors import ApiError
from tokenschain.infra.config.sign_in import SignUpSettings
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import credited_mailboxes, sign_ups
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Suite

LASTS_S = 86_400
"""Of a link. What was not confirmed is forgotten then."""
PER_ADDRESS_MAX = 3
"""Letters to one address a day, from one network."""
PER_ADDRESS_FROM_ALL_MAX = 10
"""The same from all: more, so that no stranger uses up what its holder needs."""
CODE_PREFIX = "tcc-"
_SLUG_CHARACTERS_MAX = 24

Row = dict[str, Any]


def check_rates(
    connection: Connection, settings: SignUpSettings, network: str, email: str, now_s: int
) -> None:
    """Insist that one more may ask today. Known addresses count like others, so that the answer
    does not tell which are.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    bounds: tuple[tuple[int, tuple[ColumnElement[bool], ...]], ...] = (
        (settings.per_day_max, ()),
        (settings.per_network_per_day_max, (sign_ups.c.network == network,)),
        (PER_ADDRESS_MAX, (sign_ups.c.email == email, sign_ups.c.network == network)),
        (PER_ADDRESS_FROM_ALL_MAX, (sign_ups.c.email == email,)),
    )
    today = sign_ups.c.created_at_s > now_s - 86_400
    for most, where in bounds:
        counted = select(func.count()).select_from(sign_ups).where(today, *where)
        if connection.execute(counted).scalar_one() >= most:
            raise ApiError("rate_limit_exceeded", "Too many sign-ups today; try again tomorrow.",
                           retry_after_s=3_600.0)  # fmt: skip


def check_domain(email: str, refused: Collection[str]) -> None:
    """Insist on an address of a domain that is not refused, nor below one that is.

    Raises:
        ApiError: `invalid_value`.
    """
    parts = email.rpartition("@")[2].lower().split(".")
    names = {".".join(parts[at:]) for at in range(len(parts))}
    if names & {one.lower().strip(".") for one in refused}:
        raise ApiError("invalid_value", "Addresses of this domain are not taken.", param="email")


def begin(
    connection: Connection,
    suite: Suite,
    *,
    email: str,
    network: str,
    organization: str,
    password_hash: str,
    terms_url: str,
) -> str | None:
    """Note who wants an account; returns the code of the link, None for an address that has one
    already (`users.is_taken`), which is noted all the same."""
    known = users.is_taken(connection, email)
    code = secrets.new_token(CODE_PREFIX)
    connection.execute(
        insert(sign_ups).values(
            id=secrets.new_id("sgn"),
            email=email,
            network=network,
            organization=organization,
            password_hash=password_hash,
            code_hash=None if known else suite.stored_digest(code.encode()),
            terms_url=terms_url,
            created_at_s=int(time.time()),
        )
    )
    return None if known else code


def find(connection: Connection, suite: Suite, code: str) -> Row | None:
    """The sign-up that waits for a link; None where there is none."""
    row = connection.execute(
        select(sign_ups).where(
            sign_ups.c.code_hash.in_(suite.stored_digests(code.encode())),
            sign_ups.c.created_at_s > int(time.time()) - LASTS_S,
        )
    ).first()
    return None if row is None else dict(row._mapping)


def take(connection: Connection, row: Row) -> bool:
    """Whether a sign-up is still open; it is used up, and so is each other of its address.

    Of two at once, the second waits here and finds nothing.
    """
    taken = connection.execute(
        update(sign_ups)
        .where(sign_ups.c.email == row["email"], sign_ups.c.code_hash.is_not(None))
        .values(code_hash=None)
        .returning(sign_ups.c.id)
    ).scalars()
    return row["id"] in set(taken) and not users.is_taken(connection, row["email"])


def has_credit_due(connection: Connection, suite: Suite, email: str, now_s: int) -> bool:
    """Whether free credit is due to an address: once for a mailbox, whatever becomes of the
    account. What stands behind a `+` is the same mailbox."""
    mailbox = str(mail_address.mailbox_of(email)).encode()
    digest, *others = suite.stored_digests(mailbox)
    by_another_suite = select(credited_mailboxes.c.at_s).where(
        credited_mailboxes.c.mailbox_hash.in_(others)
    )
    if connection.execute(by_another_suite).first() is not None:
        return False
    noted = connection.execute(
        upsert(connection.engine, credited_mailboxes)
        .values(mailbox_hash=digest, at_s=now_s)
        .on_conflict_do_nothing(index_elements=["mailbox_hash"])
        .returning(credited_mailboxes.c.at_s)
    )
    return bool(noted.all())


def tenant_name(organization: str) -> str:
    """A name for a new tenant: what of the organization's can stand in one, and some letters that
    nobody guesses, so that no name tells who there is."""
    slug = "-".join(re.findall(r"[a-z0-9]+", organization.lower()))[:_SLUG_CHARACTERS_MAX]
    return f"{slug.strip('-') or 'org'}-{secrets.new_id('t').rpartition('_')[2][:8]}"


def sweep(connection: Connection, now_s: int) -> None:
    """Forget what was not confirmed in time."""
    connection.execute(delete(sign_ups).where(sign_ups.c.created_at_s <= now_s - LASTS_S))
