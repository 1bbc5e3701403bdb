"""Wiring of a gateway worker: build, run, drain."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import uvloop

from tokenschain import __version__
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.redaction import Redactor
from tokenschain.core.routing.admission import Priority
from tokenschain.core.routing.health import Health
from tokenschain.core.routing.shared_load import SharedLoad
from tokenschain.core.snapshot import Served, Snapshot, Upstream
from tokenschain.gateway.api.app import ApiSettings, Gateway
from tokenschain.gateway.api.appeals import Appeals
from tokenschain.gateway.auth import KeyAuth
from tokenschain.gateway.cache.lookup import ResponseCache
from tokenschain.gateway.cache.semantic_client import SemanticClient
from tokenschain.gateway.conversation_state import StoredConversationState
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.gauges import upstream_gauges
from tokenschain.gateway.dispatch.health_probes import Probes
from tokenschain.gateway.dispatch.health_sharing import SharedHealth
from tokenschain.gateway.dispatch.request_batching import Batching
from tokenschain.gateway.dispatch.router import Router, check_policies
from tokenschain.gateway.dispatch.upstream_status import upstream_statuses, variables_of
from tokenschain.gateway.metering import JournalMetering
from tokenschain.gateway.moderation.content_recording import ContentRecording
from tokenschain.gateway.moderation.step import ModerationStep
from tokenschain.gateway.pipeline import Steps
from tokenschain.gateway.quota.leases import BUDGETS_DRAW_MAX_S, RATES_DRAW_MAX_S, Draw, Leases
from tokenschain.gateway.quota.reservation import LimitQuota
from tokenschain.infra import descriptors, hardening, log, process_tuning
from tokenschain.infra.access_log import AccessLog
from tokenschain.infra.background import kept_up
from tokenschain.infra.call_numbers import CallNumbers
from tokenschain.infra.config import ENV_PREFIX, ServerSettings, Settings
from tokenschain.infra.control_channel import appeals
from tokenschain.infra.control_channel.client import Channel, LeaseStream, Uplink
from tokenschain.infra.control_channel.content_spool import ContentSpool
from tokenschain.infra.control_channel.kept_snapshot import KeptSnapshot
from tokenschain.infra.control_channel.response_store import ResponseStore
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.control_channel.signed_client import Refused, SignedClient
from tokenschain.infra.egress import PublicResolver, upstream_tls
from tokenschain.infra.egress_rules import Egress, upstreams_of
from tokenschain.infra.gateway_status_files import keep_status, status_path
from tokenschain.infra.heartbeat import beat, heartbeat_path
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import PackFolder, character_tables, today
from tokenschain.infra.off_loop import WorkThread
from tokenschain.infra.private_hosts import PrivateHosts
from tokenschain.infra.redis.cache import RedisCacheStore
from tokenschain.infra.redis.connection import REDIS_FAILURES
from tokenschain.infra.redis.pubsub import RedisPubSub
from tokenschain.infra.redis.rate_limits import RedisRateLimits
from tokenschain.infra.security import case_texts, receipts, rotation, self_test
from tokenschain.infra.security.credentials import UpstreamCredentials
from tokenschain.infra.security.secret_files import SecretFile, check_access, read_or_make
from tokenschain.infra.security.suite import Sealer
from tokenschain.infra.telemetry import GatewayMetrics, Gauges, resident_bytes
from tokenschain.providers.credential_pool import KeyState
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.moderation.cloud_engine import EngineClock
from tokenschain.providers.moderation.engine_table import ModerationEngines
from tokenschain.providers.moderation.verdict_cache import VerdictCache
from tokenschain.providers.openai_compat import HttpUpstreams
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget
from tokenschain.providers.vendor_table import VENDORS, vendor_of
from tokenschain.wire.client import ClientError
from tokenschain.wire.server import HttpServer, Limits
from tokenschain.wiring import key_stores

_LEAVE_METRICS_S = 1.0
_REFRESH_KEYS_S = 2.0
_LOOK_FOR_KEYS_S = 0.25
_SHIP_RESPONSES_S = 1.0
_LAST_SHIPMENT_MAX_S = 5.0
_CONTROL_AWAY = (ClientError, Refused)
"""What a call of control raises when control is away."""
_JOIN_MAX_S = 10.0
"""How long a worker waits for its first configuration before it answers probes without one."""


def run(settings: Settings, worker: int) -> None:
    """Serve until SIGTERM or SIGINT; then drain, ship the journal and return."""
    log.configure(settings.log_format, settings.node_name)
    descriptors.raise_limit()
    process_tuning.tune()
    uvloop.run(_serve(settings, worker))


async def _serve(settings: Settings, worker: int) -> None:
    await GatewayWorker(settings, worker).run()


class GatewayWorker:
    """One worker's parts: built in `__init__`, served by `run`, ended by `_drain`."""

    def __init__(self, settings: Settings, worker: int) -> None:
        self._settings = settings
        self._worker = worker
        self._served = Served()
        self._credentials_of: Callable[[], frozenset[str]] = frozenset
        self._engine_secrets_of: Callable[[], frozenset[str]] = frozenset
        self._redactor = Redactor(self._credentials, PrivateHosts(settings, self._served).names)
        log.configure(settings.log_format, settings.node_name, self._redactor.secret_free)
        self._log = log.get(process=f"gateway-{worker}")
        self._report = log.EventLog(self._log)
        # Another name each time: what an earlier process held is not this one's.
        unique = os.urandom(4).hex()
        self._name = f"{settings.node_name}-{worker}-{unique}"
        self._suite = self_test.suite_in_force(settings.crypto.suite)
        self._secrets = SecretFile(settings.internal_secret_path, self._report)
        self._signatures = Signatures(self._suite, self._secrets, time.time)
        self._tasks: list[asyncio.Task[None]] = []
        self._off_loop = WorkThread("long bodies")
        self._build_channel(settings.data_dir / "gateway", str(worker))
        self._build_dispatch()
        self._build_shared_health()
        self._build_quota()
        self._build_cache()
        self._build_moderation_engines()
        self._build_moderation()
        self._build_api()

    # --- build ---------------------------------------------------------------------------

    def _build_channel(self, folder: Path, worker: str) -> None:
        """The way to control, and what waits on disk while there is none."""
        settings = self._settings
        limits = JournalLimits(total_bytes_max=settings.journal.total_bytes_max)
        self._journal = Journal(folder / "journal" / worker, limits)
        self._numbers = CallNumbers(folder / "call-numbers" / worker, self._name, self._journal)
        self._egress = Egress(settings, self._report, partial(upstreams_of, self._served))
        self._egress.hold()
        self._client = self._egress.operators_client()
        self._channel = Channel(settings.control_base_url, self._signatures, self._client)
        self._responses = ResponseStore(self._channel, folder / "responses" / worker)
        self._contents = ContentSpool(
            self._channel, folder / "contents" / worker, self._suite, self._secrets, self._report
        )
        self._memory = StoredConversationState(
            self._responses, self._response_not_kept, self._off_loop
        )
        self._uplink = Uplink(
            self._channel,
            self._served,
            self._journal,
            KeptSnapshot(folder, worker, self._suite, self._signatures, self._report),
            self._suite,
            self._report,
            settings.journal.ship_interval_s,
        )
        self._uplink.start_from_disk()
        self._access_log: AccessLog | None = None
        if settings.server.access_log:
            self._access_log = AccessLog(
                settings.server.access_log,
                settings.node_name,
                f"gateway-{worker}",
                self._redactor.secret_free,
                self._report,
            )
        self._metrics = GatewayMetrics(
            worker, folder / "metrics", self._gauges, self._is_model, self._report.counts
        )

    def _build_dispatch(self) -> None:
        """What chooses an upstream and asks it."""
        settings = self._settings
        networks, tls = settings.egress.image_networks, upstream_tls(settings.egress.ca_file)
        allowed = [ip_network(network) for network in networks]
        self._image_client = self._egress.client(tls=tls, resolver=PublicResolver(allowed))
        self._outside = self._egress.outside_client()
        self._vault = key_stores.vault(settings, self._suite, self._report)
        self._secret_of = UpstreamCredentials(
            self._suite, self._secrets, self._vault, self._served, self._report
        ).find
        self._upstreams = HttpUpstreams(
            self._client,
            self._secret_of,
            vendor_of,
            self._key_changed,
            ImageFetcher(self._image_client, settings.egress.image_bytes_total_max, self._off_loop),
            self._off_loop,
            self._outside,
            ReplyBudget(settings.egress.reply_bytes_total_max),
        )
        self._credentials_of = self._upstreams.credentials
        self._router = Router(
            self._served,
            time.monotonic,
            time.time,
            random.random,
            self._settings.server.not_found_per_minute_max,
            self._settings.sovereignty.mode,
        )
        self._router.keyless_of = self._without_key
        self._without_key_before: frozenset[str] = frozenset()
        self._dispatch = Dispatch(
            self._router, self._upstreams, time.monotonic, random.random, self._report
        )
        self._dispatch.health.note = self._upstream_error
        self._uplink.check = self._check_configuration
        self._uplink.changed.append(self._dispatch.reconfigure)
        self._dispatch.wait_queue.observe = self._metrics.waited
        self._probes = Probes(
            self._router,
            self._dispatch.health,
            time.monotonic,
            self._upstreams.probe,
            self._report,
        )

    def _build_shared_health(self) -> None:
        """What gateways tell each other of upstreams, where there is a Redis."""
        url = self._settings.redis.url
        self._pubsub = RedisPubSub(url) if url else None
        self._shared: SharedHealth | None = None
        if self._pubsub is not None:
            self._shared = SharedHealth(
                self._pubsub,
                REDIS_FAILURES,
                self._healths,
                time.monotonic,
                self._report,
                self._name,
                self._upstreams.heard,
                SharedLoad(lambda: self._router.endpoints_by_key),
            )
            self._dispatch.health.publish = self._shared.publish

    def _build_quota(self) -> None:
        """Rate limits and budgets: budgets leased from control, rates from Redis or control."""
        settings = self._settings
        self._budgets = self._leases(
            self._draws("budgets"), _CONTROL_AWAY, "budget_leases", BUDGETS_DRAW_MAX_S
        )
        self._redis_rates: RedisRateLimits | None = None
        self._rates: Leases | None = None
        if settings.redis.url:
            self._redis_rates = RedisRateLimits(settings.redis.url, self._served, self._name)
            self._rates = self._leases(
                self._redis_rates.draw, REDIS_FAILURES, "rate_leases", RATES_DRAW_MAX_S
            )
        elif settings.gateway_processes > 1:
            self._rates = self._leases(
                self._draws("rates"), _CONTROL_AWAY, "rate_leases", RATES_DRAW_MAX_S
            )
        self._quota = LimitQuota(
            self._served,
            time.monotonic,
            time.time,
            self._router.load,
            self._rates,
            self._budgets,
            self._gateways_alive,
            frozenset(name for name, vendor in VENDORS.items() if not vendor.caps_output),
            self._report,
            {name: vendor.picture_tokens for name, vendor in VENDORS.items()},
        )

    def _leases(
        self,
        draw: Draw,
        failures: tuple[type[Exception], ...],
        store: str,
        wait_max_s: float,
    ) -> Leases:
        return Leases(draw, failures, time.monotonic, time.time, self._report, store, wait_max_s)

    def _keyed_digest(self, purpose: bytes) -> Callable[[bytes], bytes]:
        return partial(self._suite.keyed_digest, self._suite.derive(self._secrets()[0], purpose))

    def _build_cache(self) -> None:
        """The response cache: in memory, shared by Redis, semantic where the settings ask."""
        settings = self._settings
        self._cache_store: RedisCacheStore | None = None
        if settings.redis.url:
            sealer = Sealer(
                self._suite, self._secrets, lambda suite, secret: suite.derive(secret, b"shelf")
            )
            self._cache_store = RedisCacheStore(settings.redis.url, sealer)
        asks = SignedClient(settings.semantic_base_url, self._signatures, self._client)
        self._semantic = SemanticClient(
            asks.ask, _CONTROL_AWAY, time.monotonic, self._report,
            settings.cache.find_wait_max_s, (Refused,),
        )  # fmt: skip
        # Residency says whether a call's texts may go to the models elsewhere that compare them.
        models = (settings.cache.judge, settings.cache.embedder)
        zones = frozenset(one.zone for one in models if one is not None)
        may_compare = partial(self._router.may_go_to, zones) if zones else None
        self._cache = ResponseCache(
            self._served,
            self._keyed_digest(b"cache"),
            time.time,
            random.random,
            self._cache_store,
            REDIS_FAILURES,
            self._semantic,
            self._off_loop,
            may_compare,
        )

    def _build_moderation_engines(self) -> None:
        """The clouds' moderation, as the settings name it."""
        self._rule_library = RuleLibrary(character_tables, today, load_classifier, time.monotonic)
        self._moderation_engines = ModerationEngines(
            self._settings.moderation,
            self._client,
            self._secret_of,
            VerdictCache(self._suite.digest, self._rule_library.normal),
            EngineClock(time.monotonic, time.time, random.random, lambda: os.urandom(16).hex()),
            self._report,
        )
        self._engine_secrets_of = self._moderation_engines.secrets

    def _build_moderation(self) -> None:
        """Moderation: policies of the snapshot, packs of a folder."""
        settings = self._settings
        self._seal = case_texts.seal_of(self._suite, self._secrets)
        library, engines = self._rule_library, self._moderation_engines
        self._packs = PackFolder(
            settings.moderation_packs_path, settings.moderation.pack_keys, library, self._report
        )
        self._packs.load()
        self._moderation = ModerationStep(
            self._served, library, self._keyed_digest(b"moderation"), engines, self._seal,
            self._off_loop,
            lambda name, *of: self._router.may_go_to(engines.zones(name), *of),
            partial(ContentRecording, self._contents),
        )  # fmt: skip

    def _build_api(self) -> None:
        """The pipeline's steps, the API over them, and its server."""
        server = self._settings.server
        self._auth = auth = KeyAuth(
            self._served, self._suite.digest, time.time, server.invalid_keys_per_minute_max,
            self._report, [suite.digest for suite in self._suite.others()],
        )  # fmt: skip
        recorded = self._recorded if self._access_log is None else self._recorded_and_logged
        metering = JournalMetering(
            self._journal, JournalFull, recorded, self._served, self._name, self._numbers.slots,
            receipts.issuer(self._suite, self._secrets, self._name),
            self._keyed_digest(b"people"),
        )  # fmt: skip
        steps = Steps(
            metering=metering,
            auth=auth,
            conversation=self._memory,
            routing=self._router,
            quota=self._quota,
            moderation=self._moderation,
            cache=self._cache,
            opening=Batching(self._dispatch, time.monotonic),
            off_loop=self._off_loop,
        )
        self._gateway = Gateway(
            steps,
            auth,
            self._served,
            self._metrics.text,
            read_or_make(self._settings.metrics_token_path)[0],
            self._fault,
            ApiSettings(
                server.heartbeat_s,
                server.cors_origins,
                server.cancel_revoked_calls,
                server.reads_per_minute_max,
                server.not_found_per_minute_max,
            ),
            self._memory,
            self._redactor.text,
            Appeals(
                self._journal.append, JournalFull, self._seal, partial(appeals.find, self._channel)
            ),
        )
        self._gateway.journal_ok = self._has_room
        self._gateway.refused = self._refused
        proxies = [ip_network(network) for network in server.trusted_proxies]
        self._server = HttpServer(
            self._gateway.answer, self._gateway.refusal, _limits(server), proxies
        )
        self._server.at_head = self._gateway.at_head

    # --- run -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        server = self._settings.server
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        async with asyncio.TaskGroup() as background:
            self._tasks = [
                background.create_task(kept_up(work, self._report)) for work in self._background()
            ]
            if server.workers > 1:
                # A sibling may have the port already: calls are its until this one can serve them.
                await _any_of([self._uplink.configured, stopping], _JOIN_MAX_S)
            tls = _server_tls(self._settings)
            port = await self._server.listen(server.host, server.port, reuse_port=True, tls=tls)
            self._log.info("listening", host=server.host, port=port)
            await stopping.wait()
            self._gateway.draining = True
            cut = await self._server.drain(server.drain_max_s)
            for task in self._tasks:
                task.cancel()
        await self._drain()
        self._log.info("stopped", calls_cut=cut)

    def _background(self) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
        """What goes on beside the calls."""
        yield self._uplink.follow_snapshot
        yield partial(self._uplink.report_always, self.status)
        yield self._uplink.ship_journal
        yield self._gateway.keep_streams_alive
        yield self._gateway.cancel_revoked_calls
        yield partial(_leave_metrics, self._metrics)
        yield self._refresh_keys
        yield partial(self._responses.ship_always, _SHIP_RESPONSES_S)
        yield self._contents.ship_always
        yield partial(beat, heartbeat_path(self._settings.data_dir, self._worker))
        yield partial(keep_status, status_path(self._settings.data_dir, self._worker), self.status)
        yield self._budgets.run
        yield self._probes.run
        yield self._packs.watch
        yield self._semantic.run
        if self._access_log is not None:
            yield self._access_log.run
        if self._cache_store is not None:
            yield self._cache.ship
        if self._rates is not None:
            yield self._rates.run
        if self._shared is not None:
            yield self._shared.run

    # --- drain ---------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Ship what control has not got yet, then let go of everything."""
        self._numbers.stop()
        try:
            async with asyncio.timeout(_LAST_SHIPMENT_MAX_S):
                await self._uplink.ship_all()
                await self._responses.ship()
                await self._contents.ship()
        except Exception as error:  # noqa: BLE001 - what is not shipped now waits on disk
            self._report(
                "journal_kept",
                str(error) or type(error).__name__,
                backlog_bytes=self._journal.backlog_bytes,
            )
        for connected in (self._redis_rates, self._pubsub, self._cache_store):
            if connected is not None:
                await connected.close()
        if self._access_log is not None:
            await self._access_log.close()
        for one in (self._client, self._image_client, self._outside):
            one.close()
        for kept in (self._journal, self._responses, self._contents):
            kept.close()

    # --- what the parts ask and report ------------------------------------------------------

    def _recorded(self, record: CallRecord) -> None:
        """A call is over: counted, and said where the platform failed it."""
        self._metrics.observe(record)
        if record.error == "translation_failed":
            self._log.error(
                "translation_failed",
                call=record.event_id, api=record.api, upstream=record.upstream,
                model=record.model_served,
            )  # fmt: skip

    def _refused(self, name: str, error: ApiError) -> None:
        """A request was refused that never became a call."""
        self._metrics.refused(error.code)
        if self._access_log is not None:
            now_ms = time.time_ns() // 1_000_000
            record = CallRecord(name, now_ms, "", status=error.status, outcome=error.code)
            record.error = error.code
            self._access_log.note(record)

    def _recorded_and_logged(self, record: CallRecord) -> None:
        self._recorded(record)
        assert self._access_log is not None, "chosen only where there is one"
        self._access_log.note(record)

    def _without_key(self, upstreams: Iterable[Upstream]) -> frozenset[str]:
        """Which upstreams no key can be had for; each is said once, when that begins or ends."""
        now = self._upstreams.without_key(upstreams)
        for name in sorted(now - self._without_key_before):
            self._report("upstream_without_key", upstream=name)
        for name in sorted(self._without_key_before - now):
            self._report("upstream_has_key", upstream=name)
        self._without_key_before = now
        return now

    async def _refresh_keys(self) -> None:
        """Keys are read again now and then, and at once when a configuration may have new ones."""
        version, read_at = self._served.version, time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_FOR_KEYS_S)
            now = time.monotonic()
            if self._served.version != version or now - read_at >= _REFRESH_KEYS_S:
                version, read_at = self._served.version, now
                await self._upstreams.refresh_keys()
                self._moderation_engines.refresh()
                self._router.note_keys()
                self._dispatch.forget_gone()
                if self._router.upstreams:
                    self._upstreams.keep_only(self._router.upstreams)

    def _gauges(self) -> Gauges:
        """Read at each scrape."""
        queue = self._dispatch.wait_queue
        states = self._upstreams.key_states()
        keys = {name: [str(key.state) for key in found] for name, found in states.items()}
        known, now = self._served.get().upstreams if self._served.version else {}, time.monotonic()
        plain = {
            "connections": len(self._server.connections),
            "running_calls": self._gateway.running,
            "cached_answers": self._cache.entries,
            "cached_bytes": self._cache.bytes_held,
            "journal_unshipped_bytes": self._journal.backlog_bytes,
            "snapshot_revision": self._uplink.revision,
            "snapshot_age_seconds": now - self._uplink.heard_at,
            "resident_bytes": resident_bytes(),
            "access_log_dropped": 0 if self._access_log is None else self._access_log.dropped,
        }
        return {
            **{name: {"": value} for name, value in plain.items()},
            "waiting_calls": {p.name.lower(): queue.waiting_of(p) for p in Priority},
            "retry_budget": {m: b.left(now) for m, b in self._dispatch.retry_budgets.items()},
            **upstream_gauges(known, self._router, keys, now),
        }

    def _is_model(self, name: str) -> bool:
        snapshot = self._served.get()
        return (
            name in snapshot.models or name in snapshot.routing.models or name in snapshot.aliases
        )

    def status(self) -> GatewayStatus:
        """What this worker says of itself; see `core.gateway_status`."""
        now, uplink = time.monotonic(), self._uplink
        lost = {"control": uplink.control_lost, "budgets": self._budgets.lost,
                "semantic": self._semantic.lost}  # fmt: skip
        if self._rates is not None:
            lost["redis" if self._redis_rates else "rates"] = self._rates.lost
        return GatewayStatus(
            name=self._name,
            worker=self._worker,
            pid=os.getpid(),
            version=__version__,
            at_s=time.time(),
            revision=uplink.revision,
            snapshot_age_s=round(now - uplink.heard_at, 3),
            journal_backlog_bytes=self._journal.backlog_bytes,
            journal_bytes_max=self._journal.limits.total_bytes_max,
            journal_lag_s=round(now - uplink.shipped_at, 3),
            waiting=self._dispatch.wait_queue.waiting,
            packs=self._packs.statuses,
            words_missing=self._packs.words_missing,
            engines=(self._rule_library.status(), *self._moderation_engines.statuses()),
            upstreams=upstream_statuses(
                self._router, self._dispatch.health, self._upstreams.key_states(), now
            ),
            lost={name: why for name, why in lost.items() if why is not None},
            refused=uplink.refused,
            refused_keys=self._auth.refused_keys,
            variables=self._variables(),
            set_variables=hardening.secret_variables(os.environ, ENV_PREFIX),
            secrets=rotation.secrets_of(self._secrets(), self._vault.fingerprints()),
        )

    def _variables(self) -> tuple[str, ...]:
        served = self._served
        return variables_of(served.get().upstreams.values()) if served.version else ()

    def _check_configuration(self, snapshot: Snapshot) -> None:
        """
        Raises:
            ValueError: this worker's parts cannot be built by it.
        """
        check_policies(snapshot.routing)
        for upstream in snapshot.upstreams.values():
            self._upstreams.check(upstream)

    def _has_room(self) -> bool:
        """Whether the journal takes another record."""
        try:
            self._journal.check_room()
        except JournalFull:
            return False
        return True

    def _healths(self) -> Mapping[str, Health]:
        return self._router.healths

    def _gateways_alive(self) -> int:
        """How many processes share a rate."""
        if self._redis_rates is not None:
            return self._redis_rates.gateways
        return self._settings.gateway_processes

    def _draws(self, stream: str) -> Draw:
        return LeaseStream(self._channel, self._name, stream).draw

    def _key_changed(
        self, upstream: str, number: int, state: KeyState, for_s: float, why: str
    ) -> None:
        how_long = {"rested_s" if state is KeyState.READY else "retry_in_s": round(for_s, 1)}
        self._report(f"upstream_key_{state}", why, upstream=upstream, key=number, **how_long)
        if self._shared is not None and state is not KeyState.READY:
            self._shared.publish(upstream, state, for_s, number)

    def _upstream_error(self, upstream: str, call: str, error: ApiError) -> None:
        """What the caller is not told of a failure."""
        self._report("upstream_error", error.detail, upstream=upstream, call=call, code=error.code)

    def _credentials(self) -> frozenset[str]:
        """What no text may hold, for callers or in the log."""
        return self._credentials_of() | self._engine_secrets_of()

    def _response_not_kept(self, name: str) -> None:
        self._report("response_not_kept", id=name)

    def _fault(self, call_id: str, fault: BaseException) -> None:
        self._log.error("fault", call=call_id, exc_info=fault)


