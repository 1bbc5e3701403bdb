"""The ledger: journal records in, once each, and what they add up to."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, select

from tokenschain.core import events
from tokenschain.core.events import CallRecord
from tokenschain.infra.db import upsert
from tokenschain.infra.tables import ledger, rejected_records, usage_hourly

HOUR_S = 3_600
_KEY = ("hour_s", "tenant", "project", "environment", "key_id", "model", "upstream", "currency")
_SUMS = (
    "calls",
    "failed_calls",
    "estimated_calls",
    "unpriced_calls",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_pico",
)


def ingest(engine: Engine, payloads: Sequence[bytes]) -> int:
    """Enter records into the ledger and its rollups, in one transaction.

    Each event id counts once, however often it arrives. Returns how many were new.
    """
    records: dict[str, CallRecord] = {}
    unreadable: list[tuple[bytes, str]] = []
    for payload in payloads:
        try:
            record = events.decode(payload)
        except msgspec.DecodeError as error:
            unreadable.append((payload, str(error)))
        else:
            records[record.event_id] = record
    with engine.begin() as connection:
        # Rows are entered in one order by all, so that two writers cannot deadlock.
        _keep_unreadable(engine, connection, sorted(unreadable))
        fresh = _insert_new(engine, connection, [records[name] for name in sorted(records)])
        _roll_up(engine, connection, [records[event_id] for event_id in fresh])
    return len(fresh)


def _insert_new(engine: Engine, connection: Connection, records: list[CallRecord]) -> list[str]:
    if not records:
        return []
    statement = (
        upsert(engine, ledger)
        .on_conflict_do_nothing(index_elements=["event_id"])
        .returning(ledger.c.event_id)
    )
    rows = [_row(record) for record in records]
    return list(connection.execute(statement, rows).scalars())


def _row(record: CallRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in CallRecord.__struct_fields__}
    row["attempts"] = msgspec.json.encode(
        [
            {name: getattr(attempt, name) for name in attempt.__struct_fields__}
            for attempt in record.attempts
        ]
    ).decode()
    return row


def _roll_up(engine: Engine, connection: Connection, records: list[CallRecord]) -> None:
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    for record in records:
        hour_s = record.started_ms // 1000 // HOUR_S * HOUR_S
        key = (
            hour_s,
            record.tenant,
            record.project,
            record.environment,
            record.key_id,
            record.model_asked,
            record.upstream,
            record.currency,
        )
        amounts = (
            1,
            record.outcome != "ok",
            record.usage_source == "estimated",
            record.cost_pico is None,
            record.prompt_tokens,
            record.cached_tokens,
            record.completion_tokens,
            record.reasoning_tokens,
            record.cost_pico or 0,
        )
        total = sums[key]
        for index, amount in enumerate(amounts):
            total[index] += amount
    for key in sorted(sums):
        statement = upsert(engine, usage_hourly).values(
            dict(zip(_KEY + _SUMS, (*key, *sums[key]), strict=True))
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(_KEY),
                set_={name: usage_hourly.c[name] + statement.excluded[name] for name in _SUMS},
            )
        )


def _keep_unreadable(
    engine: Engine, connection: Connection, unreadable: list[tuple[bytes, str]]
) -> None:
    for payload, reason in unreadable:
        connection.execute(
            upsert(engine, rejected_records)
            .values(
                payload_hash=hashlib.sha256(payload).hexdigest(),
                received_at_s=int(time.time()),
                reason=reason,
                payload=payload,
            )
            .on_conflict_do_nothing(index_elements=["payload_hash"])
        )


DIMENSIONS = ("tenant", "project", "environment", "key_id", "model", "upstream", "day", "hour")


def usage(
    connection: Connection,
    *,
    group_by: Sequence[str],
    from_s: int,
    until_s: int,
    tenant: str | None = None,
) -> list[dict[str, Any]]:
    """Sums over the hourly rollups; costs of different currencies never mix.

    Args:
        group_by: some of `DIMENSIONS`; days and hours are UTC.
        from_s: Unix time, inclusive; `until_s` exclusive.
    """
    query = select(usage_hourly).where(
        usage_hourly.c.hour_s >= from_s, usage_hourly.c.hour_s < until_s
    )
    if tenant is not None:
        query = query.where(usage_hourly.c.tenant == tenant)
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    for row in connection.execute(query).mappings():
        key = (*(_dimension(row, name) for name in group_by), row["currency"])
        total = sums[key]
        for index, name in enumerate(_SUMS):
            total[index] += row[name]
    names = (*group_by, "currency", *_SUMS)
    return [dict(zip(names, (*key, *sums[key]), strict=True)) for key in sorted(sums)]


def _dimension(row: Any, name: str) -> str:
    if name == "day":
        return time.strftime("%Y-%m-%d", time.gmtime(row["hour_s"]))
    if name == "hour":
        return time.strftime("%Y-%m-%dT%H:00Z", time.gmtime(row["hour_s"]))
    return str(row[name])
