"""Witness: cosigns checkpoints of logs, and never two that contradict each other (C2SP
`tlog-witness`). It has a folder of its own, on another machine than the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tokenschain.core.audit import checkpoint, key_chain, witnessing
from tokenschain.core.audit.checkpoint import BadCheckpoint, Checkpoint, NoteKey
from tokenschain.core.audit.witnessing import NotCosigned
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret, note_key
from tokenschain.infra.security.suite import GM, INTERNATIONAL, Suite

_NAME, _KEY, _LOGS, _SUITE = "name", "key", "logs", "suite"


SUITE_NAMES = (INTERNATIONAL.name, GM.name)


class WitnessRefused(Exception):
    """The folder of a witness cannot be used; the text says why."""


def create(folder: Path, name: str, suite: str = INTERNATIONAL.name) -> None:
    """Make the folder of a witness, with a key.

    Args:
        suite: `international` cosigns with Ed25519, `gm` with SM2.

    Raises:
        WitnessRefused: there is one already, or the name is none.
    """
    if not name or any(letter.isspace() or letter == "+" for letter in name):
        raise WitnessRefused("a name has neither spaces nor `+`")
    if (folder / _NAME).exists():
        raise WitnessRefused(f"{folder} is a witness already")
    (folder / _LOGS).mkdir(parents=True, mode=0o700)
    secret_files.read_or_make(folder / _KEY)
    _write(folder / _SUITE, suite)
    _write(folder / _NAME, name)


def follow(suite: Suite, folder: Path, key: str, *, replaced: bool = False) -> None:
    """Have a witness cosign a log from now on.

    Args:
        key: the log's public key; two of the suite `dual`, which then both have to sign.
        replaced: it cosigns the log already, with another key: this one takes its place by the
            word of who administers the witness, and what it cosigned stays.

    Raises:
        WitnessRefused: it does already, or does not, or this is no log's key.
    """
    try:
        found = _keys(key)
    except ValueError as error:
        raise WitnessRefused(str(error)) from None
    name = found[0].name
    place = _place(suite, folder, name)
    if place.exists() is not replaced:
        raise WitnessRefused(f"{name} is " + ("not followed" if replaced else "followed already"))
    if not replaced:
        place.mkdir(mode=0o700)
        _write(place / "note", "")
    _write(place / "key", key.strip() + "\n")


class _FollowedLog(NamedTuple):
    keys: list[NoteKey]
    place: Path
    note: str
    """That was cosigned last, or nothing."""


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
            self._secret = NoteSecret(
                suite, secret_files.read(folder / _KEY)[0], _signatures(folder)
            )
            self._logs = {}
            for place in sorted((folder / _LOGS).iterdir()):
                keys = _keys((place / "key").read_text("utf-8"))
                note = (place / "note").read_text("utf-8")
                self._logs[keys[0].name] = _FollowedLog(keys, place, note)
        except (OSError, ValueError, secret_files.SecretFileRefused) as error:
            raise WitnessRefused(
                f"{error}: without all that it cosigned, a witness must not go on"
            ) from None

    def key(self) -> str:
        """Its public key, for the log and for who verifies."""
        return self._secret.witness_key(self.name)

    def notes(self) -> list[str]:
        """The last cosigned checkpoint of each log: what verifiers compare a log with."""
        return [one.note for one in self._logs.values() if one.note]

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
        stated = witnessing.accepted(self._suite.digest, asked, found.keys, _stated(found.note))
        keys = found.keys
        if (handed := _handed_over(asked.note)) is not None:
            # First: with both, a hand-over that is asked for again is signed as it has to be.
            keys = handed
            _write(found.place / "key", " ".join(key_chain.new_keys(asked.note)) + "\n")
        text = checkpoint.signed_by(asked.note, [*found.keys, *keys])
        signer = self._secret.cosigner(self.name)
        line = witnessing.cosignature(text, signer, int(self._clock()))
        _write(found.place / "note", text + line)
        self._logs[stated.origin] = _FollowedLog(keys, found.place, text + line)
        return line


def _handed_over(note: str) -> list[NoteKey] | None:
    """The keys that a hand-over names and that have signed it; None where a note is none."""
    try:
        new = key_chain.new_keys(note)
        if not new:
            return None
        keys = _keys(" ".join(new))
        if checkpoint.opened(note, keys).origin != keys[0].name:
            raise BadCheckpoint("the new key is of another log")
    except (BadCheckpoint, ValueError) as error:
        raise NotCosigned(403, f"{error}\n") from None
    return keys


def _keys(text: str) -> list[NoteKey]:
    found = [note_key(line) for line in text.split()] or [note_key("")]
    if len({one.name for one in found}) > 1:
        raise ValueError("keys of several logs")
    return found


def _signatures(folder: Path) -> str:
    try:
        found = (folder / _SUITE).read_text("utf-8").strip()
    except FileNotFoundError:  # made before there was another
        return INTERNATIONAL.name
    if found not in SUITE_NAMES:
        raise ValueError(f"a suite {found[:20]!r}, which is none of {', '.join(SUITE_NAMES)}")
    return found


def _stated(note: str) -> Checkpoint | None:
    """What was cosigned last; it was checked then."""
    return checkpoint.opened(note, []) if note else None


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
