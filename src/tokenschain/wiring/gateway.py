"""A gateway worker: the data plane."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import signal
import socket
import ssl
import time
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import uvloop

from tokenschain.core.errors import wire_refusal
from tokenschain.core.ports import NoModeration
from tokenschain.core.snapshot import Served
from tokenschain.gateway.api.app import ApiSettings, Gateway
from tokenschain.gateway.auth import KeyAuth
from tokenschain.gateway.cache.lookup import ResponseCache
from tokenschain.gateway.cache.semantic_client import SemanticClient
from tokenschain.gateway.conversation_state import ConversationState
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.health_probes import Probes
from tokenschain.gateway.dispatch.health_sharing import SharedHealth
from tokenschain.gateway.dispatch.request_batching import Batching
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.metering import JournalMetering
from tokenschain.gateway.pipeline import Steps
from tokenschain.gateway.quota.leases import BUDGETS_DRAW_MAX_S, RATES_DRAW_MAX_S, Leases
from tokenschain.gateway.quota.reservation import LimitQuota
from tokenschain.infra import log
from tokenschain.infra.config import Settings
from tokenschain.infra.control_channel.client import Channel, Uplink
from tokenschain.infra.control_channel.response_store import ResponseStore
from tokenschain.infra.control_channel.signed_client import Refused, SignedClient
from tokenschain.infra.egress import PublicResolver
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits
from tokenschain.infra.redis.cache import RedisCacheStore
from tokenschain.infra.redis.connection import REDIS_FAILURES
from tokenschain.infra.redis.pubsub import RedisPubSub
from tokenschain.infra.redis.rate_limits import RedisRateLimits
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer, Signer
from tokenschain.infra.telemetry import GatewayMetrics, resident_bytes
from tokenschain.providers.credential_pool import KeyState
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat import Upstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import ClientError, HttpClient
from tokenschain.wire.server import HttpServer, Limits

_GC_THRESHOLDS = (20_000, 20, 20)
"""A call allocates some hundred objects, nearly all freed by count; the default of
700 would look for cycles several times a call's worth of work."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BLOCK_BYTES = 262_144
_LEAVE_METRICS_S = 1.0
_REFRESH_KEYS_S = 2.0
_SHIP_RESPONSES_S = 1.0
_LAST_SHIPMENT_MAX_S = 5.0
_JOIN_MAX_S = 10.0
"""How long a worker waits for its first configuration before it answers probes without one."""


def run(settings: Settings, worker: int) -> None:
    """Serve until SIGTERM or SIGINT; then drain, ship the journal and return."""
    log.configure(settings.log_format)
    # glibc raises these two by itself as large blocks are freed, and then keeps what
    # ten-megabyte bodies leave behind.
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BLOCK_BYTES)
    # What is loaded by now stays for good; looking through it again is waste.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    uvloop.run(_gateway_worker(settings, worker))


