"""Snapshot publisher and upstream health checks of control."""

from __future__ import annotations

import asyncio
import datetime
import re
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control import revisions
from tokenschain.control.billing import limits, pricing
from tokenschain.control.cache import rules_and_stats
from tokenschain.control.configuration import history, model_routes, tenant_rules
from tokenschain.control.configuration.changes import Configurator, State
from tokenschain.control.content import content_policies
from tokenschain.control.identity import api_keys
from tokenschain.control.moderation import freezes, offenders
from tokenschain.control.sovereignty import transfers
from tokenschain.core.backoff import Backoff
from tokenschain.core.log_events import Reporter
from tokenschain.core.routing.residency import confined
from tokenschain.core.snapshot import (
    Snapshot,
    Upstream,
    encoding,
)
from tokenschain.core.snapshot.filings import numbers_in_force
from tokenschain.core.snapshot.manifest import (
    KEYS_FORMAT,
    SNAPSHOT_FORMAT,
    VERSION_CHARACTERS,
    Manifest,
)
from tokenschain.core.snapshot.shards import SHARDS, encode_shard
from tokenschain.core.tenancy import KeyGrant
from tokenschain.infra.config import Settings
from tokenschain.infra.database.engine import first_line, reading
from tokenschain.infra.security import credentials, secrets
from tokenschain.infra.security.suite import Suite
from tokenschain.wire.client import ClientError, HttpClient, Origin, Waits
from tokenschain.wire.request_head import encode_lines

WATCH_S = 0.25
"""How often the database is asked whether another control changed something."""
ANSWER_MAX_S = 5.0
"""A database that takes longer to answer is lost until it does."""
PROBE_S = 5.0
OLD_PARTS_MAX = 64
_PROBE_WAITS = Waits(
    connect_max_s=2.0, pool_max_s=2.0, first_byte_max_s=3.0, idle_max_s=3.0, total_max_s=5.0
)
_METRIC = re.compile(r"^llamacpp:(\w+) ([0-9.e+-]+)$", re.MULTILINE)


class _Built(NamedTuple):
    """What the publisher makes of one revision of the configuration."""

    revision: int
    discovered: tuple[str, ...]
    internal: Sequence[str]
    state: State
    credentials: dict[str, bytes]


