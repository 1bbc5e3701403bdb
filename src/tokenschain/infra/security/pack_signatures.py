"""Signatures of moderation packs: Ed25519 over the file's bytes, in a file beside it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def new_key() -> tuple[bytes, str]:
    """A private key as PEM, and the public one as settings name it."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, public_key_of(pem)


def public_key_of(private_pem: bytes) -> str:
    """The public key that belongs to a private one, as settings name it."""
    raw = _private(private_pem).public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )  # fmt: skip
    return base64.b64encode(raw).decode()


def sign(data: bytes, private_pem: bytes) -> bytes:
    """The signature of a pack, as its file has it.

    Raises:
        ValueError: the key is no Ed25519 key.
    """
    return base64.b64encode(_private(private_pem).sign(data)) + b"\n"


def is_signed(data: bytes, signature: bytes, public_keys: Iterable[str]) -> bool:
    """Whether one of these keys has signed the pack."""
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except binascii.Error:
        return False
    for key in public_keys:
        try:
            Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(raw, data)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _private(pem: bytes) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the key is no Ed25519 key")
    return key