def _limits(server: ServerSettings) -> Limits:
    """The bounds of callers' connections and requests; both have the same names."""
    connections_max = min(server.connections_max, descriptors.for_callers())
    return Limits(
        head_bytes_max=server.head_bytes_max,
        headers_max=server.headers_max,
        body_bytes_max=server.body_bytes_max,
        head_wait_max_s=server.head_wait_max_s,
        body_grace_s=server.body_grace_s,
        body_rate_min=server.body_rate_min,
        idle_max_s=server.idle_max_s,
        write_stall_max_s=server.write_stall_max_s,
        body_bytes_total_max=max(server.body_bytes_total_max, server.body_bytes_max),
        body_bytes_per_address_max=max(server.body_bytes_per_address_max, server.body_bytes_max),
        connections_max=connections_max,
        connections_per_address_max=min(
            server.connections_per_address_max, max(1, connections_max * 3 // 4)
        ),
    )


async def _any_of(events: list[asyncio.Event], wait_max_s: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=wait_max_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _leave_metrics(metrics: GatewayMetrics) -> None:
    while True:
        await asyncio.sleep(_LEAVE_METRICS_S)
        metrics.leave()


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    """How callers are served over HTTPS; None without a certificate.

    Raises:
        SecretFileRefused: others may read or change the file of the key.
    """
    if settings.tls.certificate_file is None:
        return None
    assert settings.tls.key_file is not None  # both are set, or none
    check_access(settings.tls.key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls.certificate_file, settings.tls.key_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
