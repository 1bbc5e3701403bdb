"""Cryptographic suite: hash, HMAC, key derivation and sealing (authenticated encryption).

One process writes with one `Suite`, which its wiring hands to whatever hashes, signs or seals;
nothing else names an algorithm. What any suite wrote is read by every one: sealed texts and stored
digests say which it was, signatures are tried by each. Algorithms that a protocol prescribes,
whatever the suite, are in `infra.security.prescribed`; vendors' request signatures are in
`providers.signing`.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b, sha256
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tokenschain.infra.security import gm

KEY_BYTES = 32
KEYED_DIGEST_BYTES = 16
_NONCE_BYTES = 12
_NONCES = b"nonces of alike sealing"
_FORMER_VERSION = b"\x01"
"""Of what was bound to its name alone, not to kind and tenant."""


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
    """One byte before everything that is sealed: tells the suites' sealed texts apart, and those
    of earlier versions."""
    digest: Callable[[bytes], bytes]
    mac: Callable[[bytes, bytes], bytes]
    """(key, message) -> code."""
    keyed_digest: Callable[[bytes, bytes], bytes]
    """(key, data) -> a short digest of `KEYED_DIGEST_BYTES`, for look-ups."""
    derive: Callable[[str, bytes], bytes]
    """(secret, purpose) -> a key, the same in all processes that share the secret."""
    aead: Callable[[bytes], Aead]
    mark: str = ""
    """Before stored digests; empty of those that were always stored in hex."""

    def others(self) -> list[Suite]:
        """The suites that this one reads besides."""
        return [suite for suite in SUITES if suite is not self]

    def readers(self) -> list[Suite]:
        """This suite, then the others: in the order in which a reader tries them."""
        return [self, *self.others()]

    def hex_digest(self, data: bytes) -> str:
        """The digest as text, to compare and to name things for a while."""
        return self.digest(data).hex()

    def is_digest(self, data: bytes, text: str) -> bool:
        """Whether a text is what some suite gives as `hex_digest`."""
        return any(suite.hex_digest(data) == text for suite in self.readers())

    def stored_digest(self, data: bytes) -> str:
        """The digest as it is stored of keys and tokens: it says whose suite it is."""
        digest = self.digest(data)
        if not self.mark:
            return digest.hex()
        return self.mark + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def stored_digests(self, data: bytes) -> list[str]:
        """All that may be stored of a key or token, that of this suite first."""
        return [suite.stored_digest(data) for suite in self.readers()]


class Signer:
    """Signs messages between processes that share a secret."""

    __slots__ = ("_key", "_suite")

    def __init__(self, suite: Suite, secret: str) -> None:
        self._suite = suite
        self._key = secret.encode()

    @property
    def digest(self) -> Callable[[bytes], str]:
        """Of what is signed by its digest only: the suite's, in hex."""
        return self._suite.hex_digest

    def sign(self, message: bytes) -> str:
        """The message authentication code in hex."""
        return self._suite.mac(self._key, message).hex()

    def signed(self, message: bytes, signature: str) -> bool:
        """Whether the signature is right; constant time."""
        return hmac.compare_digest(self.sign(message).encode(), signature.encode())


class Sealable(StrEnum):
    """What is sealed; a sealed text of one kind opens as no other."""

    CREDENTIAL = "credential"
    STORED_CREDENTIAL = "stored_credential"
    PUBLISHED_CREDENTIAL = "published_credential"
    RESPONSE = "response"
    ALERT_TARGET = "alert_target"
    SECOND_FACTOR = "second_factor"
    IDEMPOTENT_ANSWER = "idempotent_answer"
    SIGN_IN = "sign_in"
    CACHED_ANSWER = "cached_answer"
    CACHED_QUESTION = "cached_question"
    PLAYGROUND_KEY = "playground_key"
    MAIL = "mail"
    MODERATION_TEXTS = "moderation_texts"
    MODERATION_CASE = "moderation_case"
    CONTENT_KEY = "content_key"
    CONTENT_IN_TRANSIT = "content_in_transit"
    CONTENT = "content"


class Place(NamedTuple):
    """Where a sealed text belongs: moved elsewhere, it does not open."""

    kind: Sealable
    tenant: str
    """Empty for what belongs to none, or to a tenant by its name already."""
    name: str
    """Unique among its kind."""

    def encoded(self) -> bytes:
        """All parts, each behind its length, so that no two places read alike."""
        parts = [part.encode() for part in self]
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class _Key(NamedTuple):
    """What one secret of a `Sealer` gives."""

    aead: Aead
    mac_key: bytes
    """For nonces that are made of what is sealed."""


