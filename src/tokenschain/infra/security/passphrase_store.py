"""Key store of a passphrase: secrets are sealed with a key made of it, by scrypt (RFC 7914) or, in
the suite `gm`, PBKDF2 with HMAC-SM3 (RFC 8018)."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tokenschain.infra.security.secret_files import WRAPPED, SecretFileRefused, body_of
from tokenschain.infra.security.suite import GM, INTERNATIONAL, KEY_BYTES, Suite

KIND = "passphrase"
CHARACTERS_MIN = 16
_SALT_BYTES, _NONCE_BYTES = 16, 12
# OWASP's password storage cheat sheet: scrypt with N = 2^17, r = 8, p = 1 (128 MiB for a moment);
# of PBKDF2 600,000 turns with SHA-256, which is a hash of the same size as SM3.
_SCRYPT_COST, _PBKDF2_TURNS = 131_072, 600_000
_COSTS_MAX = {INTERNATIONAL.name: 1_048_576, GM.name: 10_000_000}
"""Of a line that is read: others would keep a process busy for ever."""


class PassphraseStore:
    """See `secret_files.KeyStore`."""

    def __init__(self, suite: Suite, passphrase: str, cost: int | None = None) -> None:
        """
        Args:
            cost: scrypt's N or the turns of PBKDF2.

        Raises:
            SecretFileRefused: the passphrase is too short.
        """
        if len(passphrase) < CHARACTERS_MIN:
            raise SecretFileRefused(f"a passphrase has at least {CHARACTERS_MIN} characters")
        self._suite = suite
        self._passphrase = passphrase.encode()
        self._cost = cost or (_PBKDF2_TURNS if suite is GM else _SCRYPT_COST)

    def wrap(self, secret: str) -> str:
        """See `KeyStore`."""
        head = f"{WRAPPED}{KIND}:{self._suite.name}:{self._cost}:"
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        aead = self._suite.aead(self._key(self._suite, self._cost, salt))
        sealed = aead.encrypt(nonce, secret.encode(), head.encode())
        return head + base64.b64encode(salt + nonce + sealed).decode()

    def unwrap(self, line: str) -> str:
        """See `KeyStore`. What either suite wrapped is read."""
        body = body_of(line, KIND)
        name, _, rest = body.partition(":")
        cost_text, _, encoded = rest.partition(":")
        suite = {one.name: one for one in (INTERNATIONAL, GM)}.get(name)
        try:
            cost, data = int(cost_text), base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            suite = None
        if suite is None or not 1 < cost <= _COSTS_MAX[name]:
            raise SecretFileRefused("a line that the key store `passphrase` did not write")
        salt, nonce = data[:_SALT_BYTES], data[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
        head = line[: -len(encoded)].encode()
        try:
            aead = suite.aead(self._key(suite, cost, salt))
            return aead.decrypt(nonce, data[_SALT_BYTES + _NONCE_BYTES :], head).decode()
        except (InvalidTag, ValueError):
            raise SecretFileRefused("it is another passphrase, or the line was changed") from None

    def _key(self, suite: Suite, cost: int, salt: bytes) -> bytes:
        kdf: Scrypt | PBKDF2HMAC
        if suite is GM:
            kdf = PBKDF2HMAC(SM3(), KEY_BYTES, salt, cost)
        else:
            kdf = Scrypt(salt, KEY_BYTES, n=cost, r=8, p=1)
        return kdf.derive(self._passphrase)
