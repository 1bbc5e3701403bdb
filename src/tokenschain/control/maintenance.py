"""Background jobs of control: retention, sweeps, alerts, hourly tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control import request_nonces
from tokenschain.control.billing import grants, limits
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.configuration import store
from tokenschain.control.identity import api_keys, approvals, login_throttle, sign_ups, tokens
from tokenschain.control.mails import Outbox
from tokenschain.control.moderation import offenders, review_queue
from tokenschain.control.observability import alert_silences, alerts
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.log_events import Reporter, report_failure
from tokenschain.infra.database.engine import drop_days, ensure_days, first_line

SWEEP_S = 60.0


class Maintenance:
    """What control does now and then: alerts, last use of keys, sweeping, retention.

    Several controls may do the same at once; each chore is harmless to repeat.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        lease_manager: limits.LeaseManager,
        archive: ResponseArchive,
        sender: alerts.Sender,
        outbox: Outbox,
        ledger_days: int,
        report: Reporter,
        semantic: SemanticProcesses,
        upstreams_down: Callable[[float], Mapping[str, str]],
    ) -> None:
        """
        Args:
            upstreams_down: why upstreams are down now, by their ids.
        """
        self._engine = engine
        self._semantic = semantic
        self._upstreams_down = upstreams_down
        self._ledger = ledger
        self._lease_manager = lease_manager
        self._archive = archive
        self._sender = sender
        self._outbox = outbox
        self._ledger_days = ledger_days
        self._report = report

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_alerts())
            group.create_task(self._send_mails())
            group.create_task(self._do_chores())

    async def _send_alerts(self) -> None:
        # By itself: who takes long to answer keeps no chore waiting.
        while True:
            await asyncio.sleep(alerts.LOOK_S)
            await self._do(self._sender.send_due(time.time()))

    async def _send_mails(self) -> None:
        while True:
            await asyncio.sleep(alerts.LOOK_S)
            await self._do(self._outbox.send_due(time.time()))

    async def _do_chores(self) -> None:
        swept_at = 0.0
        while True:
            await asyncio.sleep(alerts.LOOK_S)
            await self._do(asyncio.to_thread(alerts.look, self._engine, time.time()))
            await self._do(asyncio.to_thread(self._look_at_upstreams))
            await self._do(asyncio.to_thread(alerts.look_at_incidents, self._engine, time.time()))
            await self._do(asyncio.to_thread(self._note_uses))
            if time.monotonic() - swept_at >= SWEEP_S:
                swept_at = time.monotonic()
                await self._do(asyncio.to_thread(self._archive.sweep))
                await self._do(asyncio.to_thread(self._lease_manager.sweep))
                await self._do(asyncio.to_thread(self._sweep))
                await self._do(asyncio.to_thread(alerts.look_at_records, self._engine, time.time()))
                await self._do(self._look_at_cache())

    async def _do(self, chore: Awaitable[object]) -> None:
        """One chore; whatever it fails of, the others are done."""
        try:
            await chore
        except SQLAlchemyError as error:
            self._report("chore_failed", first_line(error))
        except Exception as error:  # noqa: BLE001 - control goes on, whatever the data are
            report_failure(self._report, error)

    async def _look_at_cache(self) -> None:
        reports = await self._semantic.reports()
        await asyncio.to_thread(alerts.look_at_cache, self._engine, reports, time.time())

    def _look_at_upstreams(self) -> None:
        now_s = time.time()
        alerts.look_at_upstreams(self._engine, self._upstreams_down(now_s), now_s)

    def _note_uses(self) -> None:
        used = self._ledger.take_uses()
        if not used:
            return
        with self._engine.begin() as connection:
            api_keys.note_use(connection, used)

    def _sweep(self) -> None:
        with self._engine.begin() as connection:
            tokens.sweep(connection)
            request_nonces.sweep(connection)
            api_keys.sweep(connection, int(time.time()))
            login_throttle.sweep(connection, int(time.time()))
            sign_ups.sweep(connection, int(time.time()))
            approvals.sweep(connection, time.time())
            grants.end_due(connection, time.time(), self._ledger.usd_cny_micro)
            alert_silences.sweep(connection, time.time())
            review_queue.sweep(connection, time.time())
            offenders.sweep(connection, time.time())
            store.sweep(connection, time.time())
        today = int(time.time() // DAY_S)
        # Partitions are made ahead, so that midnight is a day as any other.
        ensure_days(self._engine, range(today, today + 3))
        dropped = drop_days(self._engine, today - self._ledger_days)
        if dropped:
            self._report("ledger_days_dropped", days=len(dropped))
