"""Audit log, first step: records wait for their segment, written in the transaction they are of."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, insert

from tokenschain.core import call_record, process_record
from tokenschain.core.audit import records, segment
from tokenschain.core.audit.merkle import Digest
from tokenschain.core.call_record import CallRecord
from tokenschain.infra.database.audit_tables import audit_pending
from tokenschain.infra.security import secrets


def add_calls(
    connection: Connection, calls: Sequence[CallRecord], zones: Mapping[str, str]
) -> None:
    """Calls that were just entered into the ledger.

    Args:
        zones: of upstreams by id, and of moderation engines as they stand in costs, as far as
            they are known.
    """
    if not calls:
        return
    # Their lines are made when they are sealed: here the ledger waits for it.
    asked = {name for one in calls for name in _asked(one)}
    began = [one.started_ms for one in calls]
    _add(
        connection,
        len(calls),
        call_record.encode(calls),
        {name: zone for name, zone in zones.items() if name in asked},
        Counter(one.gateway for one in calls),
        (min(began), max(began)),
    )


def add_content(connection: Connection, line: bytes, began_ms: int) -> None:
    """The record of what was kept of a call.

    Args:
        began_ms: when the call did.
    """
    _add(connection, 1, line, None, {}, (began_ms, began_ms))


def add_event(connection: Connection, row: Mapping[str, Any]) -> None:
    """A row of `audit_events`."""
    _add(connection, 1, records.of_event(row), None, {}, (None, None))


def add_processes(engine: Engine, payloads: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """That gateway processes began or ended; one that ships its journal again says it twice.

    Returns those payloads that cannot be read, and why.
    """
    lines: list[bytes] = []
    rejected: list[tuple[bytes, str]] = []
    for payload in payloads:
        try:
            found = process_record.decode(payload)
        except msgspec.DecodeError as error:
            rejected.append((payload, str(error)))
        else:
            lines.append(records.of_process(secrets.new_id("gwy"), found))
    if lines:
        with engine.begin() as connection:
            _add(connection, len(lines), b"\n".join(lines), None, {}, (None, None))
    return rejected


class WaitingRecords(NamedTuple):
    """A row of what waits."""

    lines: list[bytes]
    gateways: dict[str, int]
    """How many are calls of each, by its label; see `segment.gateway_label`."""
    sequences: dict[str, list[int]]
    """The numbers of those calls."""
    calls_from_ms: int | None
    calls_until_ms: int | None


def read(row: Any, digest: Digest) -> WaitingRecords:
    """A row, its records as lines of a segment."""
    data = bytes(row.records)
    counts = msgspec.json.decode(row.gateways, type=dict[str, int])
    labels = {name: segment.gateway_label(digest, name) for name in counts}
    gateways = {labels[name]: count for name, count in counts.items()}
    span = row.calls_from_ms, row.calls_until_ms
    if row.zones is None:
        return WaitingRecords(data.split(b"\n"), gateways, {}, *span)
    zones = msgspec.json.decode(row.zones, type=dict[str, str])
    calls = call_record.decode_list(data)
    salts = os.urandom(records.SALT_BYTES * len(calls))
    lines = []
    sequences: dict[str, list[int]] = {}
    for one, at in zip(calls, range(0, len(salts), records.SALT_BYTES), strict=True):
        label, salt = labels[one.gateway], salts[at : at + records.SALT_BYTES]
        zone, sent_to = zones.get(one.upstream, ""), _sent_to(one, zones)
        lines.append(records.of_call(digest, one, zone, salt, label, sent_to))
        if one.sequence:
            sequences.setdefault(label, []).append(one.sequence)
    return WaitingRecords(lines, gateways, sequences, *span)


def _asked(call: CallRecord) -> set[str]:
    """Who was sent a call's content: upstreams, those that failed too, and moderation engines."""
    return {one.upstream for one in call.attempts} | {one.upstream for one in call.engine_costs}


def _sent_to(call: CallRecord, zones: Mapping[str, str]) -> str:
    return ",".join(sorted({zones.get(name) or "unknown" for name in _asked(call)}))


def _add(
    connection: Connection,
    count: int,
    data: bytes,
    zones: Mapping[str, str] | None,
    gateways: Mapping[str, int],
    span: tuple[int | None, int | None],
) -> None:
    connection.execute(
        insert(audit_pending).values(
            at_ms=time.time_ns() // 1_000_000,
            id=secrets.new_id("aud"),
            records_count=count,
            records=data,
            zones=None if zones is None else msgspec.json.encode(zones).decode(),
            gateways=msgspec.json.encode(gateways).decode(),
            calls_from_ms=span[0],
            calls_until_ms=span[1],
        )
    )
