"""Password hashing (Argon2id) and time-based one-time passwords (RFC 6238)."""

from __future__ import annotations

import base64
import os
import struct

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tokenschain.infra.security import prescribed, secrets

TOTP_STEP_S = 30
TOTP_SKEW_STEPS = 1
"""Clocks may differ by one step, as RFC 6238 recommends."""
# The hash of a random password that is not kept, with the parameters below: comparing with it takes
# as long as comparing with a real one, so that timing does not tell which accounts exist.
UNKNOWN_USER_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$A6P71lJqVUfra2vVQH8"
    "aXg$pZnobmaFoG1a2VS/tKwcOOgsQ5V+FwhdnPjUBVVFYRg"
)


def password_hash(password: str) -> str:
    """Argon2id, with its parameters and salt in the text."""
    return _hasher().hash(password)


def password_matches(stored: str, password: str) -> bool:
    """Whether a password is the one that was stored; takes as long either way."""
    try:
        return _hasher().verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _hasher() -> PasswordHasher:
    # OWASP's password storage cheat sheet: argon2id with 19 MiB, 2 passes, 1 lane at least.
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def new_totp_secret() -> str:
    """160 random bits in base32, as authenticators read them."""
    return base64.b32encode(os.urandom(20)).decode()


def totp_code(secret: str, step: int) -> str:
    """The six digits of a time step (RFC 6238 over HMAC-SHA1, as authenticators do)."""
    digest = prescribed.hmac_sha1(base64.b32decode(secret), struct.pack(">Q", step))
    at = digest[-1] & 0xF
    number = struct.unpack(">I", digest[at : at + 4])[0] & 0x7FFF_FFFF
    return f"{number % 1_000_000:06d}"


def totp_step(secret: str, code: str, now_s: float) -> int | None:
    """The time step a code is right for; None when it is wrong."""
    present = int(now_s // TOTP_STEP_S)
    for step in range(present - TOTP_SKEW_STEPS, present + TOTP_SKEW_STEPS + 1):
        if secrets.same(totp_code(secret, step), code):
            return step
    return None
