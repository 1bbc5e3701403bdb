"""Signatures of moderation packs over the file's bytes, in a file beside it: Ed25519, or SM2 with
SM3, or a line of each."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tokenschain.infra.security.sm2 import BadSm2, Sm2Missing, Sm2PrivateKey, Sm2PublicKey
from tokenschain.infra.security.suite import GM

SM2_MARK = "sm2:"
"""Before a public SM2 key of the settings."""
SIGNATURES_MAX = 8


def new_key(suite: str) -> tuple[bytes, str]:
    """A private key as PEM, of SM2 where the suite is `gm`, and the public one as settings name it.

    Raises:
        Sm2Missing: this machine has no SM2.
    """
    if suite == GM.name:
        pem = Sm2PrivateKey.generate().to_pem()
    else:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return pem, public_key_of(pem)


def public_key_of(private_pem: bytes) -> str:
    """The public key that belongs to a private one, as settings name it.

    Raises:
        ValueError: it is neither an Ed25519 nor an SM2 key.
    """
    private = _private(private_pem)
    if isinstance(private, Sm2PrivateKey):
        return SM2_MARK + base64.b64encode(private.public_key().point()).decode()
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def sign(data: bytes, private_pems: Sequence[bytes]) -> bytes:
    """The signatures of a pack, as its file has them: a line of each key.

    Raises:
        ValueError: a key is neither an Ed25519 nor an SM2 key.
    """
    keys = [_private(pem) for pem in private_pems]
    return b"".join(base64.b64encode(key.sign(data)) + b"\n" for key in keys)


def is_signed(data: bytes, signatures: bytes, public_keys: Iterable[str]) -> bool:
    """Whether one of these keys has signed the pack."""
    try:
        lines = signatures.split()[:SIGNATURES_MAX]
        found = [base64.b64decode(line, validate=True) for line in lines]
    except binascii.Error:
        return False
    return any(holds(key, data, one) for key in public_keys for one in found)


def is_public_key(text: str) -> bool:
    """Whether it is a public key as settings name it."""
    try:
        raw = base64.b64decode(text.removeprefix(SM2_MARK), validate=True)
        if text.startswith(SM2_MARK):
            Sm2PublicKey(raw)
        else:
            Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        return False
    return True


def holds(public_key: str, data: bytes, signature: bytes) -> bool:
    """Whether a key has signed just this."""
    try:
        raw = base64.b64decode(public_key.removeprefix(SM2_MARK))
        if public_key.startswith(SM2_MARK):
            return Sm2PublicKey(raw).is_signed(data, signature)
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, data)
    except (InvalidSignature, ValueError, Sm2Missing):
        return False
    return True


def _private(pem: bytes) -> Ed25519PrivateKey | Sm2PrivateKey:
    try:
        return Sm2PrivateKey.from_pem(pem)
    except BadSm2:
        pass
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"the key cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the key is neither an Ed25519 nor an SM2 key")
    return key
