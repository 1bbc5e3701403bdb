"""Signs requests and acts of commands with a person's own key."""

from __future__ import annotations

import json
import os
import secrets
import time
from base64 import b64encode
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
SIGNED_ACTS_VARIABLE = "TOKENSCHAIN_SIGNED_ACTS"
"""File that gets a line for each signed request: what proves later which body was signed."""


def signature(method: str, target: str, body: bytes) -> str | None:
    """The signature of a request, as its header has it; None where no key is named.

    Raises:
        OSError: the file cannot be read, or what is signed not be kept.
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
    _keep(act, salt, body, signed)
    return f"{key_id} {act.at_ms} {salt.hex()} {signed}"


def _keep(act: SignedAct, salt: bytes, body: bytes, signed: str) -> None:
    """Note the salt and the body of a signed request, which the audit log has the digest of alone,
    where its owner wants that: before it is sent, so that none is lost."""
    named = os.environ.get(SIGNED_ACTS_VARIABLE)
    if not named:
        return
    kept = {**act._asdict(), "salt": salt.hex(), "body_base64": b64encode(body).decode(),
            "signature": signed}  # fmt: skip
    line = json.dumps(kept, separators=(",", ":")).encode() + b"\n"
    file = os.open(named, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)
