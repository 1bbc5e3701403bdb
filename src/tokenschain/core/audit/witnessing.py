"""Witness of a log: the request to cosign a checkpoint, and when it is refused (C2SP
`tlog-witness`); cosignatures (C2SP `tlog-cosignature`, version 1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from tokenschain.core.audit import checkpoint, merkle
from tokenschain.core.audit.checkpoint import BadCheckpoint, Checkpoint, NoteKey, NoteSigner
from tokenschain.core.audit.merkle import Digest

REQUEST_BYTES_MAX = 32_768
SIZE_TYPE = "text/x.tlog.size"
_TIME_BYTES = 8


class NotCosigned(Exception):
    """A request that a witness refuses: the status of its answer, and the body."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body.strip()}")
        self.status = status
        self.body = body


class CosigningRequest(NamedTuple):
    """What a log asks of a witness."""

    old_size: int
    """Of the checkpoint that the witness cosigned last, as the log believes."""
    proof: list[bytes]
    note: str


def encode(asked: CosigningRequest) -> bytes:
    """A request as its body."""
    proof = "".join(f"{base64.b64encode(one).decode()}\n" for one in asked.proof)
    return f"old {asked.old_size}\n{proof}\n{asked.note}".encode()


def decode(body: bytes) -> CosigningRequest:
    """A request again.

    Raises:
        NotCosigned: it is none.
    """
    try:
        head, gap, note = body.decode().partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        if not gap or word != "old" or not size.isascii() or not size.isdigit() or len(size) > 19:
            raise ValueError
        if len(lines) > merkle.PROOF_DIGESTS_MAX or str(int(size)) != size:
            raise ValueError
        proof = [base64.b64decode(line, validate=True) for line in lines]
    except (ValueError, binascii.Error):
        raise NotCosigned(400, "no request to add a checkpoint\n") from None
    return CosigningRequest(int(size), proof, note)


def origin_of(note: str) -> str:
    """The log that a note says it is of."""
    return note.partition("\n")[0]


def accepted(
    digest: Digest, asked: CosigningRequest, keys: Sequence[NoteKey], before: Checkpoint | None
) -> Checkpoint:
    """The checkpoint of a request, where it goes on from the one that was cosigned before.

    Raises:
        NotCosigned: it does not, or is not signed by the log.
    """
    try:
        stated = checkpoint.opened(asked.note, keys)
    except BadCheckpoint as error:
        raise NotCosigned(403, f"{error}\n") from None
    if asked.old_size > stated.size:
        raise NotCosigned(400, "the old size is larger than the checkpoint's\n")
    known = before or Checkpoint(stated.origin, 0, digest(b""))
    if asked.old_size != known.size or (stated.size == known.size and stated.root != known.root):
        raise NotCosigned(409, f"{known.size}\n")
    if not merkle.is_consistent(
        digest, known.size, stated.size, known.root, stated.root, asked.proof
    ):
        raise NotCosigned(422, "the checkpoint does not begin as the one before\n")
    return stated


def cosignature(note: str, signer: NoteSigner, at_s: int) -> str:
    """The line that a witness adds to a note."""
    stamp = at_s.to_bytes(_TIME_BYTES, "big")
    signature = signer.sign(_message(note, at_s))
    encoded = base64.b64encode(signer.key_id + stamp + signature).decode()
    return f"{checkpoint.DASH}{signer.name} {encoded}\n"


def cosigned_at(note: str, lines: Sequence[str], key: NoteKey) -> int | None:
    """When a witness cosigned a note, by one of these lines; None where none of them is right."""
    for line in lines:
        name, _, encoded = line.strip().removeprefix(checkpoint.DASH).partition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        stamp, signature = data[4 : 4 + _TIME_BYTES], data[4 + _TIME_BYTES :]
        at_s = int.from_bytes(stamp, "big")
        if (name, data[:4]) == (key.name, key.key_id) and key.verify(
            _message(note, at_s), signature
        ):
            return at_s
    return None


def _message(note: str, at_s: int) -> bytes:
    body = note.partition("\n\n")[0]
    return f"cosignature/v1\ntime {at_s}\n{body}\n".encode()
