"""Content spool of a gateway: what calls said, sealed, in a journal of its own beside the one of
call records, so that nothing of it holds those up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenschain.core.audit import content
from tokenschain.core.audit.content import ContentRecord
from tokenschain.core.log_events import Reporter
from tokenschain.infra.control_channel.client import Channel, ship
from tokenschain.infra.control_channel.protocol import CONTENTS_PATH
from tokenschain.infra.control_channel.signed_client import Refused
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits
from tokenschain.infra.security import case_texts
from tokenschain.infra.security.suite import INTERNATIONAL, Suite
from tokenschain.wire.client import ClientError

_LIMITS = JournalLimits(
    segment_bytes=16_777_216,
    total_bytes_max=1_073_741_824,
    record_bytes_max=content.RECORD_BYTES_MAX,
)
SHIP_S = 0.5


class ContentSpool:
    """See `gateway.moderation.content_recording.ContentBook`."""

    mac = staticmethod(INTERNATIONAL.mac)
    """Of commitments: the audit log has one hash, whatever the suite."""

    def __init__(
        self,
        channel: Channel,
        folder: Path,
        suite: Suite,
        internal: Callable[[], Sequence[str]],
        report: Reporter,
    ) -> None:
        """
        Args:
            internal: the secrets that control and gateways share, the one in force first.
            report: told once when content is dropped for want of room, and when there is some.
        """
        self._channel, self._folder, self._report = channel, folder, report
        self._sealer = case_texts.sealer_of(suite, internal)
        self._journal: Journal | None = None
        self._dropped = 0

    def seal(self, tenant: str, call_id: str, data: bytes) -> bytes:
        """Seal what a call said for its way to control."""
        return self._sealer.seal(case_texts.content_place_of(tenant, call_id), data)

    def keep(self, record: ContentRecord) -> None:
        """Append it; where there is no room, it is dropped, counted and said."""
        try:
            journal = self._opened()
            journal.check_room()
            journal.append(content.encode(record))
        except (JournalFull, ValueError, OSError) as error:
            if not self._dropped:
                self._report("content_dropped", str(error))
            self._dropped += 1
            return
        if self._dropped:
            self._report("content_kept_again", dropped=self._dropped)
            self._dropped = 0

    def _opened(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._folder, _LIMITS)
        return self._journal

    async def ship_always(self) -> None:
        """Ship what is kept; runs until cancelled."""
        while True:
            with contextlib.suppress(ClientError, Refused):  # the uplink says so; it waits on disk
                await self.ship()
            await asyncio.sleep(SHIP_S)

    async def ship(self) -> None:
        """Ship what there is now.

        Raises:
            ClientError: control cannot be reached.
            Refused: control would not take it.
        """
        if self._journal is None and not self._folder.exists():
            return
        journal = self._opened()
        await ship(self._channel, journal, CONTENTS_PATH)
        journal.make_room()

    def close(self) -> None:
        """Release the journal; what is unshipped stays on disk."""
        if self._journal is not None:
            self._journal.close()
