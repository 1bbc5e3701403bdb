"""Rotation of the secrets in a file: add, use, finish, each safe to wait after."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from tokenschain.infra.security import secret_files
from tokenschain.infra.security.secret_files import CLEAR, KeyStore, SecretFileRefused

NOTICED_S = 3 * secret_files.REREAD_S
"""Within this every running process that reads the file works with its change."""
_WAITS = "accepted, not in force yet"
_FORMER = "accepted, no longer in force"


class RotatedSecret(StrEnum):
    """What can be rotated."""

    MASTER = "master"
    INTERNAL = "internal"


def secrets_of(
    internal: Sequence[str], master_fingerprints: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """What a process reports of the secrets that it accepts."""
    found = {RotatedSecret.INTERNAL: secret_files.fingerprints(internal)}
    if master_fingerprints:
        found[RotatedSecret.MASTER] = master_fingerprints
    return {secret.value: names for secret, names in found.items()}


class Stage(StrEnum):
    """The stages of a rotation, in order. Between two, all machines get the changed file."""

    ADD = "add"
    """The new secret is accepted beside the one in force."""
    USE = "use"
    """The new one is in force, the old one still accepted; what is sealed is sealed anew."""
    FINISH = "finish"
    """The old one is forgotten."""


def new_fingerprint(path: Path, store: KeyStore = CLEAR) -> str | None:
    """Of the new secret of a rotation that is under way; None where none is."""
    found, note = secret_files.read(path, store), secret_files.note_of(path)
    names = secret_files.fingerprints(found)
    return {_WAITS: names[-1], _FORMER: names[0]}.get(note)


def is_in_use(path: Path) -> bool:
    """Whether the new secret of a rotation is in force already."""
    return secret_files.note_of(path) == _FORMER


def go(path: Path, stage: Stage, store: KeyStore = CLEAR) -> None:
    """Bring a secret file to a stage.

    Raises:
        SecretFileRefused: it does not stand where this stage begins, or cannot be changed.
    """
    found, note = secret_files.read_lines(path), secret_files.note_of(path)
    match stage:
        case Stage.ADD:
            if len(found) > 1:
                raise SecretFileRefused(f"a rotation of {path} is under way: go on with --stage")
            secret_files.write(path, (*found, store.wrap(secret_files.new_secret())), _WAITS)
        case Stage.USE:
            if note == _FORMER:
                return  # it is; what is sealed may not be yet
            if note != _WAITS or len(found) != 2:
                raise SecretFileRefused(f"{path} has no secret that waits: --stage add is first")
            secret_files.write(path, (found[1], found[0]), _FORMER)
        case Stage.FINISH:
            if note != _FORMER:
                raise SecretFileRefused(f"{path} has no former secret: --stage use is first")
            secret_files.write(path, found[:1])
