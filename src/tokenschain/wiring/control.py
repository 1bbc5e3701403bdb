"""The control plane's process."""

from __future__ import annotations

import socket

import uvicorn

from tokenschain.control.app import create_app
from tokenschain.control.jobs import Publisher
from tokenschain.control.responses import ResponseArchive
from tokenschain.infra import catalogue, db, log, secrets
from tokenschain.infra.config import Settings

_DRAIN_MAX_S = 5


def run(settings: Settings) -> None:
    """Serve the admin API and the internal channel until SIGTERM or SIGINT."""
    log.configure(settings.log_format)
    logger = log.get(process="control")
    engine = db.connect(settings.database)
    db.migrate(engine)
    publisher = Publisher(
        engine, settings, catalogue.load(), lambda event, why: logger.warning(event, why=why)
    )
    master = secrets.sealing_key(settings.master_key_path)
    archive = ResponseArchive(engine, master, settings.response_ttl_s)
    app = create_app(
        engine,
        publisher,
        archive,
        secrets.read_or_make(settings.internal_secret_path),
        secrets.read_or_make(settings.operator_token_path),
    )
    config = uvicorn.Config(
        app,
        host=settings.control_host,
        port=settings.control_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_MAX_S,
        server_header=False,
    )
    _ControlServer(config, publisher).run()


class _ControlServer(uvicorn.Server):
    """Lets waiting snapshot polls go before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, publisher: Publisher) -> None:
        super().__init__(config)
        self._publisher = publisher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._publisher.close()
        await super().shutdown(sockets)
