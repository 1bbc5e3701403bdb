"""Control channel client: fetches snapshots and leases, ships the journal.

Down: the snapshot, by long poll with an ETag, verified, and kept on disk so
that a gateway starts and serves without control. Its revision only rises: an
older one is refused, wherever it comes from. What protects comes into force
even where the rest is of no use here: keys, limits, data residency. Up: the journal, in batches, at
least once; control drops what it has already by event id.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tokenschain.core.backoff import Backoff
from tokenschain.core.gateway_status import GatewayStatus, RefusedRevision
from tokenschain.core.limits import Lease, LeaseRequest
from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot import Served, Snapshot, encoding, restrictions
from tokenschain.core.snapshot.manifest import (
    KEYS_FORMAT,
    SNAPSHOT_FORMAT,
    VERSION_CHARACTERS,
    EarlierRouting,
    Manifest,
)
from tokenschain.core.snapshot.restrictions import Restrictions
from tokenschain.core.snapshot.shards import Shard, decode_shard
from tokenschain.infra.control_channel.kept_snapshot import KeptSnapshot
from tokenschain.infra.control_channel.protocol import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    GATEWAYS_PATH,
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
REPORT_S, LEAVING_REPORT_S = 5.0, 1.0
"""Between two reports to control; sooner while calls still run at an upstream that gets no more."""
REASON_CHARACTERS_MAX = 500
FREED_AT_ONCE = 32
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


async def decode_beside_calls(payload: bytes) -> Snapshot:
    """The snapshot, read in steps between which callers go on.

    Raises:
        msgspec.DecodeError: the bytes are no snapshot.
    """
    steps = encoding.decode_in_steps(payload)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            snapshot: Snapshot = end.value
            return snapshot
        # Looked through now, a step's objects are out of the collector's way for good; left to
        # itself, it looks through all of them at once.
        gc.collect(0)
        await asyncio.sleep(0)


def items_of(served: Served) -> list[object]:
    """The larger parts of the configuration in force, if there is one."""
    if not served.version:
        return []
    old = served.get()
    own = (items for t in old.tenants.values() for items in (t.models, t.virtual_models))
    maps = (old.upstreams, old.models, old.routing.models, old.sell, *own)
    return [item for items in maps for item in items.values()]


async def let_go(held: list[object]) -> None:
    """Free what is no longer served by, some at a time: it is hundreds of thousands of objects."""
    while held:
        del held[-FREED_AT_ONCE:]
        await asyncio.sleep(0)


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
        self._whole: Snapshot | None = None
        """The last snapshot that was of use here, without what restricts it by now."""
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
        self.refused: RefusedRevision | None = None
        """The latest configuration, where it cannot be used here."""
        self.check: Callable[[Snapshot], None] = lambda snapshot: None
        """Raises where the parts of this process cannot be built by a configuration."""
        self.changed: list[Callable[[], None]] = []
        """Called when another snapshot is in force."""
        self.news = asyncio.Event()
        self.configured = asyncio.Event()
        """Set when there is a configuration to serve by."""

    def _report_shipping(self, event: str, /, why: str = "", **fields: object) -> None:
        self._report(event, why, backlog_bytes=self._journal.backlog_bytes, **fields)

    @property
    def revision(self) -> int:
        """The revision that calls are routed by; 0 before the first."""
        return self._have.routing_revision if self._have is not None else 0

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
        try:
            snapshot = encoding.decode(parts[manifest.snapshot])
            whole, earlier = snapshot, manifest.earlier_routing
            if earlier is not None:
                later = restrictions.decode(parts[earlier.restrictions])
                snapshot = restrictions.restricted(whole, later, manifest.version)
            self.check(snapshot)
            shards = {n: decode_shard(parts[s]) for n, s in enumerate(manifest.shards) if s}
        except Exception as error:  # noqa: BLE001 - control has another one, or says why
            self._refuse(manifest, error)
            return
        self._served.serve(manifest.version, snapshot, shards)
        self._have, self._whole = manifest, whole
        self.configured.set()
        self._say_in_force(manifest, "disk")

    def _say_in_force(self, manifest: Manifest, source: str) -> None:
        snapshot = self._served.get()
        self._report(
            "configuration_in_force", revision=manifest.routing_revision, version=manifest.version,
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
        # One that was refused is not asked for again: the next one is waited for.
        have = self.refused.version if self.refused is not None else self._served.version
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
        """Fetch what is new of a configuration and serve by it, or keep the one in force.

        Everything is read and tried first, in steps between which callers go on; then all of it
        is in force at once.
        """
        have = self._have
        known = have.parts if have is not None else frozenset()
        if have is not None and have.earlier_routing is not None:
            known -= {have.snapshot}  # other restrictions are in force
        new = sorted(manifest.parts - known)
        parts: dict[str, bytes] = {}
        for at in range(0, len(new), PARTS_ASKED_MAX):
            parts |= await self._fetch(new[at : at + PARTS_ASKED_MAX])
        try:
            snapshot = await self._read(manifest, parts)
            shards = await self._read_keys(manifest, parts)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, calls go on
            await self._serve_what_protects(manifest, parts, error)
            return
        held = items_of(self._served) if snapshot is not None else []
        self._served.serve(manifest.version, snapshot, shards)
        self._have, self._whole = manifest, snapshot or self._whole
        self.refused = None
        self.configured.set()
        for renew in self.changed:
            renew()
        self._say_in_force(manifest, "control")
        self.news.set()
        await let_go(held)
        await asyncio.to_thread(self._kept.write, manifest, body, parts)

    async def _read(self, manifest: Manifest, parts: Mapping[str, bytes]) -> Snapshot | None:
        """The snapshot, where it is another one, ready to be served by.

        Raises:
            Exception: it cannot be used.
        """
        if manifest.format != SNAPSHOT_FORMAT:
            raise Refused(f"its format is {manifest.format}, this gateway's {SNAPSHOT_FORMAT}")
        if manifest.snapshot not in parts:
            return None
        snapshot = await decode_beside_calls(parts[manifest.snapshot])
        self.check(snapshot)
        return snapshot

    async def _read_keys(self, manifest: Manifest, parts: Mapping[str, bytes]) -> dict[int, Shard]:
        """The shards of keys that are other ones.

        Raises:
            Exception: they cannot be used.
        """
        have, shards = self._have, {}
        for number, name in enumerate(manifest.shards):
            if have is None or have.shards[number] != name:
                shards[number] = decode_shard(parts[name] if name else b"")
                await asyncio.sleep(0)
        return shards

    async def _serve_what_protects(
        self, manifest: Manifest, parts: Mapping[str, bytes], error: Exception
    ) -> None:
        """Refuse a configuration but for its keys and its restrictions, each as a whole where it
        can be read: what was revoked, closed or lowered is so whatever is wrong with the rest."""
        have, whole = self._have, self._whole
        shards: dict[int, Shard] | None = None
        later: Restrictions | None = None
        if have is not None and whole is not None and manifest.keys_format == KEYS_FORMAT:
            with contextlib.suppress(Exception):  # then they are not named among what is applied
                shards = await self._read_keys(manifest, parts)
            with contextlib.suppress(Exception):
                payload = parts.get(manifest.snapshot)
                later = (
                    restrictions.of_payload(payload) if payload else restrictions.of_snapshot(whole)
                )
            if shards is not None or later is not None:
                later_or_same = later or restrictions.of_snapshot(self._served.get())
                await self._serve_partly(have, whole, manifest, shards, later_or_same, parts)
        applied = ["keys"] * (shards is not None) + ["limits", "residency"] * (later is not None)
        self._refuse(manifest, error, tuple(applied))

    async def _serve_partly(
        self,
        have: Manifest,
        whole: Snapshot,
        manifest: Manifest,
        shards: Mapping[int, Shard] | None,
        later: Restrictions,
        parts: Mapping[str, bytes],
    ) -> None:
        """Serve by keys and restrictions of a later configuration and the routing in force; kept
        so on disk, too, as of the later revision: nothing older is taken from now on."""
        payload = restrictions.encode(later)
        name = self._suite.hex_digest(payload)
        both = f"{have.version}+{manifest.version}".encode()
        made = msgspec.structs.replace(
            have,
            version=self._suite.hex_digest(both)[:VERSION_CHARACTERS],
            shards=have.shards if shards is None else manifest.shards,
            revision=manifest.revision,
            at_ms=manifest.at_ms,
            earlier_routing=EarlierRouting(have.routing_revision, name),
        )
        snapshot = restrictions.restricted(whole, later, made.version)
        self._served.serve(made.version, snapshot, shards or {})
        self._have = made
        for renew in self.changed:
            renew()
        kept = {part: parts[part] for part in made.parts & parts.keys()} | {name: payload}
        await asyncio.to_thread(self._kept.write, made, msgspec.json.encode(made), kept)

    def _refuse(self, manifest: Manifest, error: Exception, applied: tuple[str, ...] = ()) -> None:
        why = str(error)[:REASON_CHARACTERS_MAX] or type(error).__name__
        self.refused = RefusedRevision(manifest.revision, manifest.version, why, applied)
        self._report(
            "configuration_refused", why, revision=manifest.revision, version=manifest.version,
            kept=self.revision or None, applied=list(applied),
        )  # fmt: skip
        self.news.set()

    async def report_always(self, say: Callable[[], GatewayStatus]) -> None:
        """Tell control what is in force here: now and then, and at once when that changes."""
        while True:
            self.news.clear()
            status = say()
            leaving = any(one.leaves and one.running for one in status.upstreams)
            try:
                body = msgspec.msgpack.encode(status)
                await self._channel.ask(GATEWAYS_PATH, body, _LEASE_WAITS, 65_536)
            except (ClientError, Refused):
                await asyncio.sleep(RETRY_MAX_S)  # said by who follows the snapshot
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVING_REPORT_S if leaving else REPORT_S):
                    await self.news.wait()

    async def _fetch(self, names: list[str]) -> dict[str, bytes]:
        path = f"{PARTS_PATH}?names={','.join(names)}"
        body = await self._channel.ask(path, b"", _POLL_WAITS, _SNAPSHOT_BYTES_MAX, "GET")
        found = msgspec.msgpack.decode(body, type=dict[str, bytes])
        for name in names:
            # The manifest is signed and names its parts by their hashes; hashing megabytes takes
            # milliseconds, in which callers go on.
            if not await asyncio.to_thread(self._suite.is_digest, found.get(name, b""), name):
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
