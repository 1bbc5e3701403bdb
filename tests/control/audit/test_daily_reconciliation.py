"""Each day's sealed log is compared with the ledger, and people hear of what differs."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from tests.records import record
from tokenschain.control.audit.daily_reconciliation import ReconciliationJob
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.observability import alerts as alerting
from tokenschain.core import call_record
from tokenschain.core.call_record import CallRecord
from tokenschain.core.log_events import silent
from tokenschain.infra.database.audit_tables import audit_segments
from tokenschain.infra.database.tables import alerts, ledger
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

DAY_S = 86_400
NOON_S = 1_789_963_200
"""12:00 in China on 2026-09-21."""


def alerts_of(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(select(alerts.c.kind, alerts.c.detail)).all()
    return [{"kind": row.kind, **json.loads(row.detail)} for row in rows]


def sealed_calls(engine: Engine, now: list[float]) -> list[CallRecord]:
    """Of noon; a log that began two hours before has them."""
    now[:] = [NOON_S - 7_200.0]
    secret = NoteSecret(INTERNATIONAL, "x" * 43)
    sealer = SegmentSealer(engine, INTERNATIONAL, secret, 1.0, lambda: now[0], idle_s=0.5)
    assert sealer.seal() is not None
    calls = [record(n, started_ms=NOON_S * 1_000 + n) for n in range(4)]
    Ledger(engine).ingest([call_record.encode(one) for one in calls])
    now[0] = NOON_S + 10.0
    assert sealer.seal() is not None
    return calls


def test_a_call_that_left_the_ledger_is_said_the_day_after_and_once(engine: Engine) -> None:
    now, said = list[float](), list[str]()
    calls = sealed_calls(engine, now)
    job = ReconciliationJob(
        engine,
        INTERNATIONAL.digest,
        lambda event, *_, **__: said.append(event),
        alerting.audit_differs,
        lambda: now[0],
    )
    assert job.look() and not job.look(), "the day before: there was no log"
    now[0] += DAY_S
    assert job.look() and alerts_of(engine) == [] and said == []
    with engine.begin() as connection:
        connection.exec_driver_sql(f"delete from ledger where event_id = '{calls[2].event_id}'")
    assert not job.look(), "once a day"
    for _ in range(2):  # two controls, or one that began anew
        again = ReconciliationJob(
            engine, INTERNATIONAL.digest, lambda event, *_, **__: said.append(event),
            alerting.audit_differs, lambda: now[0],
        )  # fmt: skip
        assert again.look()
    (alert,) = alerts_of(engine)
    assert (alert["kind"], alert["subject"], alert["count"]) == ("audit_differs", ["2026-09-21"], 1)
    assert alert["reason"] == f"{calls[2].event_id} not_in_ledger"
    assert said == ["audit_differs"] * 2
    assert "2026-09-21" in alerting.words("audit_differs", "", alert)[1]


@pytest.mark.parametrize(
    "put",
    [b"no zlib", zlib.compress(b"no json"), zlib.compress(b"{}")],
    ids=["zlib", "json", "kind"],
)
def test_calls_of_a_segment_that_was_damaged_are_missing(engine: Engine, put: bytes) -> None:
    now = list[float]()
    calls = sealed_calls(engine, now)
    c = audit_segments.c
    with engine.begin() as connection:
        damaged = update(audit_segments).where(c.calls_from_ms.is_not(None)).values(records=put)
        assert connection.execute(damaged).rowcount == 1
    now[0] += DAY_S
    job = ReconciliationJob(
        engine, INTERNATIONAL.digest, silent, alerting.audit_differs, lambda: now[0]
    )
    assert job.look()
    (alert,) = alerts_of(engine)
    assert alert["reason"] == ", ".join(f"{one.event_id} not_in_log" for one in calls)


@pytest.mark.parametrize(
    ("by_ms", "kind"), [(-40 * DAY_S * 1_000, "not_in_ledger"), (7, "changed")]
)
def test_a_call_that_was_moved_to_another_time_is_said(
    engine: Engine, by_ms: int, kind: str
) -> None:
    """As into a month whose invoice is out: no other day is compared again."""
    now = list[float]()
    calls = sealed_calls(engine, now)
    moment_ms = calls[2].started_ms + by_ms
    Ledger(engine).ingest([call_record.encode(record(9, started_ms=moment_ms + 60_000))])
    with engine.begin() as connection:
        moved = update(ledger).where(ledger.c.event_id == calls[2].event_id)
        connection.execute(moved.values(started_ms=moment_ms))
    now[0] += DAY_S
    job = ReconciliationJob(
        engine, INTERNATIONAL.digest, silent, alerting.audit_differs, lambda: now[0]
    )
    assert job.look()
    (alert,) = alerts_of(engine)
    assert alert["reason"] == f"{calls[2].event_id} {kind}"
