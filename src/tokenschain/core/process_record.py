"""Process record: what the journal keeps of the beginning and end of a gateway process.

It goes the way of call records, into the sealed audit log alone: with it a gap in the numbers of a
gateway's calls can be told from a gateway that ended.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class ProcessRecord(msgspec.Struct, array_like=True, tag="process", frozen=True):
    """A gateway process that began or ended."""

    gateway: str
    at_ms: int
    """When this was noted; Unix time."""
    state: Literal["started", "stopped", "killed"]
    """`killed`: its successor found that it had not stopped."""
    last: int = 0
    """Number of its last call."""
    lost_from: int = 0
    """Its calls from this number to the last may be lost with its journal; 0: none is."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(ProcessRecord).decode
_HEAD = msgspec.msgpack.encode("process")


def is_process(payload: bytes) -> bool:
    """Whether a record of the journal is one of these, and no call record."""
    return payload[1 : 1 + len(_HEAD)] == _HEAD
