"""Rejected records: call records that could not be entered, kept with the reason to retry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, delete, func, select

from tokenschain.core import call_record
from tokenschain.core.call_record import CallRecord
from tokenschain.infra.database import paging
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import rejected_records
from tokenschain.infra.security import prescribed

REASON_CHARACTERS_MAX = 1_000
COUNTED_MAX = 10_000
"""Counting goes no further: so many are a fault of everything, whatever the number."""


class Rejected(NamedTuple):
    """A record that was set aside."""

    payload: bytes
    reason: str
    record: CallRecord | None
    """None where the payload is no record."""


def keep(engine: Engine, rejected: Sequence[tuple[bytes, str]]) -> None:
    """Set payloads aside, each with its reason; what is there already stays as it is."""
    rows = [
        {
            "payload_hash": prescribed.fingerprint(payload),
            "received_at_s": int(time.time()),
            "reason": call_record.fitting(reason, REASON_CHARACTERS_MAX),
            "payload": payload,
        }
        # In one order by all, so that two writers cannot wait for each other.
        for payload, reason in sorted(rejected)
    ]
    with engine.begin() as connection:
        for row in rows:
            connection.execute(
                upsert(engine, rejected_records)
                .values(**row)
                .on_conflict_do_nothing(index_elements=["payload_hash"])
            )


def count(connection: Connection) -> int:
    """How many wait, up to `COUNTED_MAX`."""
    some = select(rejected_records.c.payload_hash).limit(COUNTED_MAX).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def since(connection: Connection, from_s: int) -> tuple[int, str]:
    """How many were set aside from a Unix time on, up to `COUNTED_MAX`, and the reason of one."""
    some = (
        select(rejected_records.c.reason)
        .where(rejected_records.c.received_at_s >= from_s)
        .limit(COUNTED_MAX)
        .subquery()
    )
    found, reason = connection.execute(select(func.count(), func.min(some.c.reason))).one()
    return int(found), reason or ""


def page(connection: Connection, page_: Page) -> Rows:
    """One page, the latest first; the records' own fields beside the reasons."""
    order = (rejected_records.c.received_at_s, rejected_records.c.payload_hash)
    found = paging.read_page(connection, select(rejected_records), page_, order, newest=True)
    return found._replace(rows=[_shown(row) for row in found.rows])


def find(connection: Connection, name: str) -> Rejected | None:
    """A record by the name it has in lists."""
    row = connection.execute(
        select(rejected_records).where(rejected_records.c.payload_hash == name)
    ).first()
    if row is None:
        return None
    return Rejected(row.payload, row.reason, _read(row.payload))


def discard(connection: Connection, name: str) -> None:
    """Forget one: it was entered, or is given up."""
    connection.execute(delete(rejected_records).where(rejected_records.c.payload_hash == name))


def plain(record: CallRecord) -> dict[str, Any]:
    """A record as JSON shows it; numbers that JSON has not are null."""
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(_objects_of(record)))
    return shown


def _objects_of(one: object) -> object:
    if isinstance(one, msgspec.Struct):
        return {name: _objects_of(getattr(one, name)) for name in one.__struct_fields__}
    return [_objects_of(part) for part in one] if isinstance(one, list) else one


def _read(payload: bytes) -> CallRecord | None:
    try:
        return call_record.decode(payload)
    except msgspec.DecodeError:
        return None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    record = _read(row["payload"])
    shown = {
        "id": row["payload_hash"],
        "received_at_s": row["received_at_s"],
        "reason": row["reason"],
        "bytes": len(row["payload"]),
        "readable": record is not None,
    }
    if record is not None:
        for name, characters_max in _SHOWN.items():
            shown[name] = call_record.fitting(getattr(record, name), characters_max)
        shown["started_ms"] = record.started_ms
    return shown


_SHOWN = {
    name: call_record.CHARACTERS_MAX[name]
    for name in ("event_id", "tenant", "project", "key_id", "gateway", "model_asked", "upstream")
}
