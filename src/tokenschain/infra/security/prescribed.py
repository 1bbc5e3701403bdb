"""Hashes that a protocol or a stored name prescribes, whatever the process's suite."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path


def sha256(data: bytes) -> bytes:
    """SHA-256, as OAuth's proof key (RFC 7636, 4.2) asks for."""
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256, as receivers of webhooks and the robots of chat groups check it."""
    return hmac.digest(key, message, "sha256")


def hmac_sha1(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA1, as authenticators use it for one-time passwords (RFC 6238)."""
    return hmac.digest(key, message, "sha1")


def fingerprint(data: bytes) -> str:
    """SHA-256 in hex, as the name of a row or a file by its content.

    Names stay the same when the suite changes; nothing is trusted because of one.
    """
    return hashlib.sha256(data).hexdigest()


def fingerprint_of_file(path: Path) -> str:
    """The `fingerprint` of a file's content; raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
