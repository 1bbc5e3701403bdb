"""Wiring of a witness' process."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tokenschain.control.audit.witness import Witness
from tokenschain.core.audit import witnessing
from tokenschain.core.audit.witnessing import NotCosigned
from tokenschain.core.errors import wire_refusal
from tokenschain.infra import folder_lock, log
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits

PATH = b"/add-checkpoint"
_DRAIN_MAX_S = 5
_TEXT = b"content-type: text/plain; charset=utf-8\r\n"
_SIZE = f"content-type: {witnessing.SIZE_TYPE}\r\n".encode()
_LIMITS = Limits(
    body_bytes_max=witnessing.REQUEST_BYTES_MAX,
    body_bytes_total_max=64 * witnessing.REQUEST_BYTES_MAX,
    body_bytes_per_address_max=16 * witnessing.REQUEST_BYTES_MAX,
    connections_max=256,
    connections_per_address_max=64,
)


def run(folder: Path, host: str, port: int) -> None:
    """Serve a witness until SIGTERM or SIGINT.

    Raises:
        WitnessRefused: its folder is not whole.
        OSError: another process has it, or the address is taken.
    """
    log.configure("text", "")
    held = folder_lock.hold(folder)
    witness = Witness(INTERNATIONAL, folder)
    asyncio.run(_serve(witness, host, port))
    del held


async def _serve(witness: Witness, host: str, port: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = HttpServer(WitnessApi(witness), wire_refusal, _LIMITS)
    found = await server.listen(host, port)
    log.get(process="witness").info("listening", host=host, port=found)
    await stopping.wait()
    await server.drain(_DRAIN_MAX_S)


class WitnessApi:
    """What a witness serves: `POST /add-checkpoint`, and whether it is there."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def __call__(self, exchange: Exchange) -> None:
        """See `wire.exchange.Handler`."""
        request = exchange.request
        if request.path == b"/livez":
            exchange.reply(200, _TEXT, b"ok\n")
        elif request.path != PATH:
            exchange.reply(404, _TEXT, b"there is POST /add-checkpoint\n")
        elif request.method != "POST":
            exchange.reply(405, _TEXT + b"allow: POST\r\n", b"POST it\n")
        else:
            self._add(exchange)

    def _add(self, exchange: Exchange) -> None:
        try:
            line = self._witness.add_checkpoint(exchange.request.body)
        except NotCosigned as error:
            kind = _SIZE if error.status == 409 else _TEXT
            exchange.reply(error.status, kind, error.body.encode())
        except OSError as error:
            log.get(process="witness").error("witness_cannot_write", why=str(error))
            exchange.reply(503, _TEXT, b"what is cosigned cannot be kept\n")
        else:
            exchange.reply(200, _TEXT, line.encode())
