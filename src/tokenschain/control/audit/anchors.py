"""Anchors of the sealed audit log: its checkpoints, kept where nobody here can change them.

An anchor says that the log had a root at a time: who rewrites the log later contradicts it, also
with the signing key and without a witness.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit import admin_log, log
from tokenschain.core.audit import timestamp
from tokenschain.core.audit.timestamp import NoTimestamp
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import audit_anchors
from tokenschain.infra.egress import exchange
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.client import HttpClient, Waits

LOOK_S = 60.0
STALE_S = 86_400.0
"""Without a new anchor for so long there is an alert."""
ACTION = "audit:anchored"
_NONCE_BYTES = 8
_WAITS = Waits(connect_max_s=5.0, first_byte_max_s=30.0, total_max_s=30.0)

Kind = Literal["timestamp", "object"]


class NotAnchored(Exception):
    """A checkpoint was not kept; the text says why."""


class Evidence(NamedTuple):
    """What shows that a checkpoint was kept."""

    at_s: int
    """As the place says it; Unix time."""
    data: bytes
    """A time stamp's whole answer (DER), or where the object is, as JSON."""


class AnchorPlace(Protocol):
    """Where checkpoints are kept."""

    kind: Kind
    name: str
    """Its address; one of a name each."""

    async def keep(self, note: str, size: int) -> Evidence:
        """Keep a checkpoint of the log with so many segments.

        Raises:
            NotAnchored: it was not.
        """


class TimestampAuthority:
    """Has checkpoints time-stamped, by RFC 3161 over HTTP."""

    kind: Kind = "timestamp"

    def __init__(self, url: str, client: HttpClient) -> None:
        self.name = url
        self._client = client

    async def keep(self, note: str, size: int) -> Evidence:
        """See `AnchorPlace`; what is stamped is the digest of the note's bytes."""
        digest = INTERNATIONAL.digest(note.encode())
        nonce = int.from_bytes(os.urandom(_NONCE_BYTES), "big")
        asked = timestamp.request(digest, nonce)
        headers = {"content-type": timestamp.REQUEST_TYPE, "accept": timestamp.REPLY_TYPE}
        try:
            reply, answer = await exchange(
                self._client, "POST", self.name, headers, asked, _WAITS, timestamp.REPLY_BYTES_MAX
            )
        except Exception as error:
            raise NotAnchored(f"{type(error).__name__} {error}".strip()) from error
        if reply.status != 200:
            raise NotAnchored(f"HTTP {reply.status}")
        try:
            return Evidence(timestamp.stated(answer, digest, nonce).at_s, answer)
        except NoTimestamp as error:
            raise NotAnchored(str(error)) from None


class Anchor(NamedTuple):
    """A checkpoint that was kept."""

    id: str
    size: int
    """Segments of the log."""
    kind: Kind
    place: str
    at_s: int
    note: str
    evidence: bytes


class AnchoringJob:
    """Has the latest checkpoint kept by each place, again and again; says it when one does not."""

    def __init__(
        self,
        engine: Engine,
        places: Sequence[AnchorPlace],
        interval_s: float,
        report: Reporter,
        alert: Callable[[Engine, Mapping[str, object], float], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._places = places
        self._interval_s = interval_s
        self._report = report
        self._alert = alert
        self._clock = clock
        self._began_s = clock()
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(min(LOOK_S, self._interval_s))

    async def look(self) -> None:
        """Have the latest checkpoint kept by all that are due."""
        try:
            last = await asyncio.to_thread(self._last)
            await asyncio.gather(*(self._anchor(one, last) for one in self._places))
            await asyncio.to_thread(self._alert_stale)
        except SQLAlchemyError as error:
            self._report("chore_failed", db.first_line(error))

    def _last(self) -> dict[tuple[str, str], int]:
        with db.reading(self._engine) as connection:
            return last_anchored(connection)

    async def _anchor(self, place: AnchorPlace, last: Mapping[tuple[str, str], int]) -> None:
        since_s = self._clock() - last.get((place.kind, place.name), 0)
        if 0 <= since_s < self._interval_s:
            return
        found = await asyncio.to_thread(self._latest)
        if found is None:
            return
        note, size = found
        try:
            kept = await place.keep(note, size)
            anchor = Anchor(
                secrets.new_id("anc"), size, place.kind, place.name, int(self._clock()), note,
                kept.data,
            )  # fmt: skip
            await asyncio.to_thread(self._note, anchor, kept.at_s)
        except NotAnchored as error:
            if self._said.get(place.name) != str(error):
                self._report("audit_anchor_failed", str(error), place=place.name)
            self._said[place.name] = str(error)
        else:
            if self._said.pop(place.name, ""):
                self._report("audit_anchor_resumed", place=place.name)

    def _latest(self) -> tuple[str, int] | None:
        with db.reading(self._engine) as connection:
            note = log.latest_checkpoint(connection)
        return None if note is None else (note, log.checkpoint_of(note).size)

    def _note(self, anchor: Anchor, stated_s: int) -> None:
        """Keep an anchor, and have the log itself say that there is one."""
        digest = INTERNATIONAL.digest(anchor.evidence).hex()
        detail = {
            "size": anchor.size, "kind": anchor.kind, "stated_s": stated_s, "evidence": digest,
        }  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(insert(audit_anchors).values(**anchor._asdict()))
            admin_log.note(connection, admin_log.SYSTEM, ACTION, "", anchor.place, detail)

    def _alert_stale(self) -> None:
        now_s = self._clock()
        last = self._last()
        stale = [
            one.name for one in self._places
            if now_s - last.get((one.kind, one.name), self._began_s) > STALE_S
        ]  # fmt: skip
        if stale:
            why = "; ".join(f"{name}: {self._said.get(name, 'no answer')}" for name in stale)
            count = len(self._places) - len(stale)
            detail = {"count": count, "amount": len(self._places), "reason": why}
            self._alert(self._engine, detail, now_s)


def last_anchored(connection: Connection) -> dict[tuple[str, str], int]:
    """When each place, by kind and name, kept a checkpoint last; Unix time."""
    c = audit_anchors.c
    query = select(c.kind, c.place, func.max(c.at_s).label("at_s")).group_by(c.kind, c.place)
    return {(row.kind, row.place): int(row.at_s) for row in connection.execute(query)}


def listed(connection: Connection, count: int) -> list[Anchor]:
    """The latest anchors, the newest first."""
    c = audit_anchors.c
    query = select(audit_anchors).order_by(c.at_s.desc(), c.id).limit(count)
    return [_anchor_of(row) for row in connection.execute(query)]


def _anchor_of(row: Any) -> Anchor:
    fields = {name: getattr(row, name) for name in Anchor._fields}
    return Anchor(**fields | {"evidence": bytes(row.evidence)})
