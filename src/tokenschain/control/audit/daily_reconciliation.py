"""Daily job: the sealed log of each day against the ledger; an alert where they differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit import reconciliation
from tokenschain.core.audit.merkle import Digest
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database.engine import first_line, reading

DAY_S, CHINA_S = 86_400, 28_800
Alert = Callable[[Engine, Mapping[str, object], float], object]
SETTLED_S = 3_600
"""After its end a day is compared: by then its calls are shipped and sealed."""
LOOK_S = 600.0
NAMED_MAX = 5
"""Calls in the alert; `tokenschain audit reconcile DAY` names more."""


class ReconciliationJob:
    """Compares each day, in China, once it is over; again after a restart of control."""

    def __init__(
        self,
        engine: Engine,
        digest: Digest,
        report: Reporter,
        alert: Alert,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._digest = digest
        self._report = report
        self._alert = alert
        self._clock = clock
        self._compared_s = 0
        """When the last day began that was compared; Unix time."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # First: a control that starts has other things to do than to read a day.
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Compare yesterday, unless that was done; returns whether it was done now."""
        now_s = int(self._clock())
        today_s = (now_s - SETTLED_S + CHINA_S) // DAY_S * DAY_S - CHINA_S
        day_s = today_s - DAY_S
        if day_s <= self._compared_s:
            return False
        try:
            with reading(self._engine) as connection:
                found = reconciliation.compare(
                    connection, self._digest, day_s * 1_000, today_s * 1_000
                )
            day = time.strftime("%Y-%m-%d", time.gmtime(day_s + CHINA_S))
            if not found.agrees():
                self._say(day, found, now_s)
        except SQLAlchemyError as error:
            self._report("chore_failed", first_line(error))
            return False
        self._compared_s = day_s
        return True

    def _say(self, day: str, found: reconciliation.Reconciliation, now_s: int) -> None:
        wrong = [one for one in found.differences if one.kind != "rerated"]
        count = sum(count for kind, count in found.counts.items() if kind != "rerated")
        detail = {
            "subject": [day],
            "count": count,
            "reason": ", ".join(f"{one.event_id} {one.kind}" for one in wrong[:NAMED_MAX]),
        }
        self._report("audit_differs", str(detail["reason"]), day=day, count=count)
        self._alert(self._engine, detail, now_s)
