"""Signed acts: what a person's own key signs of a request to the admin API, and how it is kept.

The record of the act has all of the signed text but the body, which stands there as a digest with a
salt that the platform does not keep: a body may name an end user, whom a digest alone would give
away. Who signs may keep both.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenschain.infra.security.suite import INTERNATIONAL

HEADER = "x-tc-signature"
SALT_BYTES = 16
_KIND = "tokenschain signed act v1"


class SignedAct(NamedTuple):
    """A request as a person signed it."""

    method: str
    target: str
    """Path and query, as they are sent; of a command of the machine, its words."""
    at_ms: int
    """When it was signed; Unix time."""
    body: str
    """See `body_digest`."""

    def text(self) -> bytes:
        """What is signed."""
        lines = (_KIND, self.method, self.target, str(self.at_ms), self.body)
        return "\n".join(lines).encode() + b"\n"


def key_id_of(public_key: str) -> str:
    """How a key is named."""
    return f"sgk_{INTERNATIONAL.hex_digest(public_key.encode())[:20]}"


def body_digest(salt: bytes, body: bytes) -> str:
    """What stands for a body: SHA-256 over salt and body, in hex."""
    return INTERNATIONAL.hex_digest(salt + body)