async def _gateway_worker(settings: Settings, worker: int) -> None:
    logger = log.get(process=f"gateway-{worker}")
    # Another name each time: what an earlier process held is not this one's.
    name = f"{socket.gethostname()[:40]}-{settings.server.port}-{worker}-{os.urandom(4).hex()}"
    folder = settings.data_dir / "gateway"
    suite = INTERNATIONAL
    secret = secrets.read_or_make(settings.internal_secret_path)
    signer = Signer(suite, secret)
    served = Served()
    journal = Journal(
        folder / "journal" / str(worker),
        JournalLimits(total_bytes_max=settings.journal.total_bytes_max),
    )
    client = HttpClient(tls=_upstream_tls(settings.egress.ca_file), proxy=settings.egress.proxy)
    channel = Channel(settings.control_base_url, signer, client)
    store = ResponseStore(channel, folder / "responses" / str(worker))
    memory = ConversationState(store, lambda name: logger.warning("response_not_kept", id=name))
    uplink = Uplink(
        channel,
        served,
        journal,
        folder / "snapshot" / str(worker),
        suite,
        lambda event, why: logger.warning(event, why=why),
        settings.journal.ship_interval_s,
    )
    uplink.start_from_disk()

    auth = KeyAuth(served, suite.digest, time.time)
    metrics = GatewayMetrics(
        str(worker),
        folder / "metrics",
        lambda: {
            "connections": len(server.connections),
            "running_calls": gateway.running,
            "waiting_calls": dispatch.wait_queue.waiting,
            "cached_answers": cache.entries,
            "cached_bytes": cache.bytes_held,
            "journal_unshipped_bytes": journal.unshipped_bytes,
            "snapshot_age_seconds": time.monotonic() - uplink.heard_at,
            "resident_bytes": resident_bytes(),
        },
    )
    image_client = HttpClient(
        tls=_upstream_tls(settings.egress.ca_file),
        resolver=PublicResolver(
            [ip_network(network) for network in settings.egress.image_networks]
        ),
    )

    def key_changed(upstream: str, number: int, state: KeyState, for_s: float) -> None:
        logger.warning(f"upstream_key_{state}", upstream=upstream, key=number)
        if shared is not None and state is not KeyState.READY:
            shared.publish(upstream, state, for_s, number)

    vault = secrets.Vault(settings.vault_path, settings.master_key_path, suite)
    upstreams = Upstreams(
        client,
        lambda reference: _secret_of(reference, vault),
        vendor_of,
        key_changed,
        ImageFetcher(image_client),
    )
    router = Router(served, time.monotonic, time.time, random.random)
    breaker = lambda upstream, state: logger.warning(  # noqa: E731
        f"breaker_{state}", upstream=upstream
    )
    dispatch = Dispatch(router, upstreams, time.monotonic, random.random, breaker)
    probes = Probes(router, dispatch.health, time.monotonic, upstreams.probe, breaker)
    pubsub = RedisPubSub(settings.redis.url) if settings.redis.url else None
    shared: SharedHealth | None = None
    if pubsub is not None:
        shared = SharedHealth(
            pubsub, REDIS_FAILURES, lambda: router.healths, time.monotonic, breaker, name,
            upstreams.heard,
        )  # fmt: skip
        dispatch.health.publish = shared.publish
    report = lambda event, why: logger.warning(event, why=why)  # noqa: E731
    store_errors = (ClientError, Refused)
    budgets = Leases(
        lambda requests: channel.draw(name, requests), store_errors, time.monotonic, time.time,
        report,
        "budgets", BUDGETS_DRAW_MAX_S,
    )  # fmt: skip
    redis = RedisRateLimits(settings.redis.url, served, name) if settings.redis.url else None
    rates: Leases | None = None
    if redis is not None:
        rates = Leases(
            redis.draw, REDIS_FAILURES, time.monotonic, time.time, report, "redis",
            RATES_DRAW_MAX_S,
        )  # fmt: skip
    elif settings.server.workers * settings.server.gateways > 1:
        rates = Leases(
            lambda requests: channel.draw(name, requests), store_errors, time.monotonic, time.time,
        report,
            "rates", RATES_DRAW_MAX_S,
        )  # fmt: skip
    quota = LimitQuota(
        served,
        time.monotonic,
        time.time,
        router.load,
        rates,
        budgets,
        lambda: (
            redis.gateways
            if redis is not None
            else settings.server.workers * settings.server.gateways
        ),
    )
    cache_store = (
        RedisCacheStore(settings.redis.url, Sealer(suite, suite.derive(secret, b"shelf")))
        if settings.redis.url
        else None
    )
    meaning: SemanticClient | None = None
    if settings.cache.compares_meanings:
        asks = SignedClient(
            f"http://{settings.semantic.host}:{settings.semantic.port}", signer, client
        )
        meaning = SemanticClient(
            asks.ask, store_errors, time.monotonic, report, settings.cache.find_wait_max_s
        )
    cache = ResponseCache(
        served, partial(suite.keyed_digest, suite.derive(secret, b"cache")), time.time,
        random.random, cache_store, REDIS_FAILURES, meaning,
    )  # fmt: skip
    steps = Steps(
        metering=JournalMetering(journal, JournalFull, metrics.observe, served, name),
        auth=auth,
        conversation=memory,
        routing=router,
        quota=quota,
        moderation=NoModeration(),
        cache=cache,
        opening=Batching(dispatch, time.monotonic),
    )
    gateway = Gateway(
        steps,
        auth,
        served,
        metrics.text,
        lambda call_id, fault: logger.error("fault", call=call_id, exc_info=fault),
        ApiSettings(settings.server.heartbeat_s, settings.server.cors_origins),
        memory,
    )
    gateway.journal_ok = lambda: _has_room(journal)
    server = HttpServer(
        gateway,
        wire_refusal,
        Limits(
            head_bytes_max=settings.server.head_bytes_max,
            headers_max=settings.server.headers_max,
            body_bytes_max=settings.server.body_bytes_max,
            head_wait_max_s=settings.server.head_wait_max_s,
            body_grace_s=settings.server.body_grace_s,
            body_rate_min=settings.server.body_rate_min,
            idle_max_s=settings.server.idle_max_s,
            write_stall_max_s=settings.server.write_stall_max_s,
            connections_max=settings.server.connections_max,
        ),
        [ip_network(network) for network in settings.server.trusted_proxies],
    )

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as background:
        running = [
            background.create_task(uplink.follow_snapshot()),
            background.create_task(uplink.ship_journal()),
            background.create_task(gateway.keep_streams_alive()),
            background.create_task(_leave_metrics(metrics)),
            background.create_task(_refresh_keys(upstreams)),
            background.create_task(_ship_responses(store)),
            background.create_task(budgets.run()),
            background.create_task(probes.run()),
            *([background.create_task(cache.ship())] if cache_store is not None else []),
            *([background.create_task(meaning.run())] if meaning is not None else []),
            *([background.create_task(rates.run())] if rates is not None else []),
            *([background.create_task(shared.run())] if shared is not None else []),
        ]
        if settings.server.workers > 1:
            # A sibling may have the port already: calls are its until this one can serve them.
            await _any_of([uplink.configured, stopping], _JOIN_MAX_S)
        port = await server.listen(
            settings.server.host, settings.server.port, reuse_port=True, tls=_server_tls(settings)
        )
        logger.info("listening", host=settings.server.host, port=port)
        await stopping.wait()
        gateway.draining = True
        cut = await server.drain(settings.server.drain_max_s)
        for task in running:
            task.cancel()
    try:
        async with asyncio.timeout(_LAST_SHIPMENT_MAX_S):
            await uplink.ship_all()
            await store.ship()
    except Exception as error:  # noqa: BLE001 - what is not shipped now waits on disk
        logger.warning("journal_kept", why=str(error))
    for connected in (redis, pubsub, cache_store):
        if connected is not None:
            await connected.close()
    client.close()
    image_client.close()
    journal.close()
    store.close()
    logger.info("stopped", calls_cut=cut)


async def _any_of(events: list[asyncio.Event], wait_max_s: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=wait_max_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _leave_metrics(metrics: GatewayMetrics) -> None:
    while True:
        await asyncio.sleep(_LEAVE_METRICS_S)
        metrics.leave()


def _has_room(journal: Journal) -> bool:
    try:
        journal.check_room()
    except JournalFull:
        return False
    return True


def _secret_of(reference: str, vault: secrets.Vault) -> str | None:
    try:
        return secrets.resolve(reference, vault)
    except secrets.SecretMissing:
        return None


async def _ship_responses(store: ResponseStore) -> None:
    while True:
        await asyncio.sleep(_SHIP_RESPONSES_S)
        try:
            await store.ship()
        except (ClientError, Refused):
            continue  # the uplink says that control is away; the spool waits


async def _refresh_keys(upstreams: Upstreams) -> None:
    while True:
        await asyncio.sleep(_REFRESH_KEYS_S)
        await upstreams.refresh_keys()


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls.certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls.certificate_file, settings.tls.key_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _upstream_tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
