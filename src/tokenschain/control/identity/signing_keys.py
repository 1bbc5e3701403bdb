"""Signing keys of people: named acts are signed by whoever asks for them, with a key of their own.

The private key never leaves its owner. Of a signed act, the audit log keeps the signature and what
it is over: who verifies the log verifies that, too.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from tokenschain.core.errors import ApiError
from tokenschain.infra.database.compliance_tables import signing_keys
from tokenschain.infra.database.tables import users
from tokenschain.infra.security import pack_signatures
from tokenschain.infra.security.signed_act import SALT_BYTES, SignedAct, body_digest, key_id_of

SIGN_IT = (
    "This takes a signature by a key of your own (`POST /me/signing-keys`, then the header "
    "`x-tc-signature`; commands sign with the key that `TOKENSCHAIN_SIGN_WITH` names)."
)
KEYS_MAX = 5
"""In force, of one person."""
APART_MAX_S = 300
"""How old a signature may be, and how far ahead a signer's clock."""
HEADER_CHARACTERS_MAX = 400
_SHOWN = ("id", "name", "public_key", "created_at_s", "used_at_ms")

Row = dict[str, Any]


def add(connection: Connection, user_id: str, name: str, public_key: str, now_s: int) -> Row:
    """Register a public key.

    Raises:
        ApiError: `invalid_value`: it is none; `conflict`: it is registered, or there are too many.
    """
    if not pack_signatures.is_public_key(public_key):
        raise ApiError(
            "invalid_value",
            "This is no public key of Ed25519 or SM2: `crypto new-key` makes one.",
            param="public_key",
        )
    c, key_id = signing_keys.c, key_id_of(public_key)
    known = select(c.id).where(c.id == key_id)
    if connection.execute(known).first() is not None:
        raise ApiError("conflict", "This key is registered.", param="public_key")
    held = select(func.count()).where(c.user_id == user_id, c.revoked_at_s.is_(None))
    if connection.execute(held).scalar_one() >= KEYS_MAX:
        raise ApiError("conflict", f"There are {KEYS_MAX} keys: delete one first.")
    row = {
        "id": key_id,
        "user_id": user_id,
        "name": name,
        "public_key": public_key,
        "created_at_s": now_s,
        "used_at_ms": 0,
    }
    connection.execute(insert(signing_keys).values(**row))
    return _shown(row)


def of_person(connection: Connection, user_id: str) -> list[Row]:
    """Those in force."""
    c = signing_keys.c
    query = select(signing_keys).where(c.user_id == user_id, c.revoked_at_s.is_(None))
    found = connection.execute(query.order_by(c.created_at_s, c.id)).mappings()
    return [_shown(dict(row)) for row in found]


def _shown(row: Mapping[str, Any]) -> Row:
    return {name: row[name] for name in _SHOWN}


def revoke(connection: Connection, user_id: str, key_id: str, now_s: int) -> bool:
    """Let a key sign nothing from now on; false: the person has none such."""
    c = signing_keys.c
    revoked = update(signing_keys).where(
        c.id == key_id, c.user_id == user_id, c.revoked_at_s.is_(None)
    )
    return connection.execute(revoked.values(revoked_at_s=now_s)).rowcount > 0


def evidence(
    connection: Connection, header: str, method: str, target: str, body: bytes
) -> dict[str, object]:
    """What the audit log keeps of a signed request, once it is verified.

    Args:
        header: key, time in ms, salt in hex and signature in base64, with spaces between.

    Raises:
        ApiError: `invalid_signature`.
    """
    try:
        key_id, at, salt_hex, signature = header[:HEADER_CHARACTERS_MAX].split(" ")
        at_ms, salt = int(at), bytes.fromhex(salt_hex)
        raw = base64.b64decode(signature, validate=True)
    except (ValueError, binascii.Error):
        raise _wrong("it is none") from None
    if len(salt) != SALT_BYTES:
        raise _wrong("it is none")
    if abs(int(time.time() * 1e3) - at_ms) > APART_MAX_S * 1_000:
        raise _wrong("it is of another time; are the clocks right?")
    c, u = signing_keys.c, users.c
    shut_out = select(u.id).where(u.id == c.user_id, u.disabled_at_s.is_not(None))
    in_force = select(signing_keys).where(
        c.id == key_id, c.revoked_at_s.is_(None), ~shut_out.exists()
    )
    row = connection.execute(in_force).first()
    act = SignedAct(method, target, at_ms, body_digest(salt, body))
    if row is None or not pack_signatures.holds(row.public_key, act.text(), raw):
        raise _wrong("no key in force has signed this request")
    return {
        "key": key_id,
        "user": row.user_id,
        "public_key": row.public_key,
        **act._asdict(),
        "signature": signature,
    }


def _wrong(why: str) -> ApiError:
    return ApiError("invalid_signature", f"The request's signature does not hold: {why}.")


def use(connection: Connection, signed: Mapping[str, object]) -> None:
    """Take a signature once: one that is not later than the key's last is refused.

    Raises:
        ApiError: `invalid_signature`.
    """
    c, at_ms = signing_keys.c, signed["at_ms"]
    later = update(signing_keys).where(c.id == signed["key"], c.used_at_ms < at_ms)
    if not connection.execute(later.values(used_at_ms=at_ms)).rowcount:
        raise _wrong("it was used before, or a later one was; sign again")
