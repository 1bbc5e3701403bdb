"""Response store of a gateway: spool on disk, shipped to control, fetched back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_responses import Stored
from tokenschain.infra.control_channel.client import Channel, ship
from tokenschain.infra.control_channel.protocol import RESPONSES_PATH
from tokenschain.infra.control_channel.signed_client import Refused
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits
from tokenschain.wire.client import ClientError, Waits

RESPONSE_BYTES_MAX = 2_097_152
"""A longer conversation is not kept."""
_LIMITS = JournalLimits(
    segment_bytes=8_388_608, total_bytes_max=134_217_728, record_bytes_max=RESPONSE_BYTES_MAX
)
_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=10.0, total_max_s=15.0)


class ResponseStore:
    """Keeps what callers asked to keep; nothing waits for control but to read it back."""

    def __init__(self, channel: Channel, folder: Path) -> None:
        self._channel = channel
        self._folder = folder
        self._spool: Journal | None = None

    def keep(self, stored: Stored) -> bool:
        """Spool a response; false when it cannot be kept: too long, or no room."""
        if self._spool is None:
            self._spool = Journal(self._folder, _LIMITS)
        payload = msgspec.msgpack.encode(stored)
        try:
            self._spool.check_room()
            self._spool.append(payload)
        except (JournalFull, ValueError):
            return False
        return True

    async def ship(self) -> None:
        """Ship what is spooled; called now and then, and before a read.

        Raises:
            ClientError: control cannot be reached.
            Refused: control would not take it.
        """
        if self._spool is None:
            if not self._folder.exists():
                return
            self._spool = Journal(self._folder, _LIMITS)
        await ship(self._channel, self._spool, RESPONSES_PATH)
        self._spool.make_room()

    async def find(self, tenant: str, response_id: str) -> Stored:
        """A tenant's response.

        Raises:
            ApiError: `not_found`, or `database_unavailable` while control is away.
        """
        body = await self._ask("GET", tenant, response_id)
        return msgspec.msgpack.decode(body, type=Stored)

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget a tenant's response.

        Raises:
            ApiError: as `find`.
        """
        await self._ask("DELETE", tenant, response_id)

    async def _ask(self, method: str, tenant: str, response_id: str) -> bytes:
        try:
            await self.ship()
            path = f"{RESPONSES_PATH}/{response_id}?tenant={quote(tenant, safe='')}"
            reply, body = await self._channel.exchange(
                method, path, b"", _WAITS, RESPONSE_BYTES_MAX * 2
            )
        except (ClientError, Refused) as error:
            raise ApiError(
                "database_unavailable", "Stored responses cannot be reached now; try again."
            ) from error
        if reply.status == 404:
            raise ApiError("not_found", f"There is no response `{response_id}`.")
        if reply.status != 200:
            raise ApiError("database_unavailable", "Stored responses cannot be reached now.")
        return body

    def close(self) -> None:
        """Release the spool; what is unshipped stays on disk."""
        if self._spool is not None:
            self._spool.close()
