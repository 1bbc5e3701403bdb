"""Asks witnesses to cosign the sealed log's checkpoints; what they sign is kept with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit import log, log_keys
from tokenschain.core.audit import merkle, segment, witnessing
from tokenschain.core.audit.checkpoint import BadCheckpoint, NoteKey
from tokenschain.core.audit.witnessing import CosigningRequest
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import audit_checkpoints
from tokenschain.infra.database.engine import reading
from tokenschain.infra.egress import exchange
from tokenschain.infra.security.note_keys import witness_key
from tokenschain.infra.security.suite import Suite
from tokenschain.wire.client import HttpClient, Waits

INTERVAL_S = 10.0
STALE_S = 600.0
"""A witness that cosigned nothing for so long does not count for the quorum."""
_PATH = "/add-checkpoint"
_ANSWER_BYTES_MAX = 4_096
_WAITS = Waits(connect_max_s=3.0, first_byte_max_s=10.0, total_max_s=10.0)
_REMEMBERED_MAX = 100


class WitnessAddress(NamedTuple):
    """A witness, and where it answers."""

    url: str
    key: NoteKey


def address_of(text: str) -> WitnessAddress:
    """A witness of the settings, `URL NAME+KEY_ID+KEY`.

    Raises:
        ValueError: it is none.
    """
    url, _, key = text.strip().partition(" ")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"a witness is `URL NAME+KEY_ID+KEY`: {text[:200]}")
    return WitnessAddress(url.rstrip("/"), witness_key(key))


class _Contradiction(Exception):
    """A witness has seen a log that is not this one."""


class _Failed(Exception):
    """A witness did not cosign."""


class CosigningJob:
    """Has the latest checkpoint cosigned, again and again. A witness that is down keeps nothing
    from being sealed."""

    def __init__(
        self,
        engine: Engine,
        suite: Suite,
        witnesses: Sequence[str],
        client: HttpClient,
        report: Reporter,
        interval_s: float = INTERVAL_S,
        *,
        quorum: int = 0,
        alert: Callable[[Engine, Mapping[str, object], float], object] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            quorum: of witnesses that must have cosigned lately; 0: all.

        Raises:
            ValueError: one of the witnesses is none.
        """
        self._engine = engine
        self._suite = suite
        self._witnesses = [address_of(one) for one in witnesses]
        self._client = client
        self._report = report
        self._interval_s = interval_s
        self._said: dict[str, str] = {}
        self._clock = clock
        self._alert = alert
        self._quorum = min(quorum or len(self._witnesses), len(self._witnesses))
        # From now on, so that a restart is no reason for an alert.
        self._cosigned_s = dict.fromkeys((one.key.name for one in self._witnesses), clock())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.ask_all()
            await asyncio.sleep(self._interval_s)

    async def ask_all(self) -> None:
        """Have the latest checkpoint cosigned by each witness."""
        await asyncio.gather(*(self._ask(one) for one in self._witnesses))
        now_s = self._clock()
        stale = [name for name, at_s in self._cosigned_s.items() if now_s - at_s > STALE_S]
        count = len(self._witnesses) - len(stale)
        if count < self._quorum:
            why = "; ".join(f"{name}: {self._said.get(name, '')}" for name in sorted(stale))
            detail = {"count": count, "amount": self._quorum, "reason": why}
            try:
                await asyncio.to_thread(self._alert, self._engine, detail, now_s)
            except SQLAlchemyError as error:
                self._report("chore_failed", db.first_line(error))

    async def _ask(self, witness: WitnessAddress) -> None:
        name = witness.key.name
        try:
            await self._cosign(witness)
        except _Contradiction as error:
            if self._is_news(name, why := str(error)):
                self._report("audit_witness_contradicts", why, witness=name)
        except (_Failed, LookupError, OSError) as error:
            if self._is_news(name, why := str(error) or type(error).__name__):
                self._report("audit_witness_failed", why, witness=name)
        else:
            self._cosigned_s[name] = self._clock()
            if self._said.pop(name, ""):
                self._report("audit_witness_resumed", witness=name)

    def _is_news(self, name: str, why: str) -> bool:
        is_news = self._said.get(name) != why
        self._said[name] = why
        return is_news

    async def _cosign(self, witness: WitnessAddress) -> None:
        notes, known = await asyncio.to_thread(self._due, witness.key)
        for one in notes:
            known = await self._cosign_one(witness, one, known, is_last=one is notes[-1])

    async def _cosign_one(
        self, witness: WitnessAddress, note: str, known: int, *, is_last: bool
    ) -> int:
        """Have a note cosigned; returns the size that the witness has cosigned then."""
        found = _Asked(note, log.checkpoint_of(note).size, known, witness.key.name)
        old = min(known, found.size)
        for _ in range(2):
            proof = await asyncio.to_thread(self._proof, old, found.size)
            asked = CosigningRequest(old, proof, found.note)
            status, said = await self._post(witness, witnessing.encode(asked))
            if status == 200:
                await asyncio.to_thread(self._keep, found, witness.key, said)
                return found.size
            if status == 403 and not is_last:
                return known  # it was told of a later key, and needs no hand-over up to that
            if status != 409:
                break
            if not said.strip().isdecimal():
                raise _Failed("409 without a size")
            if not is_last and int(said) >= found.size:
                return int(said)  # it knows of that hand-over
            old = self._go_on(found, old, int(said))
        if status == 422:
            raise _Contradiction("the log does not begin as the one that it cosigned")
        raise _Failed(f"HTTP {status} {said.strip()[:200]}")

    def _go_on(self, found: _Asked, old: int, size: int) -> int:
        """From where a witness is, to go on from there."""
        if size > found.size:
            raise _Contradiction(
                f"it cosigned {size} segments, and the log has {found.size}: it was cut off"
            )
        if size == old:
            raise _Contradiction(f"it cosigned another log of {size} segments")
        if size < found.known:
            # It is cosigned on from there all the same: what it forgot, the log has not.
            self._report(
                "audit_witness_contradicts",
                f"it cosigned {found.known} segments and says {size}: its state was put back",
                witness=found.witness,
            )
        return size

    async def _post(self, witness: WitnessAddress, body: bytes) -> tuple[int, str]:
        headers = {"content-type": "text/plain; charset=utf-8"}
        try:
            reply, answer = await exchange(
                self._client, "POST", witness.url + _PATH, headers, body, _WAITS,
                _ANSWER_BYTES_MAX,
            )  # fmt: skip
        except Exception as error:
            raise _Failed(f"{type(error).__name__} {error}".strip()) from error
        return reply.status, answer.decode("utf-8", "replace")

    def _due(self, key: NoteKey) -> tuple[list[str], int]:
        """The hand-overs that a witness may not know and the latest checkpoint, and what it
        cosigned last as the log has it."""
        with reading(self._engine) as connection:
            note = log.latest_checkpoint(connection)
            if note is None:
                return [], 0
            known = _known(connection, witnessing.origin_of(note), key)
            size = log.checkpoint_of(note).size
            # One that failed may have been put back to before a hand-over that it had cosigned.
            above = 0 if key.name in self._said else known
            return [*log_keys.hand_overs(connection, above, size - 1), note], known

    def _proof(self, old: int, new: int) -> list[bytes]:
        with reading(self._engine) as connection:
            read = log.subtrees(connection, self._suite.digest)
            return merkle.consistency_proof(self._suite.digest, old, new, read)

    def _keep(self, found: _Asked, key: NoteKey, said: str) -> None:
        lines = [line for line in said.split("\n") if line]
        right = [line for line in lines if witnessing.cosigned_at(found.note, [line], key)]
        if not right:
            raise _Failed("its cosignature is wrong")
        try:
            with self._engine.begin() as connection:
                keep(connection, found.note, found.size, right[0])
        except BadCheckpoint as error:
            raise _Failed(f"its cosignature cannot stand below a checkpoint: {error}") from None


