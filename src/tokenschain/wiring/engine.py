"""Wiring of the embedded engine's process."""

from __future__ import annotations

import asyncio
import os
import signal

from tokenschain.core.errors import wire_refusal
from tokenschain.engine import chat, embedder
from tokenschain.infra import log
from tokenschain.infra.config import Settings
from tokenschain.infra.model_store import DEFAULT_MODEL, ModelStore
from tokenschain.infra.security import secret_files

_DRAIN_MAX_S = 5


def run(settings: Settings) -> None:
    """Serve the embedded chat model and embedder until SIGTERM or SIGINT."""
    log.configure(settings.log_format, settings.node_name)
    asyncio.run(_engine(settings))


async def _engine(settings: Settings) -> None:
    logger = log.get(process="engine")
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    key = secret_files.read_or_make(settings.engine_key_path)[0]
    model = ModelStore(settings.data_dir / "models").path_of(settings.engine.model)
    embedding = await embedder.start(
        settings.engine.host, settings.engine.embedder_port, key, wire_refusal
    )
    engine = await asyncio.to_thread(
        chat.start,
        model,
        settings.engine.model,
        host=settings.engine.host,
        port=settings.engine.port,
        key=key,
        slots=settings.engine.slots,
        context_tokens=settings.engine.context_tokens,
        threads=settings.engine.threads,
        template=_chat_template(settings),
        reproducible=settings.engine.reproducible,
    )
    logger.info("serving", model=settings.engine.model, at=engine.listening_address)
    await stopping.wait()
    await embedding.drain(_DRAIN_MAX_S)
    # llama.cpp's destructor waits for running generations; no caller waits for those now.
    os._exit(0)


def _chat_template(settings: Settings) -> str | None:
    if settings.engine.chat_template_file is not None:
        return settings.engine.chat_template_file.read_text(encoding="utf-8")
    if settings.engine.model == DEFAULT_MODEL.name:
        return chat.template_with_tools()
    return None
