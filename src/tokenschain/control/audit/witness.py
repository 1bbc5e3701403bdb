"""Witness: cosigns checkpoints of logs, and never two that contradict each other (C2SP
`tlog-witness`). It has a folder of its own, on another machine than the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tokenschain.core.audit import checkpoint, witnessing
from tokenschain.core.audit.checkpoint import Checkpoint, NoteKey
from tokenschain.core.audit.witnessing import NotCosigned
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret, note_key
from tokenschain.infra.security.suite import Suite

_NAME, _KEY, _LOGS = "name", "key", "logs"


class WitnessRefused(Exception):
    """The folder of a witness cannot be used; the text says why."""


def create(folder: Path, name: str) -> None:
    """Make the folder of a witness, with a key.

    Raises:
        WitnessRefused: there is one already, or the name is none.
    """
    if not name or any(letter.isspace() or letter == "+" for letter in name):
        raise WitnessRefused("a name has neither spaces nor `+`")
    if (folder / _NAME).exists():
        raise WitnessRefused(f"{folder} is a witness already")
    (folder / _LOGS).mkdir(parents=True, mode=0o700)
    secret_files.read_or_make(folder / _KEY)
    _write(folder / _NAME, name)


def follow(suite: Suite, folder: Path, key: str) -> None:
    """Have a witness cosign a log from now on.

    Raises:
        WitnessRefused: it does already, or this is no log's key.
    """
    try:
        found = note_key(key)
    except ValueError as error:
        raise WitnessRefused(str(error)) from None
    place = _place(suite, folder, found.name)
    if place.exists():
        raise WitnessRefused(f"{found.name} is followed already")
    place.mkdir(mode=0o700)
    _write(place / "note", "")
    _write(place / "key", key.strip() + "\n")


class Witness:
    """Answers the logs that it follows. One process has its folder, and answers one after another.

    What it cosigned is on disk before it answers: who restores its folder from a backup makes it
    forget, and it then contradicts what the logs remember, which they report.
    """

    def __init__(self, suite: Suite, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """
        Raises:
            WitnessRefused: a part of the folder is missing.
        """
        self._suite = suite
        self._clock = clock
        try:
            self.name = (folder / _NAME).read_text("utf-8")
            self._secret = NoteSecret(suite, secret_files.read(folder / _KEY)[0])
            self._logs = {}
            for place in sorted((folder / _LOGS).iterdir()):
                key = note_key((place / "key").read_text("utf-8"))
                note = (place / "note").read_text("utf-8")
                self._logs[key.name] = (key, place, note)
        except (OSError, ValueError, secret_files.SecretFileRefused) as error:
            raise WitnessRefused(
                f"{error}: without all that it cosigned, a witness must not go on"
            ) from None

    def key(self) -> str:
        """Its public key, for the log and for who verifies."""
        return self._secret.witness_key(self.name)

    def notes(self) -> list[str]:
        """The last cosigned checkpoint of each log: what verifiers compare a log with."""
        return [note for _, _, note in self._logs.values() if note]

    def add_checkpoint(self, body: bytes) -> str:
        """Cosign a checkpoint; returns the line.

        Raises:
            NotCosigned: it is refused.
            OSError: it cannot be kept, and is not cosigned.
        """
        asked = witnessing.decode(body)
        found = self._logs.get(witnessing.origin_of(asked.note))
        if found is None:
            raise NotCosigned(404, "no log that this witness follows\n")
        key, place, note = found
        stated = witnessing.accepted(self._suite.digest, asked, key, _stated(note, key))
        text = checkpoint.signed_by(asked.note, key)
        signer = self._secret.cosigner(self.name)
        line = witnessing.cosignature(text, signer, int(self._clock()))
        cosigned = text + line
        _write(place / "note", cosigned)
        self._logs[stated.origin] = (key, place, cosigned)
        return line


def _stated(note: str, key: NoteKey) -> Checkpoint | None:
    return checkpoint.opened(note, [key]) if note else None


def _place(suite: Suite, folder: Path, origin: str) -> Path:
    return folder / _LOGS / suite.hex_digest(origin.encode())


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
