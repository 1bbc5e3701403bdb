"""HTTP CONNECT tunnel through a proxy."""

from __future__ import annotations

import asyncio
from typing import cast

HEAD_BYTES_MAX = 8_192


class Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel (RFC 9110, 9.3.6)."""

    def __init__(self, authority: bytes) -> None:
        self._authority = authority
        self._received = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        transport.write(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (self._authority, self._authority)
        )

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.opened.done():
            return
        if b"\r\n\r\n" in self._received:
            status = self._received.split(b"\r\n", 1)[0].split(b" ")
            if len(status) >= 2 and status[1] == b"200":
                self.opened.set_result(None)
            else:
                self.opened.set_exception(OSError("the proxy refused the tunnel"))
        elif len(self._received) > HEAD_BYTES_MAX:
            self.opened.set_exception(OSError("the proxy's answer is too large"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(OSError("the proxy closed the connection"))
