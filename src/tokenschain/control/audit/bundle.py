"""Audit bundle: segments of a time with what proves them, a tar file that is verified offline."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from sqlalchemy import Engine

from tokenschain.control.audit import cosigning, log, log_keys
from tokenschain.core.audit import merkle
from tokenschain.infra.database.engine import reading
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import Suite

VERSION = 1
SEGMENTS_AT_ONCE = 500
"""Headers in one file of the bundle; it is also what is held in memory."""


class NothingSealed(Exception):
    """There is no segment of the time that is asked for."""


class Exported(NamedTuple):
    """What a bundle holds: segments `first` to `until` - 1 of a log of `size`."""

    log: str
    first: int
    until: int
    size: int


def write(
    engine: Engine,
    suite: Suite,
    secret: NoteSecret,
    file: BinaryIO,
    from_ms: int,
    until_ms: int,
) -> Exported:
    """Write the segments that end after `from_ms`, up to the first that ends after `until_ms`.

    Raises:
        NothingSealed: there are none.
    """
    with reading(engine) as connection:
        note = log.latest_checkpoint(connection)
        if note is None:
            raise NothingSealed("nothing is sealed yet")
        stated = log.checkpoint_of(note)
        size = stated.size
        first = log.first_ending_after(connection, size, from_ms)
        until = min(size, log.first_ending_after(connection, size, until_ms) + 1)
        if first >= until:
            raise NothingSealed("no segment of that time is sealed")
        read = log.subtrees(connection, suite.digest)
        proof = merkle.inclusion_proof(suite.digest, until - 1, size, read)
        cosigned = cosigning.latest_cosigned(connection, stated.origin)
        key = log_keys.public_key(connection, secret, stated.origin)
        hand_overs = log_keys.hand_overs(connection, -1, size)
    found = Exported(stated.origin, first, until, size)
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "bundle.json", json.dumps({"v": VERSION, **found._asdict()}).encode())
        _add(tar, "key", key.encode() + b"\n")
        for number, one in enumerate(hand_overs):
            _add(tar, f"hand-overs/{number}", one.encode())
        _add(tar, "checkpoint", note.encode())
        _add(tar, "proof", "".join(f"{one.hex()}\n" for one in proof).encode())
        if cosigned is not None and first == 0 and log.checkpoint_of(cosigned).size <= until:
            _add(tar, "cosigned", cosigned.encode())
        for at in range(first, until, SEGMENTS_AT_ONCE):
            # Each part in a transaction of its own: what is sealed does not change.
            with reading(engine) as connection:
                part = log.read_segments(connection, at, min(until, at + SEGMENTS_AT_ONCE))
            _add_segments(tar, at, part)
    return found


def _add_segments(tar: tarfile.TarFile, first: int, part: Sequence[log.Segment]) -> None:
    _add(tar, f"headers/{first}", b"".join(one.header + b"\n" for one in part))
    for one in part:
        if one.records is not None:
            _add(tar, f"records/{one.number}", one.records)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
