"""The process that compares questions."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time

# Before numpy is loaded: matrices are small, and other cores are others'.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tokenschain.gateway.app import wire_refusal
from tokenschain.infra import log, secrets
from tokenschain.infra.config import Settings
from tokenschain.infra.redis import REDIS_FAILURES, RedisMeaning
from tokenschain.semantic.embedders import FAST, FAST_DIMENSIONS, FINE, Embedders
from tokenschain.semantic.index import Kept, LayeredKept, LocalKept, SharedKept
from tokenschain.semantic.matcher import Matcher
from tokenschain.semantic.service import Service
from tokenschain.semantic.verifier import Verifier
from tokenschain.wire.server import HttpServer

_DRAIN_MAX_S = 2


def run(settings: Settings) -> None:
    """Serve gateways until SIGTERM or SIGINT."""
    log.configure(settings.log_format)
    asyncio.run(_semantic(settings))


async def _semantic(settings: Settings) -> None:
    logger = log.get(process="semantic")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    secret = secrets.read_or_make(settings.internal_secret_path)
    models = await asyncio.to_thread(Embedders)
    kept: Kept = LocalKept(settings.semantic_memory_bytes_max)
    if settings.redis_url:
        shared = RedisMeaning(
            settings.redis_url,
            secrets.derived(secret, b"meaning"),
            f"{FAST}+{FINE}",
            FAST_DIMENSIONS,
        )
        kept = LayeredKept(
            kept, SharedKept(shared, time.time), REDIS_FAILURES, time.monotonic,
            lambda event, why: logger.warning(event, why=why),
        )  # fmt: skip
    matcher = Matcher(models, Verifier.shipped(), random.random, kept)
    service = Service(matcher, secret, lambda what, why: logger.error("fault", at=what, why=why))
    server = HttpServer(service, wire_refusal)
    port = await server.listen(settings.semantic_host, settings.semantic_port)
    logger.info("comparing", host=settings.semantic_host, port=port)
    await stopping.wait()
    await server.drain(_DRAIN_MAX_S)
