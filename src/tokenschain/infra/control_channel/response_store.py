"""Response store of a gateway: spool on disk, shipped to control, fetched back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import quote

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.stored_responses import (
    KEPT_AT_ONCE_BYTES_MAX,
    KEPT_INPUT_BYTES_MAX,
    RESPONSE_ID_BYTES,
    Stored,
)
from tokenschain.infra.control_channel.client import Channel, ship
from tokenschain.infra.control_channel.protocol import RESPONSES_PATH
from tokenschain.infra.control_channel.signed_client import Refused
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits, frame
from tokenschain.wire.client import ClientError, Waits

RESPONSE_BYTES_MAX = KEPT_INPUT_BYTES_MAX + 16 * 1_048_576
"""A longer one is not kept."""
LARGE_TOTAL_BYTES_MAX = 8 * RESPONSE_BYTES_MAX
"""Files that wait for control."""
READ_YOUR_WRITES_WAIT_MAX_S = 2.0
"""A response that another gateway has given just now is waited for so long."""
_READ_AGAIN_S = 0.02
_LIMITS = JournalLimits(
    segment_bytes=8_388_608,
    total_bytes_max=134_217_728,
    record_bytes_max=KEPT_AT_ONCE_BYTES_MAX,
)
_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=10.0, total_max_s=15.0)
_LARGE_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=30.0, total_max_s=60.0)
_SUFFIX = ".response"
FULL_S = 60.0
"""How long nothing is kept for a tenant that had no room, before control is asked again."""


class _Answer(msgspec.Struct):
    full: list[str] = []
    """Tenants with no room for more responses."""


_decode_stored = msgspec.msgpack.Decoder(Stored).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class ResponseStore:
    """Keeps what callers asked to keep; nothing waits for control but to read it back.

    What is kept is shipped at once, so that a conversation goes on at any gateway.
    """

    def __init__(self, channel: Channel, folder: Path) -> None:
        self._channel = channel
        self._folder = folder
        self._spool: Journal | None = None
        self._own = ""
        """What the ids of this process begin with: those are not waited for."""
        self._shipping = asyncio.Lock()
        self._kept = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it is shipped, once that has begun."""
        self._full: dict[str, float] = {}
        """Tenants without room, and until when that is believed; monotonic."""

    def keep(self, stored: Stored) -> bool:
        """Spool a response; false when it cannot be kept: too long, or no room.

        One beyond `KEPT_AT_ONCE_BYTES_MAX` may be kept from any thread, one at a time.
        """
        if self._full and self._is_full(stored.tenant):
            return False
        self._own = stored.id[: -2 * RESPONSE_ID_BYTES]
        payload = msgspec.msgpack.encode(stored)
        try:
            if len(payload) > KEPT_AT_ONCE_BYTES_MAX:
                self._keep_large(stored.id, payload)
            else:
                spool = self._open()
                spool.check_room()
                spool.append(payload)
        except (JournalFull, ValueError, OSError):
            return False
        if self._loop is None:
            self._kept.set()
        else:
            self._loop.call_soon_threadsafe(self._kept.set)
        return True

    def _is_full(self, tenant: str) -> bool:
        until = self._full.get(tenant)
        if until is not None and until <= time.monotonic():
            del self._full[tenant]
            return False
        return until is not None

    def _note(self, answer: bytes) -> None:
        try:
            full = _decode_answer(answer).full
        except msgspec.DecodeError as error:
            raise Refused(str(error)) from error
        for tenant in full:
            self._full[tenant] = time.monotonic() + FULL_S

    def _open(self) -> Journal:
        if self._spool is None:
            self._spool = Journal(self._folder, _LIMITS)
        return self._spool

    def _keep_large(self, name: str, payload: bytes) -> None:
        waiting = sum(path.stat().st_size for path in self._large())
        if len(payload) > RESPONSE_BYTES_MAX or waiting + len(payload) > LARGE_TOTAL_BYTES_MAX:
            raise ValueError("the response is too long to be kept")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        begun = self._folder / f"{name}.part"
        begun.write_bytes(payload)
        begun.rename(self._folder / f"{name}{_SUFFIX}")

    def _large(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    async def ship_always(self, interval_s: float) -> None:
        """Ship what is kept as soon as it is; runs until cancelled.

        Args:
            interval_s: the wait before the next try while control is away.
        """
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                await self.ship()
            except (ClientError, Refused):
                await asyncio.sleep(interval_s)  # the uplink says so; the spool waits
                continue
            await self._kept.wait()

    async def ship(self) -> None:
        """Ship what is spooled; called now and then, and before a read.

        Raises:
            ClientError: control cannot be reached.
            Refused: control would not take it.
        """
        async with self._shipping:
            self._kept.clear()
            if self._spool is None and not self._folder.exists():
                return
            spool = self._open()
            await ship(self._channel, spool, RESPONSES_PATH, self._note)
            spool.make_room()
            for path in self._large():
                body = await asyncio.to_thread(_framed, path)
                self._note(await self._channel.ask(RESPONSES_PATH, body, _LARGE_WAITS, 65_536))
                path.unlink()

    async def find(self, tenant: str, response_id: str) -> Stored:
        """A tenant's response.

        Raises:
            ApiError: `not_found`, or `database_unavailable` while control is away.
        """
        body = await self._ask_patiently("GET", tenant, response_id)
        if len(body) > KEPT_AT_ONCE_BYTES_MAX:
            return await asyncio.to_thread(_decode_stored, body)
        return _decode_stored(body)

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget a tenant's response.

        Raises:
            ApiError: as `find`.
        """
        await self._ask_patiently("DELETE", tenant, response_id)
        self._full.pop(tenant, None)

    async def _ask_patiently(self, method: str, tenant: str, response_id: str) -> bytes:
        """Ask for a response that another gateway may have given just now: it may be on its
        way."""
        wait_s, waited_s = _READ_AGAIN_S, 0.0
        own = bool(self._own) and response_id.startswith(self._own)
        while True:
            try:
                return await self._ask(method, tenant, response_id)
            except ApiError as error:
                if error.code != "not_found" or own or waited_s >= READ_YOUR_WRITES_WAIT_MAX_S:
                    raise
            await asyncio.sleep(wait_s)
            waited_s += wait_s
            wait_s *= 2

    async def _ask(self, method: str, tenant: str, response_id: str) -> bytes:
        try:
            await self.ship()
            name, whose = quote(response_id, safe=""), quote(tenant, safe="")
            path = f"{RESPONSES_PATH}/{name}?tenant={whose}"
            reply, body = await self._channel.exchange(
                method, path, b"", _WAITS, RESPONSE_BYTES_MAX
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


def _framed(path: Path) -> bytes:
    return frame(path.read_bytes())
