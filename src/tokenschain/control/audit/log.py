"""Sealed audit log: what waits becomes a segment, its header a leaf of the tree, the tree's root a
signed checkpoint."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tokenschain.control.audit import admin_log, log_keys, pending
from tokenschain.core.audit import checkpoint, key_chain, merkle, records, segment
from tokenschain.core.audit.checkpoint import Checkpoint
from tokenschain.core.audit.key_chain import HandOver
from tokenschain.core.audit.merkle import Digest, Subtrees
from tokenschain.core.audit.segment import Header, Position
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import (
    audit_checkpoints,
    audit_keys,
    audit_nodes,
    audit_pending,
    audit_segments,
)
from tokenschain.infra.database.tables import audit_events
from tokenschain.infra.security import secret_files, secrets
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import Suite

HOUR_MS = 3_600_000
IDLE_S = 60.0
STOPPED_S = 60.0
"""After so long without sealing there is an alert, and again."""
COMPRESSION = 1
_ROWS_MAX = 5_000
"""That one segment is made of: as many events as fill it."""
_NODES_KEPT_MAX = 4_096
_NOTHING_S = 3_600.0
_to_header = msgspec.json.Decoder(Header).decode
_NO_ORIGIN = Position("", 0, 0, 0, segment.FIRST_PREVIOUS)


class NotSealed(Exception):
    """The next segment cannot be made now; the text says why. What waits goes on waiting."""


class Sealed(NamedTuple):
    """A segment as it was written."""

    header: Header
    is_full: bool
    """Whether more may wait than went into it."""


class SegmentSealer:
    """Makes the segments of a log.

    Several controls may run one each: a number is given once, so that the second of two that make
    the same segment writes nothing.
    """

    def __init__(
        self,
        engine: Engine,
        suite: Suite,
        secret: NoteSecret,
        interval_s: float,
        clock: Callable[[], float] = time.time,
        idle_s: float = IDLE_S,
    ) -> None:
        """
        Args:
            idle_s: after so long a segment without records is sealed: a log that stands still can
                be told from one that was cut off.
        """
        self._engine = engine
        self._suite = suite
        self._secret = secret
        self._interval_ms = int(interval_s * 1e3)
        self._idle_ms = int(idle_s * 1e3)
        self._clock = clock
        self._nodes: dict[tuple[int, int], bytes] = {}

    def seal(self) -> Sealed | None:
        """Seal what waits; None where nothing does, or another control has done so a moment ago.

        The segment in which the log is handed over is the last that the old key signs.

        Raises:
            NotSealed: the clock ran back, or the log was sealed with another key or suite.
        """
        now_ms = int(self._clock() * 1e3)
        with db.reading(self._engine) as connection:
            at = self._next_position(connection, now_ms)
            waiting = _waiting(connection, self._suite.digest)
            key_ids = log_keys.ids_in_force(connection, at.log)
            is_known = log_keys.is_known(connection)
        if now_ms < at.from_ms:
            raise NotSealed(
                f"the clock is {(at.from_ms - now_ms) / 1e3:.1f} s behind the last segment"
            )
        signing = self._signing(at.log, key_ids)
        event = self._hand_over_event(at, signing, waiting)
        full = len(waiting.lines) >= segment.RECORDS_PER_SEGMENT
        due_ms = self._interval_ms // 2 if waiting.lines else self._idle_ms
        if now_ms - at.from_ms < due_ms and at.number and not full and not event:
            return None
        lines = [*waiting.lines, records.of_event(event)] if event else waiting.lines
        header = segment.sealed_header(
            self._suite.digest, at, [records.split(line)[0] for line in lines], now_ms,
            waiting.gateways, self._suite.name, signing.signer(at.log).key_id.hex(),
            waiting.sequences,
        )  # fmt: skip
        data = segment.encode(header)
        compressed = zlib.compress(b"\n".join(lines), COMPRESSION)
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(audit_segments).values(
                        number=header.number,
                        header=data,
                        records=compressed if lines else None,
                        calls_from_ms=waiting.calls_from_ms,
                        calls_until_ms=waiting.calls_until_ms,
                    )
                )
                if not is_known:
                    first = {"size": 0, "key": signing.public_key(at.log), "note": None}
                    connection.execute(insert(audit_keys).values(**first))
                root = self._grow(connection, header.number, data)
                stated = Checkpoint(at.log, header.number + 1, root)
                if event:
                    connection.execute(insert(audit_events).values(**event))
                    note = self._handed_over(connection, stated, signing)
                else:
                    note = checkpoint.signed(stated, *signing.signers(at.log))
                _keep_checkpoint(connection, header, note)
                _forget(connection, waiting.ids)
        except IntegrityError:
            return None
        return Sealed(header, full)

    def _next_position(self, connection: Connection, now_ms: int) -> Position:
        found = _header_bytes(connection, None)
        if found is None:
            name = "tokenschain.audit/" + secrets.new_id("log")
            return _NO_ORIGIN._replace(log=name, from_ms=now_ms)
        header = _to_header(found)
        if header.suite != self._suite.name:
            raise NotSealed(f"the log's suite is {header.suite}, and here it is {self._suite.name}")
        return segment.next_position(self._suite.digest, header, found)

    def _signing(self, origin: str, key_ids: frozenset[bytes]) -> NoteSecret:
        """What the next checkpoint is signed with: another one than shall sign those after it where
        the secret or the suite has changed."""
        signing = self._secret.signing_with(origin, key_ids) if key_ids else self._secret
        if signing is None:
            known = " ".join(sorted(one.hex() for one in key_ids))
            here = self._secret.signer(origin).key_id.hex()
            raise NotSealed(
                f"the log is signed with the key {known}, and here is {here}: give this control "
                "the same key file"
            )
        return signing

    def _hand_over_event(
        self, at: Position, signing: NoteSecret, waiting: _Waiting
    ) -> dict[str, object]:
        """The record that the log is handed over; none where it goes on as it is."""
        if signing is self._secret or len(waiting.lines) >= segment.RECORDS_MAX:
            return {}
        keys = {"old": signing.public_key(at.log), "new": self._secret.public_key(at.log)}
        target = self._secret.signer(at.log).key_id.hex()
        detail = {name: key.split() for name, key in keys.items()} | {"size": at.number + 1}
        return admin_log.event(admin_log.SYSTEM, key_chain.ACTION, "", target, detail)

    def _handed_over(self, connection: Connection, stated: Checkpoint, signing: NoteSecret) -> str:
        origin = stated.origin
        key = self._secret.public_key(origin)
        found = HandOver(stated, tuple(signing.public_key(origin).split()), tuple(key.split()))
        signers = {
            one.key_id: one
            for secret in (signing, self._secret)
            for one in secret.signers(origin)
        }  # fmt: skip
        note = key_chain.signed(found, *signers.values())
        connection.execute(insert(audit_keys).values(size=stated.size, key=key, note=note))
        return note

    def _grow(self, connection: Connection, number: int, header: bytes) -> bytes:
        """Enter a header as a leaf; returns the new root."""
        digest, nodes = self._suite.digest, self._nodes
        if len(nodes) > _NODES_KEPT_MAX:
            nodes.clear()
        read = subtrees(connection, digest)
        added: dict[tuple[int, int], bytes] = {}

        def known(level: int, position: int) -> bytes:
            place = level, position
            found = added.get(place) or nodes.get(place)
            if found is None:
                found = nodes[place] = read(level, position)
            return found

        leaf = merkle.leaf_digest(digest, header)
        completed = merkle.completed_by(digest, number, leaf, known)
        added |= {(level, position): found for level, position, found in completed}
        rows = [
            {"level": level, "position": position, "digest": found}
            for level, position, found in completed
            if level
        ]
        if rows:
            connection.execute(insert(audit_nodes), rows)
        return merkle.root(digest, number + 1, known)


# --- what waits ------------------------------------------------------------------------------


class _Waiting(NamedTuple):
    ids: list[str]
    lines: list[bytes]
    gateways: Counter[str]
    sequences: dict[str, list[int]]
    calls_from_ms: int | None
    calls_until_ms: int | None


def _waiting(connection: Connection, digest: Digest) -> _Waiting:
    """The records of the next segment, in the order in which they came."""
    c = audit_pending.c
    order = c.at_ms, c.id
    ids: list[str] = []
    count = 0
    for row in connection.execute(select(c.id, c.records_count).order_by(*order).limit(_ROWS_MAX)):
        if ids and count + row.records_count > segment.RECORDS_MAX:
            break
        ids.append(row.id)
        count += row.records_count
        if count >= segment.RECORDS_PER_SEGMENT:
            break
    lines: list[bytes] = []
    gateways: Counter[str] = Counter()
    sequences: dict[str, list[int]] = {}
    spans: list[int] = []
    if ids:
        query = select(audit_pending).where(c.id.in_(ids)).order_by(*order)
        for row in connection.execute(query):
            found = pending.read(row, digest)
            lines += found.lines
            gateways.update(found.gateways)
            for label, numbers in found.sequences.items():
                sequences.setdefault(label, []).extend(numbers)
            if found.calls_from_ms is not None and found.calls_until_ms is not None:
                spans += [found.calls_from_ms, found.calls_until_ms]
    first, last = (min(spans), max(spans)) if spans else (None, None)
    return _Waiting(ids, lines, gateways, sequences, first, last)


def _forget(connection: Connection, ids: Sequence[str]) -> None:
    if ids:
        gone = connection.execute(delete(audit_pending).where(audit_pending.c.id.in_(ids)))
        if gone.rowcount != len(ids):
            raise NotSealed("what waited is no longer there")


def _keep_checkpoint(connection: Connection, header: Header, note: str) -> None:
    if header.from_ms // HOUR_MS == header.until_ms // HOUR_MS:
        # Those that witnesses cosigned go on their own terms; see `cosigning.keep`.
        former = delete(audit_checkpoints).where(audit_checkpoints.c.size == header.number)
        connection.execute(former.where(~is_cosigned(header.log)))
    connection.execute(insert(audit_checkpoints).values(size=header.number + 1, note=note))


# --- reading ---------------------------------------------------------------------------------


def subtrees(connection: Connection, digest: merkle.Digest) -> Subtrees:
    """The log's tree as its rows have it."""

    def read(level: int, position: int) -> bytes:
        if level == 0:
            header = _header_bytes(connection, position)
            if header is None:
                raise LookupError(f"segment {position} is missing")
            return merkle.leaf_digest(digest, header)
        c = audit_nodes.c
        query = select(c.digest).where(c.level == level, c.position == position)
        found = connection.execute(query).scalar()
        if found is None:
            raise LookupError(f"node {level}/{position} is missing")
        return bytes(found)

    return read


