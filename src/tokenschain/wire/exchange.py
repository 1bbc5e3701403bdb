"""One HTTP request and the way to answer it, chunked or whole."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

import msgspec

from tokenschain.wire.framing import KnownHead

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_NO_BODY = (204, 304)


class Request(msgspec.Struct, eq=False):
    """One request, complete with its body."""

    method: str
    target: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    """Names are lower case; shared by all requests with the same head, so not to be changed."""
    received_at: float
    """Monotonic seconds."""
    head: KnownHead | None = None
    """What its connection remembers of it."""
    body: bytes = b""


class Handler(Protocol):
    """What answers: called once per request; must end the exchange sooner or later."""

    def __call__(self, exchange: Exchange) -> None: ...


class RefusalWriter(Protocol):
    """Gives header lines and the body for a request that the wire itself refuses.

    `path` is what was asked for, as far as that is known.
    """

    def __call__(
        self, status: int, code: str, message: str, path: bytes
    ) -> tuple[bytes, bytes]: ...


class Connection(Protocol):
    """What an exchange needs of the connection that it runs on."""

    draining: bool
    peer_speaks_1_1: bool

    def send(self, data: bytes) -> None: ...
    def abort(self) -> None: ...
    def date_line(self) -> bytes: ...
    def client_address(self, request: Request) -> str: ...
    def exchange_ended(self, keep_alive: bool) -> None: ...


class Watcher(Protocol):
    """Who is told what becomes of an answer's way to the caller."""

    def caller_left(self, reason: str) -> None:
        """The caller left before the answer was complete; told once."""

    def pause(self) -> None:
        """The caller reads too slowly: stop producing."""

    def resume(self) -> None: ...


class Exchange:
    """One request and the way to answer it.

    After `gone` is true, everything written is dropped.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_keep_alive",
        "bytes_out",
        "ended",
        "gone",
        "request",
        "started",
        "watcher",
    )

    def __init__(self, connection: Connection, request: Request, keep_alive: bool) -> None:
        self._connection = connection
        self.request = request
        self._keep_alive = keep_alive
        self._chunked = False
        self.started = False
        self.ended = False
        self.gone = False
        self.bytes_out = 0
        self.watcher: Watcher | None = None

    @property
    def client_address(self) -> str:
        """The caller's address, looked up behind trusted proxies only."""
        return self._connection.client_address(self.request)

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer at once. `headers` are complete lines, each ended by CRLF."""
        connection = self._connection
        self.started = self.ended = True
        if self.gone:
            return
        if status in _NO_BODY:
            length = b""
            body = b""
        else:
            length = b"content-length: %d\r\n" % len(body)
        if self.request.method == "HEAD":
            body = b""
        keep = self._keep_alive and not connection.draining
        data = b"".join(
            (
                STATUS_LINES[status],
                headers,
                length,
                connection.date_line()
                if keep
                else connection.date_line() + b"connection: close\r\n",
                b"\r\n",
                body,
            )
        )
        self.bytes_out += len(body)
        connection.send(data)
        connection.exchange_ended(keep)

    def begin(self, status: int, headers: bytes) -> None:
        """Start an answer whose length is not known yet."""
        connection = self._connection
        self.started = True
        if self.gone:
            return
        keep = self._keep_alive and not connection.draining
        self._keep_alive = keep
        self._chunked = connection.peer_speaks_1_1
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        closing = b"" if keep else b"connection: close\r\n"
        connection.send(
            b"".join(
                (STATUS_LINES[status], headers, framing, connection.date_line(), closing, b"\r\n")
            )
        )

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self.gone or self.request.method == "HEAD" or not data:
            return
        self.bytes_out += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.send(data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece and end the exchange."""
        self.ended = True
        if self.gone:
            return
        if self._chunked and self.request.method != "HEAD":
            self.bytes_out += len(data)
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._connection.send(data)
        else:
            self.write(data)
        self._connection.exchange_ended(self._keep_alive)

    def abort(self) -> None:
        """Cut the connection: the caller must not take the answer for complete."""
        self.ended = True
        self._connection.abort()
