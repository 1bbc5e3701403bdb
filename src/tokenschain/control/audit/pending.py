"""Audit log, first step: records wait for their segment, written in the transaction they are of."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert

from tokenschain.core.audit import records
from tokenschain.core.call_record import CallRecord
from tokenschain.infra.database.audit_tables import audit_pending
from tokenschain.infra.security import secrets


def add_calls(
    connection: Connection, calls: Sequence[CallRecord], zones: Mapping[str, str]
) -> None:
    """Calls that were just entered into the ledger.

    Args:
        zones: of upstreams, as far as they are known.
    """
    if not calls:
        return
    lines = [records.of_call(one, zones.get(one.upstream, "")) for one in calls]
    began = [one.started_ms for one in calls]
    gateways = Counter(one.gateway for one in calls)
    _add(connection, lines, gateways, min(began), max(began))


def add_event(connection: Connection, row: Mapping[str, Any]) -> None:
    """A row of `audit_events`."""
    _add(connection, [records.of_event(row)], {}, None, None)


def _add(
    connection: Connection,
    lines: Sequence[bytes],
    gateways: Mapping[str, int],
    calls_from_ms: int | None,
    calls_until_ms: int | None,
) -> None:
    connection.execute(
        insert(audit_pending).values(
            at_ms=time.time_ns() // 1_000_000,
            id=secrets.new_id("aud"),
            records_count=len(lines),
            records=b"\n".join(lines),
            gateways=msgspec.json.encode(gateways).decode(),
            calls_from_ms=calls_from_ms,
            calls_until_ms=calls_until_ms,
        )
    )