def _header_bytes(connection: Connection, number: int | None) -> bytes | None:
    """The header of a segment; None for number: of the last one."""
    c = audit_segments.c
    query = select(c.header)
    if number is None:
        query = query.order_by(c.number.desc()).limit(1)
    else:
        query = query.where(c.number == number)
    found = connection.execute(query).scalar()
    return None if found is None else bytes(found)


class Segment(NamedTuple):
    """A sealed segment."""

    number: int
    header: bytes
    records: bytes | None
    """Compressed lines; None: there are none."""

    def lines(self) -> list[bytes]:
        """Its records, each with the platform's part; see `core.audit.records`."""
        return zlib.decompress(self.records).split(b"\n") if self.records is not None else []


def latest_checkpoint(connection: Connection) -> str | None:
    """The signed note of the whole log; None while nothing is sealed."""
    c = audit_checkpoints.c
    found = connection.execute(select(c.note).order_by(c.size.desc()).limit(1)).scalar()
    return None if found is None else str(found)


def is_cosigned(origin: str) -> ColumnElement[bool]:
    """Whether a stored checkpoint has a line that the log itself did not sign."""
    own = f"{checkpoint.DASH}{origin} "
    return func.replace(audit_checkpoints.c.note, own, "").contains(checkpoint.DASH)


