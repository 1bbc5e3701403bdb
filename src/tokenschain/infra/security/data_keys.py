"""Secrets under a data key: one that a cloud's key management made, and gives back when asked."""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag

from tokenschain.infra.security.suite import GM, INTERNATIONAL, Suite

_NONCE_BYTES = 12


class NotSealedSo(Exception):
    """It was not sealed with this key, or was changed since."""


def sealed(suite: Suite, data_key: bytes, head: str, secret: str) -> str:
    """A line that begins with a head, which is authenticated, and goes on with the sealed secret.

    Args:
        data_key: 32 bytes.
    """
    nonce = os.urandom(_NONCE_BYTES)
    text = suite.aead(data_key).encrypt(nonce, secret.encode(), head.encode())
    return head + base64.b64encode(nonce + text).decode()


def opened(suite_name: str, data_key: bytes, line: str) -> str:
    """The secret of such a line, of either suite.

    Raises:
        NotSealedSo: see there.
    """
    head, colon, encoded = line.rpartition(":")
    try:
        data = base64.b64decode(encoded, validate=True)
        aead = {one.name: one for one in (INTERNATIONAL, GM)}[suite_name].aead(data_key)
        found = aead.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], (head + colon).encode())
        return found.decode()
    except (KeyError, ValueError, InvalidTag):
        raise NotSealedSo from None
