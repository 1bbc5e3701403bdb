"""Signs requests and acts of commands with a person's own key."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from tokenschain.cli.language import told
from tokenschain.infra.security.signed_act import (
    SALT_BYTES,
    SignedAct,
    body_digest,
    key_id_of,
)

SIGN_WITH_VARIABLE = "TOKENSCHAIN_SIGN_WITH"
"""File of the private key that `crypto new-key` made; unset: nothing is signed."""


def signature(method: str, target: str, body: bytes) -> str | None:
    """The signature of a request, as its header has it; None where no key is named.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no private key.
    """
    named = os.environ.get(SIGN_WITH_VARIABLE)
    if not named:
        return None
    from tokenschain.infra.security import pack_signatures  # noqa: PLC0415 - seldom needed

    pem = Path(named).read_bytes()
    try:
        key_id = key_id_of(pack_signatures.public_key_of(pem))
    except ValueError:
        raise ValueError(told("{file} is no private key to sign with", file=named)) from None
    salt = secrets.token_bytes(SALT_BYTES)
    act = SignedAct(method, target, time.time_ns() // 1_000_000, body_digest(salt, body))
    signed = pack_signatures.sign(act.text(), [pem]).decode().strip()
    return f"{key_id} {act.at_ms} {salt.hex()} {signed}"
