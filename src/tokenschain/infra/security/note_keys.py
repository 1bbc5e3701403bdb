"""Keys of signed notes: Ed25519 as C2SP `signed-note` and `tlog-cosignature` name them, and SM2
with SM3 under a type of our own, as `signed-note` leaves room for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tokenschain.core.audit.checkpoint import NoteKey, NoteSigner
from tokenschain.infra.security import prescribed
from tokenschain.infra.security.sm2 import Sm2Missing, Sm2PrivateKey, Sm2PublicKey
from tokenschain.infra.security.suite import DUAL, GM, INTERNATIONAL, Suite

_ED25519, _COSIGNATURE = b"\x01", b"\x04"
_SM2 = b"\xfftokenschain/sm2-sm3\n"
"""Type of a log's SM2 key: 0xff and a name, for want of a type of C2SP's (`signed-note`)."""
_SM2_COSIGNATURE = b"\xfftokenschain/sm2-sm3/cosignature\n"
_PURPOSE = b"audit log key"


class _Pair(NamedTuple):
    """A public key, and what signs with its private one."""

    public: bytes
    sign: Callable[[bytes], bytes]


class NoteSecret:
    """What a secret signs with; the same secret gives the same keys."""

    def __init__(
        self,
        suite: Suite,
        secret: str,
        signatures: str = INTERNATIONAL.name,
        former: Sequence[str] = (),
    ) -> None:
        """
        Args:
            suite: makes the Ed25519 key of the secret.
            signatures: `international` signs with Ed25519, `gm` with SM2, `dual` with both.
            former: secrets that signed before, for who hands the log over.
        """
        self._suite = suite
        self._secret = secret
        self._signatures = signatures
        self._former = tuple(former)
        self._pairs: dict[bytes, _Pair] = {}

    def signers(self, name: str) -> list[NoteSigner]:
        """Sign under this name, as a log; all of them sign each note."""
        return [self._signer(name, kind) for kind in self._log_kinds()]

    def signer(self, name: str) -> NoteSigner:
        """The first of `signers`: it names the log's key."""
        return self.signers(name)[0]

    def cosigner(self, name: str) -> NoteSigner:
        """Signs under this name, as a witness."""
        return self._signer(name, self._witness_kind())

    def public_key(self, name: str) -> str:
        """A log's public key as one line: `NAME+KEY_ID+KEY`, with a space between two of them."""
        return " ".join(self._line(name, kind) for kind in self._log_kinds())

    def witness_key(self, name: str) -> str:
        """A witness' public key as such a line."""
        return self._line(name, self._witness_kind())

    def signing_with(self, name: str, key_ids: frozenset[bytes]) -> NoteSecret | None:
        """What signs under this name with exactly these keys: itself, or what it was by another
        suite or with a former secret; None where it never did."""
        found = (
            NoteSecret(self._suite, secret, signatures)
            for secret in (self._secret, *self._former)
            for signatures in (INTERNATIONAL.name, GM.name, DUAL)
        )
        for one in (self, *found):
            try:
                if {signer.key_id for signer in one.signers(name)} == key_ids:
                    return one
            except Sm2Missing:
                continue
        return None

    def _log_kinds(self) -> Sequence[bytes]:
        return {GM.name: (_SM2,), DUAL: (_ED25519, _SM2)}.get(self._signatures, (_ED25519,))

    def _witness_kind(self) -> bytes:
        return _SM2_COSIGNATURE if self._signatures == GM.name else _COSIGNATURE

    def _signer(self, name: str, kind: bytes) -> NoteSigner:
        pair = self._pair(kind)
        return NoteSigner(name, _key_id(name, kind + pair.public), pair.sign)

    def _line(self, name: str, kind: bytes) -> str:
        raw = kind + self._pair(kind).public
        return f"{name}+{_key_id(name, raw).hex()}+{base64.b64encode(raw).decode()}"

    def _pair(self, kind: bytes) -> _Pair:
        pair = self._pairs.get(kind)
        if pair is None:
            pair = self._pairs[kind] = _PAIRS[kind](self._suite, self._secret)
        return pair


def _ed25519_pair(suite: Suite, secret: str) -> _Pair:
    private = Ed25519PrivateKey.from_private_bytes(suite.derive(secret, _PURPOSE))
    return _Pair(private.public_key().public_bytes_raw(), private.sign)


def _sm2_pair(_: Suite, secret: str) -> _Pair:
    seed = GM.derive(secret, _PURPOSE + b" 1") + GM.derive(secret, _PURPOSE + b" 2")
    private = Sm2PrivateKey.from_seed(seed)
    return _Pair(private.public_key().point(), private.sign)


_PAIRS = {
    _ED25519: _ed25519_pair, _COSIGNATURE: _ed25519_pair,
    _SM2: _sm2_pair, _SM2_COSIGNATURE: _sm2_pair,
}  # fmt: skip


def note_key(line: str) -> NoteKey:
    """The key of a log, of a line `NAME+KEY_ID+KEY`.

    Raises:
        ValueError: it is no such line, its parts do not belong together, or it is an SM2 key and
            this machine has no SM2.
    """
    return _parsed(line, _ED25519, _SM2)


def witness_key(line: str) -> NoteKey:
    """The key of a witness.

    Raises:
        ValueError: see `note_key`.
    """
    return _parsed(line, _COSIGNATURE, _SM2_COSIGNATURE)


def _parsed(line: str, ed25519: bytes, sm2: bytes) -> NoteKey:
    name, _, rest = line.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
        if _key_id(name, raw).hex() != key_id:
            raise ValueError
        verify: Callable[[bytes, bytes], bool]
        if raw.startswith(sm2):
            verify = Sm2PublicKey(raw.removeprefix(sm2)).is_signed
        elif raw.startswith(ed25519):
            verify = _verifier(Ed25519PublicKey.from_public_bytes(raw.removeprefix(ed25519)))
        else:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError("no public key of the form NAME+KEY_ID+KEY") from None
    except Sm2Missing as error:
        raise ValueError(str(error)) from None
    return NoteKey(name, bytes.fromhex(key_id), verify)


def _verifier(key: Ed25519PublicKey) -> Callable[[bytes, bytes], bool]:
    def verify(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify


def _key_id(name: str, raw: bytes) -> bytes:
    return prescribed.sha256(f"{name}\n".encode() + raw)[:4]
