"""Wiring of the semantic process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time

# Before numpy is loaded: matrices are small, and other cores are others'.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec

from tokenschain.core.errors import wire_refusal
from tokenschain.core.log_events import Reporter
from tokenschain.infra import log
from tokenschain.infra.config import EmbedderSettings, JudgeSettings, Settings
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.egress_rules import Egress
from tokenschain.infra.redis.connection import REDIS_FAILURES
from tokenschain.infra.redis.vector_index import RedisVectorIndex
from tokenschain.infra.security import secrets, self_test
from tokenschain.infra.security.secret_files import SecretFile, read_or_make
from tokenschain.infra.security.suite import Sealer
from tokenschain.semantic import learned_state
from tokenschain.semantic.embedders import FAST, FAST_DIMENSIONS, FINE, Embedders
from tokenschain.semantic.index import (
    LayeredVectorStore,
    LocalVectorStore,
    SharedVectorStore,
    VectorStore,
)
from tokenschain.semantic.matcher import Matcher
from tokenschain.semantic.remote import Judge, RemoteEmbedder, RemoteModel
from tokenschain.semantic.service import SemanticService
from tokenschain.semantic.verifier import Verifier
from tokenschain.wire.client import HttpClient
from tokenschain.wire.server import HttpServer
from tokenschain.wiring import key_stores

SAVE_EVERY_S = 60.0
_DRAIN_MAX_S = 2


def run(settings: Settings) -> None:
    """Serve gateways until SIGTERM or SIGINT."""
    log.configure(settings.log_format, settings.node_name)
    asyncio.run(_semantic(settings))


async def _semantic(settings: Settings) -> None:
    logger = log.get(process="semantic")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    suite = self_test.suite_in_force(settings.crypto.suite)
    report = log.EventLog(logger)
    shared_secrets = SecretFile(settings.internal_secret_path, report)
    vault = key_stores.vault(settings, suite, report)
    egress = Egress(settings, report)
    egress.hold()
    client = egress.client()
    other, name = None, FINE
    if settings.cache.embedder is not None:
        chosen = settings.cache.embedder
        model = _remote(chosen, client, vault)
        other = RemoteEmbedder(model, chosen.dimensions, loop, chosen.wait_max_s)
        name = f"{chosen.base_url}/{chosen.model}/{chosen.dimensions}"
    models = await asyncio.to_thread(Embedders, other)
    store: VectorStore = LocalVectorStore(
        settings.semantic.memory_bytes_max, models.fine_dimensions
    )
    if settings.redis.url:
        shared = RedisVectorIndex(
            settings.redis.url,
            Sealer(suite, shared_secrets, lambda suite, secret: suite.derive(secret, b"meaning")),
            f"{FAST}+{name}", FAST_DIMENSIONS,
        )  # fmt: skip
        store = LayeredVectorStore(
            store, SharedVectorStore(shared, time.time), REDIS_FAILURES, time.monotonic,
            report,
        )  # fmt: skip
    matcher = Matcher(models, Verifier.shipped(), random.random, store)
    _go_on(settings, matcher, name, report)
    judge = None
    if settings.cache.judge is not None:
        chosen_judge = settings.cache.judge
        judge = Judge(_remote(chosen_judge, client, vault), chosen_judge.calls_per_minute)
    service = SemanticService(
        matcher, Signatures(suite, shared_secrets, time.time),
        lambda what, why: logger.error("fault", at=what, why=why),
        read_or_make(settings.metrics_token_path)[0], judge,
        judge_decides=settings.cache.judge is not None and settings.cache.judge.decides,
    )  # fmt: skip
    server = HttpServer(service, wire_refusal)
    server.at_head = service.at_head
    port = await server.listen(settings.semantic.host, settings.semantic.port)
    logger.info("comparing", host=settings.semantic.host, port=port)
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVE_EVERY_S):
                await stopping.wait()
        try:
            state = await service.in_thread(matcher.state)
            await asyncio.to_thread(learned_state.write, settings.semantic_state_path, name, state)
        except Exception as error:  # noqa: BLE001 - what was learned can be learned again
            report("learned_not_saved", str(error) or type(error).__name__)
    await server.drain(_DRAIN_MAX_S)
    client.close()


def _remote(
    chosen: JudgeSettings | EmbedderSettings, client: HttpClient, vault: secrets.Vault
) -> RemoteModel:
    reference = chosen.credential
    key = lambda: None if reference is None else secrets.resolve(reference, vault)  # noqa: E731
    return RemoteModel(client, chosen.base_url, chosen.model, key, chosen.wait_max_s)


def _go_on(settings: Settings, matcher: Matcher, embedder: str, report: Reporter) -> None:
    try:
        state = learned_state.read(settings.semantic_state_path, embedder)
        if state is not None:
            matcher.restore(state)
    except (OSError, msgspec.DecodeError) as error:
        report("learned_lost", str(error))