class Publisher:
    """Keeps the snapshot in step with the database and the settings."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        configurator: Configurator,
        suite: Suite,
        internal: Callable[[], Sequence[str]],
        report: Reporter,
        client: HttpClient | None = None,
    ) -> None:
        """
        Args:
            client: asks engines how they are.
            internal: the secrets that gateways share with control; stored credentials are
                published sealed by the one in force.
        """
        self._engine = engine
        self._settings = settings
        self._configurator = configurator
        self._suite = suite
        self._internal = internal
        self._sealer = credentials.sealer_of(suite, internal)
        self._report = report
        self._backoff = Backoff(time.monotonic, WATCH_S, name="database", report=report)
        self._revision = -1
        self._day = ""
        self._built: _Built | None = None
        self._changed = asyncio.Condition()
        self._closed = False
        self._client = client or HttpClient()
        self._keys: list[dict[bytes, KeyGrant]] = [{} for _ in range(SHARDS)]
        self._parts: dict[str, bytes] = {}
        self._old_parts: deque[str] = deque()
        self._shards = [""] * SHARDS
        self.changed: list[Callable[[Snapshot], None]] = []
        """Told of each new snapshot."""
        self.version = ""
        self.manifest = b""
        self.snapshot = Snapshot("", {}, {})
        self._unpublishable = ""
        """Why the last look could not be published."""
        self.health: dict[str, str] = {}
        self.engine_metrics: dict[str, dict[str, float]] = {}
        self._refresh_or_say()

    @property
    def shared_secrets(self) -> Sequence[str]:
        """The secrets that gateways share with control, the one in force first."""
        return self._internal()

    @property
    def revision(self) -> int:
        """Of what is published."""
        return self._revision

    def refresh(self) -> bool:
        """Make anew what has changed since the last time; true when anything has.

        Only keys that changed are read, and only their shards made anew: revoking one of
        100,000 keys costs what revoking one of ten does.
        """
        today = datetime.datetime.now(limits.CHINA).date()
        day = today.isoformat()
        renewed = self._built is not None and self._built.internal is not self._internal()
        with reading(self._engine) as connection:
            revision = revisions.current(connection)
            if (revision, day) == (self._revision, self._day) and not renewed:
                return False
            built = self._build(connection)
            given = built.state.given
            changed = list(api_keys.grants(connection, self._revision))
            rates, budgets = limits.all_limits(connection)
            sell = pricing.selling_prices(connection)
            cache = rules_and_stats.rules(connection, tenant_rules.cache(given))
            frozen = freezes.in_force(connection)
            suspended = offenders.in_force(connection, time.time())
            contents = content_policies.published(connection)
            stopped = transfers.in_force(connection, self._settings.sovereignty)
            usd_cny = pricing.usd_cny_micro(connection, day, given.routing.usd_cny)
        touched = set()
        for digest, grant in changed:
            self._keys[digest[0]][digest] = grant
            touched.add(digest[0])
        for number in touched:
            shard, now_s = self._keys[number], time.time()
            for digest in [one for one, grant in shard.items() if api_keys.is_over(grant, now_s)]:
                del shard[digest]
            self._shards[number] = self._keep(encode_shard(shard))
        routes = built.state.routes
        routing = confined(routes.routing, stopped)
        snapshot = Snapshot(
            "", routes.upstreams, routes.models, routing, rates, budgets, sell, usd_cny,
            cache, routes.aliases, routes.tenants, built.credentials,
            tenant_rules.moderation(given), frozen, suspended,
            numbers_in_force(given.filings.values(), today), tenant_rules.labels(given), contents,
            tenant_rules.receipts(given),
        )  # fmt: skip
        body = encoding.encode(snapshot)
        version = self._suite.hex_digest(
            b"".join((self._suite.digest(body), *map(str.encode, self._shards)))
        )[:VERSION_CHARACTERS]
        self._revision, self._day = revision, day
        same = version == self.version
        if not same:
            self.snapshot = msgspec.structs.replace(snapshot, version=version)
        part = self._keep(encoding.encode(self.snapshot))
        self.manifest = msgspec.json.encode(
            Manifest(
                version, part, tuple(self._shards), SNAPSHOT_FORMAT, revision,
                time.time_ns() // 1_000_000, KEYS_FORMAT,
            )
        )  # fmt: skip
        if same:
            return False
        self.version = version
        self._forget_old({part, *self._shards})
        for tell in self.changed:
            tell(self.snapshot)
        return True

    def _build(self, connection: Connection) -> _Built:
        """What is made of the configuration alone: anew only when that has changed."""
        internal = self._internal()
        number, discovered = history.latest(connection), self._configurator.discovered
        built = self._built
        if (
            built is not None
            and (built.revision, built.discovered) == (number, discovered)
            and built.internal is internal
        ):
            return built
        state = self._configurator.current(connection)
        secrets_of = self._configurator.secrets(connection, state)
        sealed = {
            name: self._sealer.seal_alike(credentials.place_of(name), secret)
            for name, secret in sorted(secrets_of.items())
        }
        self._built = _Built(number, discovered, internal, state, sealed)
        return self._built

    def _keep(self, payload: bytes) -> str:
        name = self._suite.hex_digest(payload)
        if name not in self._parts:
            self._old_parts.append(name)
        self._parts[name] = payload
        return name

    def _forget_old(self, live: set[str]) -> None:
        """Parts of the last versions stay a while: a gateway may be about to ask for them."""
        for _ in range(len(self._old_parts)):
            if len(self._parts) <= len(live) + OLD_PARTS_MAX:
                return
            name = self._old_parts.popleft()
            if name in live:
                self._old_parts.append(name)
            else:
                self._parts.pop(name, None)

    @property
    def database_up(self) -> bool:
        """Whether the database answered when it was asked last."""
        return not self._backoff.is_lost

    def part(self, name: str) -> bytes | None:
        """A part by the SHA-256 of its bytes; None when it is not kept any more."""
        return self._parts.get(name)

    async def newer_than(self, version: str, wait_s: float) -> tuple[str, bytes | None]:
        """The manifest, or None in its place when none newer came within `wait_s`."""
        deadline = time.monotonic() + wait_s
        while (self.version == version or not self.manifest) and not self._closed:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return version, None
            try:
                async with asyncio.timeout(left_s), self._changed:
                    if not self._closed:
                        await self._changed.wait()
            except TimeoutError:
                return version, None
        same = self.version == version or not self.manifest
        return self.version, None if same else self.manifest

    async def close(self) -> None:
        """Let waiting polls go; none waits from now on."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def run(self) -> None:
        """Watch and probe until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._probe_all())
        finally:
            self._client.close()

    async def _answered(self, refreshing: Coroutine[None, None, bool]) -> bool:
        """What a look at the database gives; that it hangs is said while it is waited for."""
        task = asyncio.ensure_future(refreshing)
        try:
            while not (await asyncio.wait({task}, timeout=ANSWER_MAX_S))[0]:
                self._backoff.failed(f"it has not answered for {ANSWER_MAX_S:g} s")
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    def _refresh_or_say(self) -> bool:
        """See `refresh`; where what is in the database cannot be published, what was goes on being
        served, and control stays there for whoever mends it."""
        try:
            changed = self.refresh()
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001
            if str(error) != self._unpublishable:
                self._report("chore_failed", f"publishing: {type(error).__name__}: {error}")
            self._unpublishable = str(error)
            return False
        self._unpublishable = ""
        return changed

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                changed = await self._answered(asyncio.to_thread(self._refresh_or_say))
            except SQLAlchemyError as error:
                self._backoff.failed(first_line(error))
                continue
            self._backoff.answered()
            if changed:
                async with self._changed:
                    self._changed.notify_all()

    async def _probe_all(self) -> None:
        while True:
            for upstream in list(self.snapshot.upstreams.values()):
                ours = upstream.provider == "local" or upstream.id == model_routes.ENGINE
                if ours and not upstream.tenant:  # a tenant's leads where control has no business
                    await self._probe(upstream)
            await asyncio.sleep(PROBE_S)

    async def _probe(self, upstream: Upstream) -> None:
        """Own engines only: a probe of a cloud would cost money."""
        try:
            models = await self._get(upstream, "/models")
            self.health[upstream.id] = "up"
            if self._settings.engine.url:
                self._discover(models)
            else:
                text = (await self._get(upstream, "/metrics", of_version=False)).decode()
                self.engine_metrics[upstream.id] = {
                    name: float(value) for name, value in _METRIC.findall(text)
                }
        except Exception as error:  # noqa: BLE001 - whatever an engine answers, control goes on
            self.health[upstream.id] = f"down: {error}"

    def _discover(self, models: bytes) -> None:
        found = msgspec.json.decode(models, type=_ModelList)
        names = tuple(model.id for model in found.data)
        if names != self._configurator.discovered:
            self._configurator.discovered = names
            self._revision = -1

    async def _get(self, upstream: Upstream, path: str, *, of_version: bool = True) -> bytes:
        base = upstream.base_url if of_version else upstream.base_url.removesuffix("/v1")
        origin = Origin.of(base)
        target = "/" + base.split("://", 1)[1].partition("/")[2].strip("/") + path
        key = secrets.resolve(upstream.credentials[0]) if upstream.credentials else None
        lines = [f"GET {target.replace('//', '/')} HTTP/1.1", f"host: {origin.authority}"]
        if key:
            lines.append(f"authorization: Bearer {key}")
        reply = await self._client.open(origin, encode_lines(lines) + b"\r\n", _PROBE_WAITS)
        body = await reply.read(1_000_000)
        if reply.status != 200:
            raise ClientError(f"HTTP {reply.status}")
        return body


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]
