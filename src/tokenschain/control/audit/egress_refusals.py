"""Refused connections in the audit log: each machine at most once an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit import admin_log
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database.engine import first_line

ACTION = "egress:refused"
WRITE_S = 2.0
AGAIN_S = 3_600.0
HOSTS_MAX = 1_000
"""Machines that are kept apart; of more within an hour, the log has the rest."""


class EgressRefusals:
    """Notes which machines this control was kept from connecting to."""

    def __init__(self, engine: Engine, report: Reporter, clock: Callable[[], float]) -> None:
        self._engine, self._report, self._clock = engine, report, clock
        self._noted: dict[str, float] = {}
        self._waiting: list[str] = []

    def refused(self, host: str) -> None:
        """A machine was not connected to. Takes no time, wherever it is called."""
        now = self._clock()
        if now < self._noted.get(host, now):
            return
        if host not in self._noted and len(self._noted) >= HOSTS_MAX:
            self._noted = {name: until for name, until in self._noted.items() if now < until}
            if len(self._noted) >= HOSTS_MAX:
                return
        self._noted[host] = now + AGAIN_S
        self._waiting.append(host)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            if self._waiting:
                try:
                    await asyncio.to_thread(self.write)
                except SQLAlchemyError as error:
                    self._report("chore_failed", first_line(error))

    def write(self) -> None:
        """Write down what waits."""
        waiting = list(self._waiting)
        with self._engine.begin() as connection:
            for host in waiting:
                admin_log.note(connection, admin_log.SYSTEM, ACTION, "", host)
        del self._waiting[: len(waiting)]
