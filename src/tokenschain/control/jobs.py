"""What control does by itself: publish the snapshot, probe upstreams."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control import access, marketplace
from tokenschain.core.catalog import Catalog
from tokenschain.core.snapshot import Snapshot, Upstream
from tokenschain.infra import secrets
from tokenschain.infra.config import Settings
from tokenschain.wire.client import ClientError, HttpClient, Origin, Waits

WATCH_S = 0.25
"""How often the database is asked whether another control changed something."""
PROBE_S = 5.0
_PROBE_WAITS = Waits(
    connect_max_s=2.0, pool_max_s=2.0, first_byte_max_s=3.0, idle_max_s=3.0, total_max_s=5.0
)
_METRIC = re.compile(r"^llamacpp:(\w+) ([0-9.e+-]+)$", re.MULTILINE)


class Publisher:
    """Keeps the snapshot in step with the database and the settings."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        catalog: Catalog,
        report: Callable[[str, str], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._catalog = catalog
        self._report = report
        self._revision = -1
        self._discovered: tuple[str, ...] = ()
        self._changed = asyncio.Condition()
        self._closed = False
        self._client = HttpClient()
        self.version = ""
        self.body = b""
        self.snapshot = Snapshot("", {}, {}, {})
        self.health: dict[str, str] = {}
        self.engine_metrics: dict[str, dict[str, float]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Make the snapshot anew if its revision has moved; true when it changed."""
        with self._engine.begin() as connection:
            revision = access.revision(connection)
            if revision == self._revision:
                return False
            keys = access.grants(connection)
        upstreams, models = marketplace.routes(self._settings, self._catalog, self._discovered)
        routing = marketplace.routing(self._settings, models)
        content = msgspec.json.encode([keys, upstreams, models, routing])
        version = hashlib.sha256(content).hexdigest()[:16]
        self._revision = revision
        if version == self.version:
            return False
        self.snapshot = Snapshot(version, keys, upstreams, models, routing)
        self.version = version
        self.body = msgspec.json.encode(self.snapshot)
        return True

    async def newer_than(self, version: str, wait_s: float) -> tuple[str, bytes | None]:
        """The snapshot, or None in its place when none newer came within `wait_s`."""
        deadline = time.monotonic() + wait_s
        while self.version == version and not self._closed:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return version, None
            try:
                async with asyncio.timeout(left_s), self._changed:
                    if not self._closed:
                        await self._changed.wait()
            except TimeoutError:
                return version, None
        return self.version, None if self.version == version else self.body

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

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                changed = await asyncio.to_thread(self.refresh)
            except SQLAlchemyError as error:
                self._report("database_unavailable", type(error).__name__)
                continue
            if changed:
                async with self._changed:
                    self._changed.notify_all()

    async def _probe_all(self) -> None:
        while True:
            for upstream in list(self.snapshot.upstreams.values()):
                if upstream.provider == "local" or upstream.id == marketplace.ENGINE:
                    await self._probe(upstream)
            await asyncio.sleep(PROBE_S)

    async def _probe(self, upstream: Upstream) -> None:
        """Own engines only: a probe of a cloud would cost money."""
        try:
            models = await self._get(upstream, "/models")
            self.health[upstream.id] = "up"
            if self._settings.engine_url:
                self._discover(models)
            else:
                text = (await self._get(upstream, "/metrics", of_version=False)).decode()
                self.engine_metrics[upstream.id] = {
                    name: float(value) for name, value in _METRIC.findall(text)
                }
        except (
            ClientError,
            msgspec.DecodeError,
            UnicodeDecodeError,
            secrets.SecretMissing,
        ) as error:
            self.health[upstream.id] = f"down: {error}"

    def _discover(self, models: bytes) -> None:
        found = msgspec.json.decode(models, type=_ModelList)
        names = tuple(model.id for model in found.data)
        if names != self._discovered:
            self._discovered = names
            self._revision = -1

    async def _get(self, upstream: Upstream, path: str, *, of_version: bool = True) -> bytes:
        base = upstream.base_url if of_version else upstream.base_url.removesuffix("/v1")
        origin = Origin.of(base)
        target = "/" + base.split("://", 1)[1].partition("/")[2].strip("/") + path
        key = secrets.resolve(upstream.credentials[0]) if upstream.credentials else None
        head = (
            f"GET {target.replace('//', '/')} HTTP/1.1\r\nhost: {origin.authority}\r\n"
            + (f"authorization: Bearer {key}\r\n" if key else "")
            + "\r\n"
        )
        reply = await self._client.open(origin, head.encode("latin-1"), _PROBE_WAITS)
        body = await reply.read(1_000_000)
        if reply.status != 200:
            raise ClientError(f"HTTP {reply.status}")
        return body


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]
