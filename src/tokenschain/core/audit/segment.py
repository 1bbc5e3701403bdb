"""Segment of the audit log: its header, and the tree over its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tokenschain.core.audit import canonical_json, merkle
from tokenschain.core.audit.canonical_json import NotCanonical
from tokenschain.core.audit.merkle import Digest

RECORDS_PER_SEGMENT = 5_000
"""As many are sealed at once, when so many wait."""
RECORDS_MAX = 65_536
"""Of one segment; a verifier refuses more."""
HEADER_BYTES_MAX = 65_536
GATEWAYS_MAX = 256
"""Named in one header; the records of more are counted under an empty name."""
RANGES_MAX = 1_000
"""Of numbers of calls in one header; gateways whose ranges do not fit are left out."""
FIRST_PREVIOUS = ""
"""What stands for the header before the first."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is a leaf of the log's tree: which records a segment has, and what came before it."""

    v: int
    log: str
    """Name of the log; its checkpoints have it as their origin."""
    number: int
    """From 0, without gaps: the index of the leaf."""
    first_sequence: int
    """Number of the first record in the whole log, also where the segment has none."""
    count: int
    from_ms: int
    """Where the segment before ended; Unix time."""
    until_ms: int
    """When it was sealed; never before `from_ms`."""
    gateways: dict[str, int]
    """How many records of calls came from each gateway process; see `gateway_label`."""
    root: str
    """Of the tree over the records, in hex."""
    previous: str
    """Digest of the header before, as a leaf; in hex."""
    suite: str
    """Whose digest the segment has: a verifier takes no other."""
    key_id: str
    """Of the first key that signed the checkpoint, in hex."""
    sequences: dict[str, list[int]] = {}
    """Which calls of each gateway process, by the numbers that it gave them: first and last of a
    range, first and last of the next. Since version 2."""


VERSION = 2
_to_header = msgspec.json.Decoder(Header).decode


class Position(NamedTuple):
    """Where the next segment of a log goes on."""

    log: str
    number: int
    first_sequence: int
    from_ms: int
    previous: str


def next_position(digest: Digest, header: Header, encoded: bytes) -> Position:
    """What comes after a segment."""
    return Position(
        header.log,
        header.number + 1,
        header.first_sequence + header.count,
        header.until_ms,
        merkle.leaf_digest(digest, encoded).hex(),
    )


def sealed_header(
    digest: Digest,
    at: Position,
    records: Sequence[bytes],
    until_ms: int,
    gateways: Mapping[str, int],
    suite: str,
    key_id: str,
    sequences: Mapping[str, Iterable[int]] | None = None,
) -> Header:
    """The header of a segment that holds these records.

    Args:
        sequences: the numbers of each gateway's calls.
    """
    return Header(
        v=VERSION,
        log=at.log,
        number=at.number,
        first_sequence=at.first_sequence,
        count=len(records),
        from_ms=at.from_ms,
        until_ms=until_ms,
        gateways=_bounded(gateways),
        root=records_root(digest, records).hex(),
        previous=at.previous,
        suite=suite,
        key_id=key_id,
        sequences=_bounded_ranges(sequences or {}),
    )


def encode(header: Header) -> bytes:
    """A header as canonical JSON."""
    fields = msgspec.structs.asdict(header)
    if header.v == 1:
        del fields["sequences"]
    return canonical_json.encode(fields)


def decode(data: bytes) -> Header:
    """A header again.

    Raises:
        NotCanonical: the bytes are none, or not canonical.
    """
    canonical_json.decode(data)
    try:
        header = _to_header(data)
    except msgspec.ValidationError as error:
        raise NotCanonical(str(error)) from None
    if not 1 <= header.v <= VERSION or encode(header) != data:
        raise NotCanonical(f"no header of version {header.v}")
    if not 0 <= header.count <= RECORDS_MAX:
        raise NotCanonical(f"{header.count} records in a segment")
    return header


def gateway_label(digest: Digest, name: str) -> str:
    """What stands for a gateway in headers, which are shown to tenants."""
    return digest(name.encode()).hex()[:16]


def ranges_of(numbers: Iterable[int]) -> list[int]:
    """First and last of each range that numbers make up."""
    found: list[int] = []
    for number in sorted(numbers):
        if found and found[-1] == number - 1:
            found[-1] = number
        else:
            found += [number, number]
    return found


def records_root(digest: Digest, records: Sequence[bytes]) -> bytes:
    """The root of the tree over a segment's records."""
    return merkle.root(digest, len(records), record_subtrees(digest, records))


def record_subtrees(digest: Digest, records: Sequence[bytes]) -> merkle.Subtrees:
    """The tree over a segment's records, in memory."""
    return merkle.subtrees_of(digest, [merkle.leaf_digest(digest, one) for one in records])


def problem_after(digest: Digest, before: tuple[Header, bytes] | None, header: Header) -> str:
    """Why a header is not what comes after another; empty where it is.

    Args:
        before: the header and its bytes; None: this is the first of the log.
    """
    if before is None:
        expected: dict[str, Any] = {"number": 0, "first_sequence": 0, "previous": FIRST_PREVIOUS}
    else:
        at = next_position(digest, *before)
        expected = at._asdict()
    for name, value in expected.items():
        if getattr(header, name) != value:
            return f"{name} is {getattr(header, name)!r} and not {value!r}"
    if header.until_ms < header.from_ms:
        return "it ends before it begins"
    return ""


def _bounded(gateways: Mapping[str, int]) -> dict[str, int]:
    names = sorted(gateways)
    found = {name: gateways[name] for name in names[:GATEWAYS_MAX]}
    for name in names[GATEWAYS_MAX:]:
        found[""] = found.get("", 0) + gateways[name]
    return found


def _bounded_ranges(sequences: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    left = RANGES_MAX
    for name in sorted(sequences)[:GATEWAYS_MAX]:
        ranges = ranges_of(sequences[name])
        if len(ranges) <= 2 * left:
            found[name] = ranges
            left -= len(ranges) // 2
    return found
