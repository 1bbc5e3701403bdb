"""Learned state on disk: what false-hit control has learned survives a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec


class _File(msgspec.Struct):
    embedder: str
    """Cosines of another model would say something else."""
    state: bytes


def read(path: Path, embedder: str) -> bytes | None:
    """What was written last, for `Matcher.restore`; None where there is nothing for this embedder.

    Raises:
        OSError, msgspec.DecodeError: there is something, but it cannot be read.
    """
    try:
        found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return None
    return found.state if found.embedder == embedder else None


def write(path: Path, embedder: str, state: bytes) -> None:
    """Replace the file as a whole.

    Raises:
        OSError: it cannot be written; the last one is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.msgpack.encode(_File(embedder, state)))
    draft.replace(path)
