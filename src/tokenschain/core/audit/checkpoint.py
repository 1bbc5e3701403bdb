"""Checkpoint: size and root of a log in a signed note (C2SP `tlog-checkpoint`, `signed-note`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import NamedTuple

BYTES_MAX = 16_384
SIGNATURES_MAX = 16
SIZE_MAX = 2**63 - 1
DASH = "\N{EM DASH} "
"""Before each signature of a note."""
_KEY_ID_BYTES = 4
_DIGITS, _GROUP = 40, 5


class BadCheckpoint(ValueError):
    """A text that is no checkpoint, or not signed as asked; the text says why."""


class Checkpoint(NamedTuple):
    """What a log says of itself at one moment."""

    origin: str
    """Name of the log."""
    size: int
    """How many leaves, which are segments, it has."""
    root: bytes


class NoteKey(NamedTuple):
    """A key that notes are signed with: how a line of a signature names it, and what it checks."""

    name: str
    key_id: bytes
    """Four bytes; of the name and the public key."""
    verify: Callable[[bytes, bytes], bool]
    """(message, signature)."""


class NoteSigner(NamedTuple):
    """What signs notes."""

    name: str
    key_id: bytes
    sign: Callable[[bytes], bytes]


def body_of(checkpoint: Checkpoint) -> str:
    """The text that is signed."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def fingerprint(digest: Callable[[bytes], bytes], checkpoint: Checkpoint) -> str:
    """What two people compare a checkpoint by, over the telephone: 40 digits, which are some 132
    bits of the digest of what is signed."""
    number = int.from_bytes(digest(body_of(checkpoint).encode()), "big") % 10**_DIGITS
    digits = f"{number:0{_DIGITS}}"
    return " ".join(digits[at : at + _GROUP] for at in range(0, _DIGITS, _GROUP))


def signed(checkpoint: Checkpoint, *signers: NoteSigner) -> str:
    """A checkpoint as a note that each of these has signed."""
    return signed_text(body_of(checkpoint), *signers)


def signed_text(body: str, *signers: NoteSigner) -> str:
    """A text of whole lines as a note that each of these has signed."""
    lines = [
        f"{DASH}{signer.name} "
        + base64.b64encode(signer.key_id + signer.sign(body.encode())).decode()
        for signer in signers
    ]
    return "\n".join((body, *lines, ""))


def opened(note: str, keys: Sequence[NoteKey]) -> Checkpoint:
    """The checkpoint of a note that each of these keys has signed; other lines are passed over.

    Raises:
        BadCheckpoint: it is none, or one of the signatures is missing or wrong.
    """
    return _parsed(opened_text(note, keys))


def opened_text(note: str, keys: Sequence[NoteKey]) -> str:
    """The text of a note that each of these keys has signed.

    Raises:
        BadCheckpoint: see `opened`.
    """
    if len(note) > BYTES_MAX:
        raise BadCheckpoint(f"more than {BYTES_MAX} characters")
    body, gap, lines = note.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise BadCheckpoint("no signed note")
    body += "\n"
    signatures = [_signature(line) for line in lines[:-1].split("\n")[: SIGNATURES_MAX + 1]]
    if len(signatures) > SIGNATURES_MAX:
        raise BadCheckpoint(f"more than {SIGNATURES_MAX} signatures")
    for key in keys:
        found = [s for name, key_id, s in signatures if (name, key_id) == (key.name, key.key_id)]
        if not found:
            raise BadCheckpoint(f"not signed by {key.name}+{key.key_id.hex()}")
        if not all(key.verify(body.encode(), one) for one in found):
            raise BadCheckpoint(f"the signature of {key.name}+{key.key_id.hex()} is wrong")
    return body


def signed_by(note: str, keys: Sequence[NoteKey]) -> str:
    """A note with the signatures of these keys alone, so that nothing else is carried on."""
    body, _, lines = note.rpartition("\n\n")
    wanted = {(key.name, key.key_id) for key in keys}
    own = [line for line in lines[:-1].split("\n") if _signature(line)[:2] in wanted]
    return f"{body}\n\n" + "".join(f"{line}\n" for line in own)


def signers_of(note: str, name: str) -> frozenset[bytes]:
    """The keys under this name that a note has lines of; whether they are right is not asked."""
    signatures = map(_signature, note.rpartition("\n\n")[2][:-1].split("\n"))
    return frozenset(key_id for by, key_id, _ in signatures if by == name)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(DASH).partition(" ")
    data = _decoded(encoded)
    if not line.startswith(DASH) or not name or len(data) <= _KEY_ID_BYTES:
        raise BadCheckpoint("a line that is no signature")
    return name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:]


def _parsed(body: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) < 4 or not lines[0] or not all(lines[:-1]):
        raise BadCheckpoint("fewer than three lines, or an empty one")
    origin, size, encoded_root = lines[:3]
    if not (size.isascii() and size.isdigit()) or len(size) > 19 or str(int(size)) != size:
        raise BadCheckpoint("a size that is no number")
    if int(size) > SIZE_MAX:
        raise BadCheckpoint("a size beyond 63 bits")
    return Checkpoint(origin, int(size), _decoded(encoded_root))


def _decoded(encoded: str) -> bytes:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadCheckpoint("what is no base64") from None
    if base64.b64encode(data).decode() != encoded:  # one text for each value
        raise BadCheckpoint("base64 that is not the only one")
    return data
