"""SM3 digest, HMAC-SM3 and SM4-GCM (GB/T 32905, 32907; RFC 8998), by the library `cryptography`.

SM2 is in `infra.security.sm2`: that library has no SM2.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SM4_KEY_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
_EMPTY = hashes.Hash(hashes.SM3())
"""Copied for each digest: three times as fast as one made anew."""


def sm3(data: bytes) -> bytes:
    """The digest, 32 bytes."""
    state = _EMPTY.copy()
    state.update(data)
    return state.finalize()


def hmac_sm3(key: bytes, message: bytes) -> bytes:
    """The message authentication code, 32 bytes."""
    code = hmac.HMAC(key, hashes.SM3())
    code.update(message)
    return code.finalize()


class Sm4Gcm:
    """SM4-GCM with a tag of 16 bytes behind the encrypted text; of a longer key, the first 16
    bytes count."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """
        Raises:
            ValueError: the key has fewer than `SM4_KEY_BYTES`.
        """
        self._key = algorithms.SM4(key[:SM4_KEY_BYTES])

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """The encrypted text and its tag. A nonce may be used once for each key."""
        encryptor = Cipher(self._key, modes.GCM(_checked(nonce))).encryptor()
        encryptor.authenticate_additional_data(associated_data or b"")
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """The text again.

        Raises:
            InvalidTag: it, its nonce or the associated data was changed, or the key is another.
        """
        if len(data) < TAG_BYTES:
            raise InvalidTag
        sealed, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        decryptor = Cipher(self._key, modes.GCM(_checked(nonce), tag)).decryptor()
        decryptor.authenticate_additional_data(associated_data or b"")
        return decryptor.update(sealed) + decryptor.finalize()


def _checked(nonce: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    return nonce