def size_of(connection: Connection) -> int:
    """How many segments the latest checkpoint covers."""
    note = latest_checkpoint(connection)
    return 0 if note is None else checkpoint_of(note).size


def stated_at(engine: Engine, digest: Digest, size: int | None) -> Checkpoint:
    """What a checkpoint of this size says; None: the latest.

    Raises:
        LookupError: the log is not so long.
    """
    with db.reading(engine) as connection:
        note = latest_checkpoint(connection)
        if note is None:
            raise LookupError("nothing is sealed yet")
        latest = checkpoint_of(note)
        if size is None:
            return latest
        if size > latest.size:
            raise LookupError(f"the log has {latest.size} segments")
        return latest._replace(
            size=size, root=merkle.root(digest, size, subtrees(connection, digest))
        )


def checkpoint_of(note: str) -> Checkpoint:
    """What a stored note says; whether it is signed is for verifiers."""
    return checkpoint.opened(note, [])


def read_segments(connection: Connection, first: int, until: int) -> list[Segment]:
    """Segments `first` to `until` - 1."""
    c = audit_segments.c
    query = select(c.number, c.header, c.records).where(c.number >= first, c.number < until)
    return segments(connection, query.order_by(c.number))


def segments(connection: Connection, query: Select[Any]) -> list[Segment]:
    """Those of a query for number, header and records."""
    return [
        Segment(row.number, bytes(row.header), None if row.records is None else bytes(row.records))
        for row in connection.execute(query)
    ]