class Sealer:
    """Seals at rest: by the first of its keys, and opens by each of them."""

    __slots__ = ("_key_of", "_rings", "_secrets", "_seen", "_suite")

    def __init__(
        self,
        suite: Suite,
        secrets: Callable[[], Sequence[str]],
        key_of: Callable[[Suite, str], bytes],
    ) -> None:
        """
        Args:
            suite: seals; what another one sealed is opened as well.
            secrets: what the keys are made of, the one in force first.
            key_of: makes a key of `KEY_BYTES` of a secret, for a suite.
        """
        self._suite = suite
        self._secrets = secrets
        self._key_of = key_of
        self._seen: Sequence[str] = ()
        self._rings: dict[bytes, tuple[_Key, ...]] = {}

    def seal(self, place: Place, secret: bytes) -> bytes:
        """Version, nonce, then the encrypted secret; version and place are authenticated."""
        return self._sealed(place, secret, os.urandom(_NONCE_BYTES))

    def seal_alike(self, place: Place, secret: bytes) -> bytes:
        """As `seal`, and the same secret in the same place always gives the same bytes.

        The nonce is made of both (SIV, RFC 5297), so that none comes twice with another text;
        what is given away is whether a secret has changed.
        """
        said = place.encoded() + secret
        key = self._keys(self._suite)[0]
        nonce = self._suite.mac(key.mac_key, said)[:_NONCE_BYTES]
        return self._sealed(place, secret, nonce)

    def _sealed(self, place: Place, secret: bytes, nonce: bytes) -> bytes:
        version = self._suite.sealed_version
        data = version + place.encoded()
        return version + nonce + self._keys(self._suite)[0].aead.encrypt(nonce, secret, data)

    def unseal(self, place: Place, sealed: bytes) -> bytes:
        """The secret again.

        Raises:
            Unsealable: it is not what was sealed for this place with one of the keys.
        """
        for suite in self._suite.readers():
            if sealed.startswith(suite.sealed_version):
                return self._opened(suite, place, sealed, suite.sealed_version + place.encoded())
        raise Unsealable(f"the {place.kind} {place.name} was sealed by another suite")

    def unseal_former(self, place: Place, sealed: bytes) -> bytes:
        """What a version before this one sealed, with its name alone; only to seal it anew.

        Raises:
            Unsealable: it did not.
        """
        if not sealed.startswith(_FORMER_VERSION):
            raise Unsealable(f"the {place.kind} {place.name} was not sealed by an earlier version")
        return self._opened(INTERNATIONAL, place, sealed, place.name.encode())

    def _opened(self, suite: Suite, place: Place, sealed: bytes, data: bytes) -> bytes:
        at = len(_FORMER_VERSION) + _NONCE_BYTES
        for key in self._keys(suite):
            try:
                return key.aead.decrypt(sealed[len(_FORMER_VERSION) : at], sealed[at:], data)
            except (InvalidTag, ValueError):
                continue
        raise Unsealable(f"the {place.kind} {place.name} cannot be unsealed")

    def _keys(self, suite: Suite) -> tuple[_Key, ...]:
        secrets = self._secrets()
        if secrets is not self._seen:
            self._rings = {}
            self._seen = secrets
        ring = self._rings.get(suite.sealed_version)
        if ring is None:
            keys = [self._key_of(suite, secret) for secret in secrets]
            ring = tuple(_Key(suite.aead(key), suite.mac(key, _NONCES)) for key in keys)
            self._rings[suite.sealed_version] = ring
        return ring


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
    sealed_version=b"\x02",
    digest=_sha256,
    mac=_hmac_sha256,
    keyed_digest=_keyed_blake2b,
    derive=_derive_blake2b,
    aead=AESGCM,
)


def _keyed_sm3(key: bytes, data: bytes) -> bytes:
    return gm.hmac_sm3(key, data)[:KEYED_DIGEST_BYTES]


def _derive_sm3(secret: str, purpose: bytes) -> bytes:
    # No message that is signed with the same secret begins so.
    return gm.hmac_sm3(secret.encode(), b"key for " + purpose)


# SM3 (GB/T 32905), HMAC-SM3 (GB/T 15852.2), SM4-GCM (GB/T 32907, RFC 8998).
GM = Suite(
    name="gm",
    sealed_version=b"\x03",
    digest=gm.sm3,
    mac=gm.hmac_sm3,
    keyed_digest=_keyed_sm3,
    derive=_derive_sm3,
    aead=gm.Sm4Gcm,
    mark="sm3:",
)

SUITES = (INTERNATIONAL, GM)
DUAL = "dual"
"""The setting `crypto.suite` under which Ed25519 and SM2 both sign what outlives a suite, as
checkpoints of the audit log; for all else it is `INTERNATIONAL`."""


def suite_named(name: str) -> Suite:
    """The suite that a process writes with, by the setting `crypto.suite`."""
    return GM if name == GM.name else INTERNATIONAL


def suite_of_stored(text: str) -> Suite:
    """The suite of a stored digest."""
    return next((suite for suite in SUITES if suite.mark and text.startswith(suite.mark)),
                INTERNATIONAL)  # fmt: skip


def digest_of_stored(text: str) -> bytes:
    """The digest that is stored so.

    Raises:
        ValueError: it is none.
    """
    mark = suite_of_stored(text).mark
    return base64.urlsafe_b64decode(text.removeprefix(mark) + "=") if mark else bytes.fromhex(text)
