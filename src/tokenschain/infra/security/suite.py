"""Cryptographic suite: hash, HMAC, key derivation and sealing (authenticated encryption).

One process works with one `Suite`, which its wiring hands to whatever hashes, signs or seals;
nothing else names an algorithm. Algorithms that a protocol prescribes, whatever the suite, are
in `infra.security.prescribed`; vendors' request signatures are in `providers.signing`.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
KEYED_DIGEST_BYTES = 16
_NONCE_BYTES = 12


class Unsealable(ValueError):
    """The sealed text was changed, or another key, name or suite sealed it."""


class Aead(Protocol):
    """A cipher with a tag, made from a key of `KEY_BYTES`."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """
        Raises:
            InvalidTag, ValueError: not what was encrypted so.
        """


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of one process. Digests and keys have 32 bytes where nothing else is said."""

    name: str
    sealed_version: bytes
    """One byte before everything that is sealed: tells the suites' sealed texts apart."""
    digest: Callable[[bytes], bytes]
    mac: Callable[[bytes, bytes], bytes]
    """(key, message) -> code."""
    keyed_digest: Callable[[bytes, bytes], bytes]
    """(key, data) -> a short digest of `KEYED_DIGEST_BYTES`, for look-ups."""
    derive: Callable[[str, bytes], bytes]
    """(secret, purpose) -> a key, the same in all processes that share the secret."""
    aead: Callable[[bytes], Aead]

    def hex_digest(self, data: bytes) -> str:
        """The digest as text; of keys and tokens, this is what is stored."""
        return self.digest(data).hex()


class Signer:
    """Signs messages between processes that share a secret."""

    __slots__ = ("_key", "_suite")

    def __init__(self, suite: Suite, secret: str) -> None:
        self._suite = suite
        self._key = secret.encode()

    def sign(self, message: bytes) -> str:
        """The message authentication code in hex."""
        return self._suite.mac(self._key, message).hex()

    def signed(self, message: bytes, signature: str) -> bool:
        """Whether the signature is right; constant time."""
        return hmac.compare_digest(self.sign(message).encode(), signature.encode())


class Sealer:
    """Seals secrets at rest with one key; each is bound to its name."""

    __slots__ = ("_aead", "_version")

    def __init__(self, suite: Suite, key: bytes) -> None:
        self._version = suite.sealed_version
        self._aead = suite.aead(key)

    def seal(self, name: str, secret: bytes) -> bytes:
        """Version, nonce, then the encrypted secret; the name is authenticated."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._version + nonce + self._aead.encrypt(nonce, secret, name.encode())

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """The secret again.

        Raises:
            Unsealable: it is not what was sealed under this name with this key.
        """
        at = len(self._version) + _NONCE_BYTES
        if not sealed.startswith(self._version):
            raise Unsealable(f"the secret {name} was sealed by another suite")
        try:
            return self._aead.decrypt(sealed[len(self._version) : at], sealed[at:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise Unsealable(f"the secret {name} cannot be unsealed") from error


def _sha256(data: bytes) -> bytes:
    return sha256(data).digest()


def _hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _keyed_blake2b(key: bytes, data: bytes) -> bytes:
    return blake2b(data, digest_size=KEYED_DIGEST_BYTES, key=key).digest()


def _derive_blake2b(secret: str, purpose: bytes) -> bytes:
    return blake2b(secret.encode(), digest_size=KEY_BYTES, person=purpose).digest()


# SHA-256 (FIPS 180-4), HMAC (FIPS 198-1), BLAKE2b (RFC 7693), AES-256-GCM (NIST SP 800-38D).
INTERNATIONAL = Suite(
    name="international",
    sealed_version=b"\x01",
    digest=_sha256,
    mac=_hmac_sha256,
    keyed_digest=_keyed_blake2b,
    derive=_derive_blake2b,
    aead=AESGCM,
)
