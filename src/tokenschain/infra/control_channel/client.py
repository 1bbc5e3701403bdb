"""Control channel client: fetches snapshots and leases, ships the journal.

Down: the snapshot, by long poll with an ETag, verified, and kept on disk so
that a gateway starts and serves without control. Its revision only rises: an
older one is refused, wherever it comes from. Up: the journal, in batches, at
least once; control drops what it has already by event id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from tokenschain.core.backoff import Backoff
from tokenschain.core.limits import Lease, LeaseRequest
from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot import Manifest, Served, Snapshot
from tokenschain.infra.control_channel.kept_snapshot import KeptSnapshot
from tokenschain.infra.control_channel.protocol import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    JOURNAL_PATH,
    LEASES_PATH,
    PARTS_ASKED_MAX,
    PARTS_PATH,
    SNAPSHOT_PATH,
    LeaseBatch,
)
from tokenschain.infra.control_channel.signed_client import Refused, SignedClient
from tokenschain.infra.journal import Journal
from tokenschain.infra.security.suite import Suite
from tokenschain.wire.client import ClientError, Waits

POLL_WAIT_S = 20.0
RETRY_MIN_S = 0.1
RETRY_MAX_S = 2.0
_SNAPSHOT_BYTES_MAX = 268_435_456
_POLL_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=POLL_WAIT_S + 5, total_max_s=60.0)
_LEASE_WAITS = Waits(connect_max_s=0.5, first_byte_max_s=1.0, total_max_s=1.5)
_SHIP_WAITS = Waits(connect_max_s=2.0, first_byte_max_s=30.0, total_max_s=60.0)


class Channel(SignedClient):
    """The signed way to control; see `control.api.app` for the other end."""

    async def draw(
        self, holder: str, stream: str, sequence: int, requests: Sequence[LeaseRequest]
    ) -> Sequence[Lease]:
        """Ask control for leases.

        Raises:
            ClientError, Refused: control is away.
        """
        body = msgspec.msgpack.encode(LeaseBatch(holder, tuple(requests), stream, sequence))
        answer = await self.ask(LEASES_PATH, body, _LEASE_WAITS, 1_048_576)
        try:
            return msgspec.msgpack.decode(answer, type=list[Lease])
        except msgspec.DecodeError as error:
            raise Refused(str(error)) from error


class LeaseStream:
    """Lease requests of one process for one kind of counts, numbered: each draws once."""

    def __init__(self, channel: Channel, holder: str, name: str) -> None:
        self._channel = channel
        self._holder = holder
        self._name = name
        self._sequence = 0

    async def draw(self, requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
        """See `Channel.draw`."""
        self._sequence += 1
        return await self._channel.draw(self._holder, self._name, self._sequence, requests)


async def ship(
    channel: Channel, journal: Journal, path: str, answered: Callable[[bytes], None] | None = None
) -> None:
    """Ship everything a journal holds now; what is acknowledged is forgotten.

    Args:
        answered: told what control says to each batch.

    Raises:
        ClientError: control cannot be reached.
        Refused: it answered with an error.
    """
    while (batch := journal.next_batch(BATCH_BYTES_MAX, BATCH_RECORDS_MAX)) is not None:
        backlog_bytes = max(0, journal.backlog_bytes - len(batch.frames))
        asked = f"{path}?backlog_bytes={backlog_bytes}"
        said = await channel.ask(asked, batch.frames, _SHIP_WAITS, 65_536)
        if answered is not None:
            answered(said)
        journal.acknowledge(batch)


class Uplink:
    """Follows the snapshot and ships the journal until cancelled."""

    def __init__(
        self,
        channel: Channel,
        served: Served,
        journal: Journal,
        kept: KeptSnapshot,
        suite: Suite,
        report: Reporter,
        ship_interval_s: float,
    ) -> None:
        """
        Args:
            kept: the configuration on disk, for a start without control.
            suite: names the parts of a configuration by their digests, as control does.
            report: told once when control is lost and once when it is back, and of each
                configuration that comes into force.
        """
        self._channel = channel
        self._served = served
        self._journal = journal
        self._kept = kept
        self._suite = suite
        self._refused = ""
        """The version of the older configuration that was refused last."""
        self._have: Manifest | None = None
        self._report = report
        self._ship_interval_s = ship_interval_s
        clock = time.monotonic
        self._control = Backoff(clock, RETRY_MIN_S, RETRY_MAX_S, "control", report)
        first_s = 2 * max(ship_interval_s, RETRY_MIN_S)
        self._shipping = Backoff(
            clock, first_s, max(first_s, RETRY_MAX_S), "shipping", self._report_shipping,
            away="paused", back="resumed",
        )  # fmt: skip
        self.heard_at = self.shipped_at = time.monotonic()
        """When control answered last, and when it had everything that was journalled."""
        self.configured = asyncio.Event()
        """Set when there is a configuration to serve by."""

    def _report_shipping(self, event: str, /, why: str = "", **fields: object) -> None:
        self._report(event, why, backlog_bytes=self._journal.backlog_bytes, **fields)

    @property
    def revision(self) -> int:
        """The revision that is served; 0 before the first."""
        return self._have.revision if self._have is not None else 0

    @property
    def control_lost(self) -> str | None:
        """Why control does not answer; None while it does."""
        return self._control.why if self._control.is_lost else None

    def start_from_disk(self) -> None:
        """Serve by the last configuration this machine saw, if it is whole and signed."""
        kept = self._kept.read()
        if kept is None:
            return
        manifest, parts = kept
        snapshot = msgspec.msgpack.decode(parts[manifest.snapshot], type=Snapshot)
        self._served.replace(snapshot)
        for number, name in enumerate(manifest.shards):
            self._served.replace_shard(number, parts[name] if name else b"")
        self._served.version = manifest.version
        self._have = manifest
        self.configured.set()
        self._say_in_force(manifest, "disk")

    def _say_in_force(self, manifest: Manifest, source: str) -> None:
        snapshot = self._served.get()
        self._report(
            "configuration_in_force", revision=manifest.revision, version=manifest.version,
            upstreams=len(snapshot.upstreams), models=len(snapshot.models), source=source,
        )  # fmt: skip

    async def follow_snapshot(self) -> None:
        """Keep the snapshot current; returns only by cancellation."""
        while True:
            try:
                await self._poll()
                self._control.answered()
            except (ClientError, msgspec.DecodeError, Refused) as error:
                await asyncio.sleep(self._control.failed(str(error)))

    async def _poll(self) -> None:
        have = self._served.version
        # After a loss an answer is wanted at once, not when something changes.
        wait_s = 0.0 if self._control.is_lost else POLL_WAIT_S
        path = f"{SNAPSHOT_PATH}?wait_s={wait_s:g}"
        known = f'if-none-match: "{have}"\r\n'
        reply, body = await self._channel.exchange(
            "GET", path, b"", _POLL_WAITS, _SNAPSHOT_BYTES_MAX, known
        )
        self.heard_at = time.monotonic()
        if reply.status == 304:
            await asyncio.to_thread(self._kept.renew)
            return
        if reply.status != 200:
            raise Refused(f"control answered HTTP {reply.status}")
        manifest = msgspec.json.decode(body, type=Manifest)
        highest = self._kept.highest.number
        if manifest.revision < highest:
            # For a moment, this is a control that has not heard of the last change yet.
            why = (
                f"control's configuration is of revision {manifest.revision}, older than the one "
                f"served here ({highest}); after restoring its database from a backup, run "
                "`tokenschain advance-revision`"
            )
            if self._refused == manifest.version:
                self._report("snapshot_older_refused", why)
            self._refused = manifest.version
            raise Refused(why)
        self._refused = ""
        await self._serve(manifest, body)

    async def _serve(self, manifest: Manifest, body: bytes) -> None:
        """Fetch what is new of a configuration and serve by it, a shard at a time."""
        have = self._have
        known = {have.snapshot, *have.shards} if have is not None else set()
        new = sorted({manifest.snapshot, *manifest.shards} - known - {""})
        parts: dict[str, bytes] = {}
        for at in range(0, len(new), PARTS_ASKED_MAX):
            parts |= await self._fetch(new[at : at + PARTS_ASKED_MAX])
        if manifest.snapshot in parts:
            self._served.replace(msgspec.msgpack.decode(parts[manifest.snapshot], type=Snapshot))
        for number, name in enumerate(manifest.shards):
            if have is None or have.shards[number] != name:
                self._served.replace_shard(number, parts[name] if name else b"")
                # Callers go on in between: no swap takes longer than one shard does.
                await asyncio.sleep(0)
        self._served.version = manifest.version
        self._have = manifest
        self.configured.set()
        self._say_in_force(manifest, "control")
        await asyncio.to_thread(self._kept.write, manifest, body, parts)

    async def _fetch(self, names: list[str]) -> dict[str, bytes]:
        path = f"{PARTS_PATH}?names={','.join(names)}"
        body = await self._channel.ask(path, b"", _POLL_WAITS, _SNAPSHOT_BYTES_MAX, "GET")
        found = msgspec.msgpack.decode(body, type=dict[str, bytes])
        for name in names:
            # The manifest is signed and names its parts by their hashes.
            if self._suite.hex_digest(found.get(name, b"")) != name:
                raise Refused("a part of the snapshot is missing or is not what was asked for")
        return found

    async def ship_journal(self) -> None:
        """Ship records as they come; returns only by cancellation."""
        while True:
            pause_s = self._ship_interval_s
            try:
                await self.ship_all()
                self.shipped_at = time.monotonic()
                self._shipping.answered()
            except (ClientError, Refused) as error:
                pause_s = self._shipping.failed(str(error))
            self._journal.make_room()
            await asyncio.sleep(pause_s)

    async def ship_all(self) -> None:
        """Ship everything there is now.

        Raises:
            ClientError: control cannot be reached.
        """
        await ship(self._channel, self._journal, JOURNAL_PATH)
