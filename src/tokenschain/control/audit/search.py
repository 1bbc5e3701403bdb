"""Sealed audit log: look-ups of records, and proofs that they are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, select

from tokenschain.control.audit import log
from tokenschain.control.audit.log import Segment
from tokenschain.core.audit import merkle, records, segment
from tokenschain.core.audit.merkle import Digest
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.audit_tables import audit_segments
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import audit_events, ledger

RECORDS_READ_MAX = 50_000
"""For one page: where they hold little that is asked for, it is short and goes on."""
_SEGMENTS_AT_ONCE = 50
_EVENT_SEGMENTS_MAX = 600
"""That an event is looked for in: from when it happened on, as long as sealing may have waited."""
_to_object = msgspec.json.Decoder(dict[str, Any]).decode


class FoundRecord(NamedTuple):
    """A record of the log, and where it stands."""

    segment: Segment
    position: int
    line: bytes

    def row(self) -> dict[str, Any]:
        """As lists show it."""
        header = segment.decode(self.segment.header)
        record, part = records.split(self.line)
        fields = _to_object(record)
        return {
            "sequence": header.first_sequence + self.position,
            "segment": header.number,
            "position": self.position,
            "sealed_at_ms": header.until_ms,
            "id": fields["id"],
            "kind": fields["kind"],
            "tenant": fields["tenant"],
            "account": fields.get("account", ""),
            "project": fields.get("project", ""),
            "environment": fields.get("environment", ""),
            "record": fields,
            "platform": _to_object(part) if part else None,
        }

    def part(self) -> str | None:
        """What only the platform sees, byte for byte; None where there is no such part."""
        return records.split(self.line)[1].decode() or None


class RecordProof(NamedTuple):
    """What shows that a record is in the log; digests stand for all other records."""

    checkpoint: str
    header: bytes
    header_proof: list[bytes]
    position: int
    record: bytes
    record_proof: list[bytes]


def page(
    connection: Connection,
    page_: Page,
    tenant: str | None,
    kind: str | None,
    from_ms: int,
    until_ms: int | None,
    is_seen: Callable[[dict[str, Any]], bool],
) -> Rows:
    """One page of records in the order in which they were sealed.

    Args:
        tenant: of this one only; None: of all.
        kind: `call`, `content` or `event`; None: all.
        from_ms: sealed after that Unix time.
        until_ms: sealed until that Unix time; None: until now.
        is_seen: whether a row is for who asks; others are passed over.
    """
    size = log.size_of(connection)
    first, position = _start(page_, size, connection, from_ms)
    marks = [
        b'"%s":%s' % (name.encode(), msgspec.json.encode(value))
        for name, value in (("tenant", tenant), ("kind", kind))
        if value is not None
    ]
    rows: list[dict[str, Any]] = []
    read = 0
    for one in _following(connection, first, size):
        if until_ms is not None and segment.decode(one.header).until_ms > until_ms:
            return Rows(rows, None)
        lines = one.lines()
        for at in range(position, len(lines)):
            if all(mark in lines[at] for mark in marks):
                row = FoundRecord(one, at, lines[at]).row()
                of_it = tenant in (None, row["tenant"]) and kind in (None, row["kind"])
                if of_it and is_seen(row):
                    rows.append(row)
                    if len(rows) == page_.limit:
                        return Rows(rows, paging.cursor_of([one.number, at]))
        read, position = read + len(lines), 0
        if read >= RECORDS_READ_MAX:
            return Rows(rows, paging.cursor_of([one.number + 1, -1]))
    return Rows(rows, None)


def find(connection: Connection, event_id: str, at_ms: int | None = None) -> FoundRecord | None:
    """The call or event of an id; None where it is in no segment, or ledger and trail have
    forgotten when it was.

    Args:
        at_ms: when a call began, as its receipt says; None: the ledger is asked.
    """
    mark = b'"id":%s' % msgspec.json.encode(event_id)
    for one in _segments_of(connection, event_id, log.size_of(connection), at_ms):
        for position, line in enumerate(one.lines()):
            if mark in line and _to_object(records.split(line)[0]).get("id") == event_id:
                return FoundRecord(one, position, line)
    return None


def prove(connection: Connection, digest: Digest, entry: FoundRecord) -> RecordProof:
    """The proof of an entry below the latest checkpoint."""
    note = log.latest_checkpoint(connection)
    assert note is not None, "there is an entry"
    lines = [records.split(line)[0] for line in entry.segment.lines()]
    tree = segment.record_subtrees(digest, lines)
    return RecordProof(
        note,
        entry.segment.header,
        merkle.inclusion_proof(
            digest,
            entry.segment.number,
            log.checkpoint_of(note).size,
            log.subtrees(connection, digest),
        ),
        entry.position,
        lines[entry.position],
        merkle.inclusion_proof(digest, entry.position, len(lines), tree),
    )


def _start(page_: Page, size: int, connection: Connection, from_ms: int) -> tuple[int, int]:
    """Segment and position where a page begins."""
    if page_.after is None:
        return log.first_ending_after(connection, size, from_ms), 0
    if [type(value) for value in page_.after] != [int, int]:
        raise ApiError("invalid_value", "The cursor is of another list.", param="cursor")
    number, position = map(int, page_.after)
    return max(number, 0), max(position + 1, 0)


def _following(connection: Connection, first: int, size: int) -> Iterator[Segment]:
    """Segments that hold records, from one on."""
    c = audit_segments.c
    while True:
        query = (
            _READ.where(c.number >= first, c.number < size, c.records.is_not(None))
            .order_by(c.number)
            .limit(_SEGMENTS_AT_ONCE)
        )
        found = log.segments(connection, query)
        yield from found
        if len(found) < _SEGMENTS_AT_ONCE:
            return
        first = found[-1].number + 1


def _segments_of(
    connection: Connection, event_id: str, size: int, started_ms: int | None
) -> Iterator[Segment]:
    """Those that a call or event of this id may be in."""
    c = audit_segments.c
    if started_ms is None:
        call_id = event_id.removeprefix(records.CONTENT_MARK)
        query = select(ledger.c.started_ms).where(ledger.c.event_id == call_id)
        started_ms = connection.execute(query).scalar()
    if started_ms is not None:
        query = _READ.where(
            c.calls_from_ms <= started_ms, c.calls_until_ms >= started_ms, c.number < size
        )
    else:
        at_ms = connection.execute(
            select(audit_events.c.at_ms).where(audit_events.c.id == event_id)
        ).scalar()
        if at_ms is None:
            return
        first = log.first_ending_after(connection, size, at_ms - 1)
        last = min(size, first + _EVENT_SEGMENTS_MAX)
        query = _READ.where(c.number >= first, c.number < last, c.records.is_not(None))
    numbers = connection.execute(query.with_only_columns(c.number).order_by(c.number)).scalars()
    for number in numbers.all():
        yield from log.read_segments(connection, number, number + 1)


_READ: Select[Any] = select(
    audit_segments.c.number, audit_segments.c.header, audit_segments.c.records
)
