"""Keys of signed notes: Ed25519, named as C2SP `signed-note` and
`tlog-cosignature` name them."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tokenschain.core.audit.checkpoint import NoteKey, NoteSigner
from tokenschain.infra.security import prescribed
from tokenschain.infra.security.suite import Suite

_ED25519, _COSIGNATURE = b"\x01", b"\x04"
_PURPOSE = b"audit log key"


class NoteSecret:
    """What a secret signs with; the same secret gives the same key."""

    def __init__(self, suite: Suite, secret: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(suite.derive(secret, _PURPOSE))

    def signer(self, name: str) -> NoteSigner:
        """Signs under this name, as a log."""
        return self._signer(name, _ED25519)

    def cosigner(self, name: str) -> NoteSigner:
        """Signs under this name, as a witness."""
        return self._signer(name, _COSIGNATURE)

    def public_key(self, name: str) -> str:
        """A log's public key as one line: `NAME+KEY_ID+KEY`."""
        return self._line(name, _ED25519)

    def witness_key(self, name: str) -> str:
        """A witness' public key as such a line."""
        return self._line(name, _COSIGNATURE)

    def _signer(self, name: str, kind: bytes) -> NoteSigner:
        return NoteSigner(name, _key_id(name, kind + self._public()), self._private.sign)

    def _line(self, name: str, kind: bytes) -> str:
        raw = kind + self._public()
        return f"{name}+{_key_id(name, raw).hex()}+{base64.b64encode(raw).decode()}"

    def _public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()


def note_key(line: str) -> NoteKey:
    """The key of a log, of a line `NAME+KEY_ID+KEY`.

    Raises:
        ValueError: it is no such line, or its parts do not belong together.
    """
    return _parsed(line, _ED25519)


def witness_key(line: str) -> NoteKey:
    """The key of a witness.

    Raises:
        ValueError: see `note_key`.
    """
    return _parsed(line, _COSIGNATURE)


def _parsed(line: str, kind: bytes) -> NoteKey:
    name, _, rest = line.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raw = b""
    public = raw.removeprefix(kind)
    if len(raw) != 33 or len(public) != 32 or _key_id(name, raw).hex() != key_id:
        raise ValueError("no public key of the form NAME+KEY_ID+KEY")
    found = Ed25519PublicKey.from_public_bytes(public)

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            found.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return NoteKey(name, bytes.fromhex(key_id), verify)


def _key_id(name: str, raw: bytes) -> bytes:
    return prescribed.sha256(f"{name}\n".encode() + raw)[:4]
