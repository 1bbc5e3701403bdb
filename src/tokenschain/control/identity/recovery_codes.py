"""Recovery codes: each lets its user in once without a code of the second factor."""

from __future__ import annotations

import base64
import os

from sqlalchemy import Connection, delete, func, insert, select

from tokenschain.infra.database.tables import recovery_codes
from tokenschain.infra.security.suite import Suite

CODES = 10
BYTES = 10
"""Random ones of a code: 80 bits, so that its hash needs no salt and no slow function."""
PATTERN = r"^([A-Za-z2-7]{4}-?){3}[A-Za-z2-7]{4}$"


def issue(connection: Connection, suite: Suite, user_id: str) -> list[str]:
    """New codes for a user, in place of earlier ones; only their hashes are kept."""
    forget(connection, user_id)
    codes = [base64.b32encode(os.urandom(BYTES)).decode().lower() for _ in range(CODES)]
    digests = [suite.stored_digest(_said(user_id, code)) for code in codes]
    rows = [{"code_hash": digest, "user_id": user_id} for digest in digests]
    connection.execute(insert(recovery_codes), rows)
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def use(connection: Connection, suite: Suite, user_id: str, code: str) -> bool:
    """Whether it is a code of the user that was not used; it is now.

    Args:
        code: as `PATTERN`; dashes and the case of letters do not matter.
    """
    digests = suite.stored_digests(_said(user_id, code.replace("-", "").lower()))
    used = delete(recovery_codes).where(
        recovery_codes.c.code_hash.in_(digests), recovery_codes.c.user_id == user_id
    )
    return bool(connection.execute(used).rowcount)


def left(connection: Connection, user_id: str) -> int:
    """How many codes a user has."""
    counted = select(func.count()).select_from(recovery_codes)
    return int(connection.execute(counted.where(recovery_codes.c.user_id == user_id)).scalar_one())


def forget(connection: Connection, user_id: str) -> None:
    """None of a user's codes is right any more."""
    connection.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))


def _said(user_id: str, code: str) -> bytes:
    return f"{user_id}\n{code}".encode()