class _Asked(NamedTuple):
    note: str
    size: int
    known: int
    """What the witness cosigned last, as the log has it."""
    witness: str


def keep(connection: Connection, note: str, size: int, line: str) -> None:
    """Keep a cosigned checkpoint: the latest, and the last of each hour.

    Raises:
        BadCheckpoint: with this line it would be none.
    """
    c = audit_checkpoints.c
    now = connection.execute(select(c.note).where(c.size == size)).scalar() or note
    body, _, lines = now.rpartition("\n\n")
    by = line.rpartition(" ")[0] + " "
    kept = [one for one in lines.split("\n") if one and not one.startswith(by)]
    text = "\n".join((f"{body}\n", *kept, line, ""))
    log.checkpoint_of(text)
    connection.execute(delete(audit_checkpoints).where(c.size == size))
    connection.execute(insert(audit_checkpoints).values(size=size, note=text))
    before = connection.execute(
        select(c.size)
        .where(c.size < size, log.is_cosigned(witnessing.origin_of(note)))
        .order_by(c.size.desc())
        .limit(1)
    ).scalar()
    if before is not None and _hour_of(connection, before) == _hour_of(connection, size):
        connection.execute(delete(audit_checkpoints).where(c.size == before))


def latest_cosigned(connection: Connection, origin: str) -> str | None:
    """The latest checkpoint of a log that a witness cosigned."""
    c = audit_checkpoints.c
    query = select(c.note).where(log.is_cosigned(origin)).order_by(c.size.desc()).limit(1)
    return connection.execute(query).scalar()


def _known(connection: Connection, origin: str, key: NoteKey) -> int:
    c = audit_checkpoints.c
    query = (
        select(c.size, c.note)
        .where(log.is_cosigned(origin))
        .order_by(c.size.desc())
        .limit(_REMEMBERED_MAX)
    )
    for row in connection.execute(query):
        lines = row.note.rpartition("\n\n")[2].split("\n")
        if witnessing.cosigned_at(row.note, lines, key) is not None:
            return int(row.size)
    return 0


def _hour_of(connection: Connection, size: int) -> int:
    (found,) = log.read_segments(connection, size - 1, size)
    return segment.decode(found.header).until_ms // log.HOUR_MS
