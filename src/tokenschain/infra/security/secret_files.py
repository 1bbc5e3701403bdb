"""Secret files: at least 32 characters, read by their owner only, several lines during a rotation.

The secret in the first line is in force: it signs and seals. Those in the lines below it are
accepted besides, so that processes may learn of a new one at different times.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tokenschain.infra.security import prescribed

CHARACTERS_MIN = 32
"""256 random bits in base64 have 43; what people write by themselves is seldom so long."""
SECRETS_MAX = 4
"""Lines of one file; a rotation needs two."""
REREAD_S = 1.0
"""How often a running process looks whether its file has changed."""
ASK_AGAIN_S = 30.0
"""After that a changed file that was of no use is read again: its key store may have been away."""
FINGERPRINT_CHARACTERS = 8
WRAPPED = "wrapped:"
"""Begins the lines that a key store wrapped; its name follows."""
_BYTES_MAX = 65_536
_COMMENT = "#"
_NOT_OWNERS = stat.S_IRWXG | stat.S_IRWXO
_BEYOND_GROUP_READ = _NOT_OWNERS & ~stat.S_IRGRP


class SecretFileRefused(Exception):
    """A secret file is weak or open to others; the text says what to do and holds no secret."""


class KeyStore(Protocol):
    """Wraps the secrets of a file, which by itself is worth nothing then."""

    def wrap(self, secret: str) -> str:
        """The line that stands in the file.

        Raises:
            SecretFileRefused: the store does not do it; the text says why.
        """

    def unwrap(self, line: str) -> str:
        """The secret of a line.

        Raises:
            SecretFileRefused: see `wrap`; or another store wrapped it, or none did.
        """


class _Clear:
    """The secrets stand in the file as they are."""

    def wrap(self, secret: str) -> str:
        """See `KeyStore`."""
        return secret

    def unwrap(self, line: str) -> str:
        """See `KeyStore`."""
        if line.startswith(WRAPPED):
            kind = line.removeprefix(WRAPPED).partition(":")[0]
            raise SecretFileRefused(f"the key store `{kind}` wrapped it: see `key_store.kind`")
        return line


CLEAR: KeyStore = _Clear()


def body_of(line: str, kind: str) -> str:
    """What a store of this kind wrote, without its mark.

    Raises:
        SecretFileRefused: another one wrote it, or the secret stands there in clear.
    """
    if not line.startswith(WRAPPED):
        raise SecretFileRefused(
            "the secret stands there in clear: `tokenschain crypto wrap` puts it under the key "
            f"store `{kind}`"
        )
    found, _, body = line.removeprefix(WRAPPED).partition(":")
    if found != kind:
        raise SecretFileRefused(f"it was wrapped by the key store `{found}`, and this is `{kind}`")
    return body


def read(path: Path, store: KeyStore = CLEAR) -> tuple[str, ...]:
    """The secrets of a file, the one in force first.

    Raises:
        FileNotFoundError: there is none.
        SecretFileRefused: it is too short, too long, or others may read or change it; or the store
            does not unwrap it.
    """
    lines = read_lines(path)
    try:
        found = tuple(store.unwrap(line) for line in lines)
    except SecretFileRefused as error:
        raise SecretFileRefused(f"{path}: {error}") from None
    if min(map(len, found)) < CHARACTERS_MIN:
        raise SecretFileRefused(
            f"{path} holds a secret of fewer than {CHARACTERS_MIN} characters: {_REMEDY}"
        )
    return found


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a file as they stand there, wrapped or not.

    Raises:
        FileNotFoundError, SecretFileRefused: see `read`.
    """
    lines = [line.strip() for line in _text_of(path).splitlines()]
    found = tuple(line for line in lines if line and not line.startswith(_COMMENT))
    if not found or len(found) > SECRETS_MAX:
        raise SecretFileRefused(f"{path} holds no secret, or more than {SECRETS_MAX}: {_REMEDY}")
    return found


def read_credential(path: Path) -> str:
    """A credential that somebody else made: one line, of any length that a file may have.

    Raises:
        FileNotFoundError: there is none.
        SecretFileRefused: it is no such file, or others may read or change it.
    """
    found = _text_of(path).strip()
    if not found.isprintable():
        raise SecretFileRefused(f"{path} holds more than one line of text")
    return found


def _text_of(path: Path) -> str:
    """What a file of secrets holds. A pipe or a device keeps nobody waiting: it is not read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name holds NUL"
        raise SecretFileRefused(f"{path} cannot be read: {why}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise SecretFileRefused(f"{path} is no file: put the secret into one")
        _check_access(path, found)
        text = os.read(fd, _BYTES_MAX + 1)
    finally:
        os.close(fd)
    if len(text) > _BYTES_MAX:
        raise SecretFileRefused(f"{path} has more than {_BYTES_MAX} bytes: {_REMEDY}")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise SecretFileRefused(f"{path} holds no text: {_REMEDY}") from None


def fingerprints(found: Sequence[str]) -> tuple[str, ...]:
    """What secrets are compared by where they must not be told: too short to find one with."""
    names = (prescribed.fingerprint(f"secret\0{one}".encode()) for one in found)
    return tuple(name[:FINGERPRINT_CHARACTERS] for name in names)


def note_of(path: Path) -> str:
    """What was noted in a file beside its secrets; empty where nothing was."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(_COMMENT):
            return line.removeprefix(_COMMENT).strip()
    return ""


