"""Retention job: erases content that is older than its class, and what a backup brought back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.content import erasure
from tokenschain.control.content.content_policies import ReadRules, no_rules
from tokenschain.control.content.erasure import DestroyedKeys
from tokenschain.core.log_events import Reporter
from tokenschain.infra.database.engine import first_line

LOOK_S = 600.0


class RetentionJob:
    """Looks now and then; several controls may do so at once, each erasure is made once."""

    def __init__(
        self,
        engine: Engine,
        destroyed_keys: Path,
        report: Reporter,
        rules: ReadRules = no_rules,
    ) -> None:
        """
        Args:
            rules: of data classes: some are kept longer.
            destroyed_keys: the file of keys that are to stay destroyed.
        """
        self._engine, self._report, self._rules = engine, report, rules
        self._destroyed = DestroyedKeys(destroyed_keys)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look, time.time_ns() // 1_000_000)
            except (SQLAlchemyError, OSError) as error:
                why = first_line(error) if isinstance(error, SQLAlchemyError) else str(error)
                self._report("chore_failed", why)
            await asyncio.sleep(LOOK_S)

    def look(self, now_ms: int) -> None:
        """Erase what is due at a moment."""
        again = self._destroyed.destroy_again(self._engine, now_ms)
        if again:
            self._report("content_keys_destroyed_again", keys=len(again))
        count = erasure.erase_due(self._engine, now_ms, self._destroyed.note, self._rules)
        if count:
            self._report("content_erased", contents=count)