def first_ending_after(connection: Connection, size: int, at_ms: int) -> int:
    """The first segment that ends after a moment, by bisection: their times only rise."""
    first, last = 0, size
    while first < last:
        middle = (first + last) // 2
        header = _header_bytes(connection, middle)
        if header is not None and _to_header(header).until_ms <= at_ms:
            first = middle + 1
        else:
            last = middle
    return first


def waiting_count(connection: Connection) -> int:
    """How many records are in no segment yet."""
    return int(
        connection.execute(
            select(func.coalesce(func.sum(audit_pending.c.records_count), 0))
        ).scalar_one()
    )


# --- the job ---------------------------------------------------------------------------------


class SealingJob:
    """Seals the log, second by second; says once when that stops, and when it goes on."""

    def __init__(
        self,
        make: Callable[[], SegmentSealer | None],
        interval_s: float,
        report: Reporter,
        alert: Callable[[str], object] = lambda why: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            make: asked each time, since the key file may have changed; one that cannot be read
                keeps no control from starting. None: nothing is to be sealed.
            alert: told why it has stopped, after `STOPPED_S`.
        """
        self._make = make
        self._interval_s = interval_s
        self._report = report
        self._alert = alert
        self._monotonic = monotonic
        self._stopped = ""
        self._since_s = 0.0
        """When it stopped, by a clock that is not set back."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            sealing = await asyncio.to_thread(self.seal_waiting)
            await asyncio.sleep(self._interval_s if sealing else _NOTHING_S)

    def seal_waiting(self) -> bool:
        """Seal all that waits; false where nothing is to be sealed."""
        try:
            sealer = self._make()
            if sealer is None:
                return False
            while (sealed := sealer.seal()) is not None and sealed.is_full:
                pass
        except (NotSealed, LookupError, OSError, ValueError, SQLAlchemyError) as error:
            self._say(db.first_line(error) if isinstance(error, SQLAlchemyError) else str(error))
        except secret_files.SecretFileRefused as error:
            self._say(str(error))
        else:
            if self._stopped:
                self._stopped = ""
                self._report("audit_sealing_resumed")
        return True

    def _say(self, why: str) -> None:
        now_s = self._monotonic()
        if not self._stopped:
            self._report("audit_sealing_stopped", why)
            self._since_s = now_s
        self._stopped = why
        if now_s - self._since_s >= STOPPED_S:
            self._since_s = now_s
            try:
                self._alert(why)
            except SQLAlchemyError as error:  # the database may be why: it is in the log
                self._report("chore_failed", db.first_line(error))
