"""Rotation of the log's signing key: a hand-over is a checkpoint that the old key and the new one
sign, and that names both below its root, in extension lines (C2SP `tlog-checkpoint`)."""

from __future__ import annotations

from typing import NamedTuple

from tokenschain.core.audit import checkpoint
from tokenschain.core.audit.checkpoint import BadCheckpoint, Checkpoint, NoteSigner

MARK = "key-hand-over/v1"
ACTION = "audit:hand-over"
"""The event that is the last record of the last segment below the old key."""
KEYS_MAX = 2
"""On either side: of the suite `dual`."""
_OLD, _NEW = "old ", "new "


class HandOver(NamedTuple):
    """Who signs the log from a size on."""

    checkpoint: Checkpoint
    """The last that the old key signs."""
    old: tuple[str, ...]
    """Public keys, `NAME+KEY_ID+KEY`; two of the suite `dual`."""
    new: tuple[str, ...]
    """Of all checkpoints that are larger."""


def signed(found: HandOver, *signers: NoteSigner) -> str:
    """A hand-over as a note: a checkpoint for whoever knows nothing of hand-overs."""
    lines = [MARK, *(_OLD + key for key in found.old), *(_NEW + key for key in found.new)]
    body = checkpoint.body_of(found.checkpoint) + "".join(f"{line}\n" for line in lines)
    return checkpoint.signed_text(body, *signers)


def parsed(note: str) -> HandOver | None:
    """The hand-over that a note is; None where it is a checkpoint and no more. Whether it is signed
    is for who takes it.

    Raises:
        BadCheckpoint: it is neither.
    """
    body = checkpoint.opened_text(note, [])
    stated = checkpoint.opened(note, [])
    lines = body[:-1].split("\n")[3:]
    if lines[:1] != [MARK]:
        return None
    keys = {
        mark: tuple(line.removeprefix(mark) for line in lines[1:] if line.startswith(mark))
        for mark in (_OLD, _NEW)
    }
    if not (keys[_OLD] and keys[_NEW]) or len(lines) != 1 + sum(map(len, keys.values())):
        raise BadCheckpoint("no hand-over: it names no old key, or no new one")
    each_one = all(key.split() == [key] for of in keys.values() for key in of)
    if not each_one or max(map(len, keys.values())) > KEYS_MAX:
        raise BadCheckpoint(f"no hand-over: it names no keys, or more than {KEYS_MAX}")
    return HandOver(stated, keys[_OLD], keys[_NEW])


def new_keys(note: str) -> tuple[str, ...]:
    """The keys that a hand-over names for what follows it; of another checkpoint none.

    Raises:
        BadCheckpoint: see `parsed`.
    """
    found = parsed(note)
    return () if found is None else found.new


def key_ids(keys: tuple[str, ...]) -> frozenset[bytes]:
    """What lines of signatures name these keys by."""
    return frozenset(bytes.fromhex(key.split("+")[1]) for key in keys)
