"""Secrets and hashes of keys: generated once, files only the owner reads, resolved by reference."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path

from tokenschain.core.log_events import Reporter, silent
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.secret_files import CLEAR, KeyStore, SecretFile, SecretFileRefused
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite, Unsealable

API_KEY_PREFIX = "tc-"
SHOWN_CHARACTERS = 8
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class SecretMissing(Exception):
    """A referenced secret cannot be had; the text names the reference, not the secret."""


def master_sealer(file: SecretFile, suite: Suite) -> Sealer:
    """Seals with the key that a master key file stands for; opens by each that is in it."""
    # The file holds 256 random bits as text; the digest only makes them 32 bytes.
    return Sealer(suite, file, lambda suite, secret: suite.digest(secret.encode()))


class Vault:
    """Secrets sealed at rest, in files beside the key that seals them.

    The key is a file of its own, so that a copy of the sealed files alone is worth nothing;
    keep it on another medium (`master_key_file`) where that matters.
    """

    def __init__(
        self,
        folder: Path,
        key_file: Path,
        suite: Suite,
        store: KeyStore = CLEAR,
        report: Reporter = silent,
    ) -> None:
        """
        Args:
            report: see `SecretFile`.
        """
        self._folder = folder
        self._key_file = key_file
        self._suite = suite
        self._store = store
        self._report = report
        self._key: SecretFile | None = None
        self._made: Sealer | None = None

    def store(self, name: str, secret: str) -> None:
        """Seal a secret under a name; an older one is replaced at once."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(name)
        partial = path.with_suffix(f".{os.getpid()}.part")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, self._sealer().seal(_place(name), secret.encode()))
        finally:
            os.close(fd)
        os.replace(partial, path)

    def read(self, name: str) -> str:
        """The secret of a name.

        Raises:
            SecretMissing: there is none, or it was not sealed here.
        """
        try:
            return self._opened(name, self._path(name).read_bytes())
        except (OSError, Unsealable, SecretFileRefused) as error:
            raise SecretMissing(f"sealed:{name} cannot be read ({type(error).__name__})") from None

    def _opened(self, name: str, sealed: bytes) -> str:
        sealer = self._sealer()
        try:
            return sealer.unseal(_place(name), sealed).decode()
        except Unsealable:
            # By a version before: bound to its name, too, and sealed anew now.
            secret = sealer.unseal_former(_place(name), sealed).decode()
            self.store(name, secret)
            return secret

    def reseal(self) -> int:
        """Seal everything anew with the key in force; gives how many there are.

        Raises:
            SecretMissing: one of them cannot be read; those before it are sealed anew.
        """
        names = self.names()
        for name in names:
            self.store(name, self.read(name))
        return len(names)

    def names(self) -> list[str]:
        """The names of what is sealed."""
        return sorted(path.stem for path in self._folder.glob("*.sealed"))

    def fingerprints(self) -> tuple[str, ...]:
        """Those of the master keys that it opens with now; none where it was not needed yet."""
        return () if self._key is None else secret_files.fingerprints(self._key())

    def delete(self, name: str) -> bool:
        """Forget a secret; false when there was none."""
        found = self._path(name).exists()
        self._path(name).unlink(missing_ok=True)
        return found

    def open(self) -> None:
        """Have the master key now, not when a secret is needed first.

        Raises:
            SecretFileRefused: it cannot be had.
        """
        self._sealer()

    def _path(self, name: str) -> Path:
        if not SECRET_NAME.fullmatch(name):
            raise SecretMissing(f"{name[:40]!r} is no name for a secret: use A-Z a-z 0-9 . _ -")
        return self._folder / f"{name}.sealed"

    def _sealer(self) -> Sealer:
        # Made when it is needed first: who keeps no secrets here needs no key.
        if self._made is None:
            self._key = SecretFile(self._key_file, self._report, store=self._store)
            self._made = master_sealer(self._key, self._suite)
        return self._made


def _place(name: str) -> Place:
    return Place(Sealable.CREDENTIAL, "", name)


def resolve(reference: str, vault: Vault | None = None) -> str:
    """The secret behind `env:NAME`, `file:PATH` or `sealed:NAME`.

    Raises:
        SecretMissing: it is not there, empty, or in a file that is refused.
    """
    kind, _, name = reference.partition(":")
    if kind == "sealed" and vault is not None:
        value = vault.read(name)
    elif kind == "env":
        value = os.environ.get(name, "")
    elif kind == "file":
        try:
            value = secret_files.read_credential(Path(name))
        except FileNotFoundError:
            value = ""
        except SecretFileRefused as error:
            raise SecretMissing(str(error)) from None
    else:
        raise SecretMissing(f"`{kind}:` is no kind of secret reference")
    if not value:
        raise SecretMissing(f"{reference} holds no secret")
    return value


def new_token(prefix: str) -> str:
    """A fresh key or token: 256 random bits behind a recognisable prefix."""
    return prefix + secrets.token_urlsafe(32)


def new_api_key() -> str:
    """A fresh API key."""
    return new_token(API_KEY_PREFIX)


def new_id(kind: str) -> str:
    """A name for a new row, as `key_1f0c...`: unique, and no secret."""
    return f"{kind}_{secrets.token_hex(10)}"


def shown_part(key: str) -> str:
    """The part of a key that may be shown again."""
    return key[: len(API_KEY_PREFIX) + SHOWN_CHARACTERS]


def same(left: str, right: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())