_REMEDY = "put one random secret a line there, as `openssl rand -base64 32` makes them"


def check_access(path: Path) -> None:
    """Insist that nobody else reads or changes a file with a secret.

    Raises:
        FileNotFoundError: there is none.
        SecretFileRefused: others may, or it is another user's.
    """
    _check_access(path, path.stat())


def _check_access(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid():
        if mode & _NOT_OWNERS:
            raise SecretFileRefused(f"other users may reach {path}: chmod 600 {path}")
    # What root mounts for a group of one, as Kubernetes does, belongs to this process as well.
    elif found.st_uid != 0 or mode & _BEYOND_GROUP_READ:
        raise SecretFileRefused(
            f"{path} is another user's: chown it to the user that TokensChain runs as, "
            f"and chmod 600 {path}"
        )


def read_or_make(path: Path, store: KeyStore = CLEAR) -> tuple[str, ...]:
    """The secrets in a file, made with 256 random bits the first time.

    Raises:
        SecretFileRefused: see `read`.
    """
    try:
        return read(path, store)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = _written_aside(path, [store.wrap(new_secret())])
        try:
            os.link(partial, path)  # the first of several starters wins
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        return read(path, store)


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def write(path: Path, found: Sequence[str], note: str = "") -> None:
    """Put these secrets into a file, in one step for whoever reads it.

    Args:
        note: stands before the last one, in a line of its own that begins with `#`.

    Raises:
        SecretFileRefused: the file cannot be changed here.
    """
    try:
        lines = (*found[:-1], f"{_COMMENT} {note}", found[-1]) if note else found
        os.replace(_written_aside(path, lines), path)
    except OSError as error:
        raise SecretFileRefused(
            f"{path} cannot be changed: {error.strerror}; change it where it comes from"
        ) from None


def _written_aside(path: Path, lines: Sequence[str]) -> Path:
    partial = path.with_suffix(f".{os.getpid()}.part")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, "\n".join((*lines, "")).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    return partial


class _Remembering:
    """Asks a store once about each line: it may be far away."""

    def __init__(self, store: KeyStore) -> None:
        self.wrap = store.wrap
        self._unwrap = store.unwrap
        self._known: dict[str, str] = {}

    def unwrap(self, line: str) -> str:
        """See `KeyStore`."""
        if line not in self._known:
            if len(self._known) >= SECRETS_MAX:
                self._known.clear()
            self._known[line] = self._unwrap(line)
        return self._known[line]


class SecretFile:
    """The secrets of a file as they stand now: a rotation needs no restart.

    A key store may be far away: once a process works, it is asked in a thread, and what was read
    before is in force until it has answered.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[str, str], None] = lambda event, why: None,
        clock: Callable[[], float] = time.monotonic,
        store: KeyStore = CLEAR,
    ) -> None:
        """
        Args:
            report: told `secret_file_refused` when a changed file is of no use; what was read
                before stays in force.

        Raises:
            SecretFileRefused: see `read`.
        """
        self._path = path
        self._report = report
        self._clock = clock
        self._is_far = store is not CLEAR
        self._asking: threading.Thread | None = None
        self._store = _Remembering(store)
        self._secrets = read_or_make(path, self._store)
        self._seen = self._look()
        self._next_s = self._again_s = clock() + REREAD_S
        self._refused = ""
        """Why the file as it stands is of no use, as was reported."""

    def __call__(self) -> tuple[str, ...]:
        """The secrets, the one in force first; the same object until they change."""
        now = self._clock()
        if now >= self._next_s and (self._asking is None or not self._asking.is_alive()):
            self._next_s = now + REREAD_S
            seen = self._look()
            if seen != self._seen:
                self._seen, self._refused = seen, ""
                self._begin_reading(now)
            elif self._refused and now >= self._again_s:
                self._begin_reading(now)
        return self._secrets

    def _begin_reading(self, now_s: float) -> None:
        self._again_s = now_s + ASK_AGAIN_S
        if not self._is_far:
            self._reread()
            return
        self._asking = threading.Thread(target=self._reread, daemon=True)
        self._asking.start()

    def _reread(self) -> None:
        try:
            self._secrets = read(self._path, self._store)
            self._refused = ""
        except (OSError, SecretFileRefused) as error:
            if str(error) != self._refused:
                self._refused = str(error)
                self._report("secret_file_refused", self._refused)

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
