"""Secrets: made once, kept in files only the owner reads, resolved by reference."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

API_KEY_PREFIX = "tc-"
SHOWN_CHARACTERS = 8


class SecretMissing(Exception):
    """A referenced secret cannot be had; the text names the reference, not the secret."""


def read_or_make(path: Path) -> str:
    """The secret in a file, made with 256 random bits the first time."""
    try:
        return _read(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = secrets.token_urlsafe(32)
        partial = path.with_suffix(f".{os.getpid()}.part")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, made.encode())
        finally:
            os.close(fd)
        try:
            os.link(partial, path)  # the first of several starters wins
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        return _read(path)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def resolve(reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`.

    Raises:
        SecretMissing: it is not there or empty.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
    elif kind == "file":
        try:
            value = _read(Path(name))
        except OSError:
            value = ""
    else:
        raise SecretMissing(f"`{kind}:` is no kind of secret reference")
    if not value:
        raise SecretMissing(f"{reference} holds no secret")
    return value


def new_api_key() -> str:
    """A fresh API key: 256 random bits behind a recognisable prefix."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What is stored of a key: its SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def shown_part(key: str) -> str:
    """The part of a key that may be shown again."""
    return key[: len(API_KEY_PREFIX) + SHOWN_CHARACTERS]


def sign(secret: str, body: bytes) -> str:
    """HMAC-SHA256 of a body, hex."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed_by(secret: str, body: bytes, signature: str) -> bool:
    """Whether the signature is right; constant time."""
    return hmac.compare_digest(sign(secret, body), signature)


def same(left: str, right: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())
