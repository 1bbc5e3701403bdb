"""Sealing of secrets at rest; the only owner of a cipher library."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class Unsealable(ValueError):
    """The sealed text was changed, or another key or name sealed it."""


def new_key() -> bytes:
    """A fresh key for `seal`."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, name: str, secret: bytes) -> bytes:
    """Seal a secret under its name: AES-256-GCM (NIST SP 800-38D), the name authenticated."""
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, secret, name.encode())


def unseal(key: bytes, name: str, sealed: bytes) -> bytes:
    """The secret again.

    Raises:
        Unsealable: it is not what was sealed under this name with this key.
    """
    body = sealed.removeprefix(_VERSION)
    nonce, text = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, text, name.encode())
    except (InvalidTag, ValueError) as error:
        raise Unsealable(f"the secret {name} cannot be unsealed") from error
