"""HTTP/1.1 server on asyncio transports; heads are parsed by llhttp.

One connection carries one exchange at a time; pipelined requests wait their
turn in the connection's buffer and are answered in order. How a body is framed is
decided in `wire.framing`; a request refused there closes its connection.

Time limits are enforced by one sweep per server, not by a timer per request;
they are therefore kept to within `Limits.sweep_s`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import cast

import msgspec

from tokenschain.wire.budgets import BudgetExceeded, ByteBudget, ConnectionTable, network_of
from tokenschain.wire.chunked import ChunkedBody, ChunkError, end_of_head
from tokenschain.wire.exchange import STATUS_LINES, Exchange, Handler, RefusalWriter, Request
from tokenschain.wire.framing import (
    CHUNKED,
    Framing,
    KnownHead,
    RequestRefused,
    body_too_large,
    check_partial_head,
    framing_of,
    head_too_large,
    parse_head,
    wants_continue,
    without_empty_lines,
)

# After a refusal the rest of the request is read and dropped for this long, so that
# closing with unread data does not reset the connection under the answer.
_LINGER_S = 2.0
# A chunked body is taken out of what is buffered in pieces of this size.
_WINDOW_BYTES = 4_096
# What a connection holds below this is not counted against the budget of bytes.
_UNCOUNTED_BYTES = 16_384
_SWEPT_AT_ONCE = 512
EMPTY_BYTES_MAX = 16
"""Of empty lines before a request; they are ignored (RFC 9112, 2.2), and not for ever."""
# After so many heads in a row that were unlike the one before them, none is remembered.
_UNLIKE_MAX = 8


class Limits(msgspec.Struct, frozen=True):
    """What one caller may use of the server. Bytes and seconds."""

    head_bytes_max: int = 32_768
    headers_max: int = 100
    body_bytes_max: int = 33_554_432
    head_wait_max_s: float = 10.0
    """From the first byte of a head to its last."""
    body_grace_s: float = 10.0
    """A body may take this long, plus one second per `body_rate_min` bytes received."""
    stranger_grace_s: float = 10.0
    """The same, where it is not proven who sends; see `HttpServer.at_head`."""
    body_rate_min: int = 4_096
    idle_max_s: float = 75.0
    """Before a request begins, on a new connection as between two."""
    write_stall_max_s: float = 60.0
    """A caller that reads nothing for this long is cut off."""
    write_buffer_bytes: int = 65_536
    """Above this much unsent data the producer is paused."""
    pipeline_bytes_max: int = 65_536
    """Above this much data beyond the current request, reading is paused."""
    body_bytes_total_max: int = 536_870_912
    """Of requests that are received or served, at one time."""
    body_bytes_per_address_max: int = 268_435_456
    connections_max: int = 16_384
    connections_per_address_max: int = 12_288
    """Of one address that is not a trusted proxy's. One more takes the place of an idle one."""
    sweep_s: float = 0.5


class _Connection(asyncio.Protocol):
    """One caller's connection: reads requests, runs one exchange at a time."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_body_left",
        "_buffer",
        "_chunks",
        "_deadline",
        "_empty_bytes",
        "_held",
        "_holder",
        "_keep_alive",
        "_known",
        "_lingering",
        "_next_comes",
        "_proven",
        "_reading_paused",
        "_request",
        "_server",
        "_stalled_since",
        "_transport",
        "_unlike",
        "draining",
        "exchange",
        "peer",
        "peer_speaks_1_1",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._buffer = bytearray()
        self._request: Request | None = None
        self._body: bytearray | None = None
        self._body_left = 0
        self._body_bytes = 0
        self._chunks: ChunkedBody | None = None
        self._held = 0
        self._holder = ""
        self._keep_alive = True
        self._known: KnownHead | None = None
        self._unlike = 0
        self._empty_bytes = 0
        self._lingering = False
        self._next_comes = False
        self._proven = True
        self._reading_paused = False
        self._stalled_since: float | None = None
        self._deadline: float | None = None
        self.exchange: Exchange | None = None
        self.peer = ""
        self.peer_speaks_1_1 = True
        self.draining = server.draining

    # --- transport ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        limits = self._server.limits
        transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        if not self._server.connections.admit(self, self._server.share_of(self.peer)):
            transport.abort()
            return
        self._deadline = time.monotonic() + limits.idle_max_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.dismiss(self)
        self._buffer.clear()
        self._release()
        self._leave("caller_gone")

    def _leave(self, reason: str) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None and not exchange.ended:
            exchange.gone = True
            if exchange.watcher is not None:
                exchange.watcher.caller_left(reason)

    def pause_writing(self) -> None:
        self._stalled_since = time.monotonic()
        if self.exchange is not None and self.exchange.watcher is not None:
            self.exchange.watcher.pause()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self.exchange is None and self._buffer:
            self._await_next()
        if self.exchange is not None and self.exchange.watcher is not None:
            self.exchange.watcher.resume()

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def date_line(self) -> bytes:
        return self._server.date_line

    # --- reading -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._request is not None:
            self._take_body(data)
            return
        if self._buffer or self.exchange is not None:
            self._buffer += data
            if self.exchange or self._next_comes or self._stalled_since is not None:
                # Answered in order: what comes early waits, within a limit.
                if len(self._buffer) > self._server.limits.pipeline_bytes_max:
                    self._reading_paused = True
                    self._transport.pause_reading()
                    self._hold()
                return
            self._take_next()
            return
        self._take_head(data)

    def _take_head(self, data: bytes) -> None:
        """`data` begins where a message begins and no exchange is running."""
        known = self._known
        if (
            known is not None
            and len(data) == known.bytes_whole
            and data[: known.size] == known.head
        ):
            # The very same head with its body and nothing behind it, as most come: all that was
            # found out of the one before holds, its limits and this connection's state included.
            self._unlike = 0
            framing = known.framing
            request = Request(
                framing.method, framing.target, framing.path, framing.query, known.fields,
                time.monotonic(), known, data[known.size :],
            )  # fmt: skip
            self._dispatch(request)
            return
        limits = self._server.limits
        found = None if known is None else known.match(data)
        if known is not None and found is not None:
            end, length = found
            body_bytes = int(length)
            if body_bytes <= limits.body_bytes_max and end <= limits.head_bytes_max:
                self._unlike = self._empty_bytes = 0
                self._begin_request(known.framing, known.fields_with(length), body_bytes, data, end)
                return
        request_line = b""
        try:
            if data.startswith((b"\r\n", b"\n")):
                rest = without_empty_lines(data)
                self._skip(len(data) - len(rest))
                data = rest
                if not data:
                    return
            end = end_of_head(data)
            if end < 0:
                check_partial_head(data, limits.head_bytes_max)
                self._await_head(data)
                return
            if end > limits.head_bytes_max:
                raise head_too_large()
            head = data[:end]
            request_line, fields = parse_head(head, limits.headers_max)
            framing = framing_of(request_line, fields, limits.body_bytes_max)
        except RequestRefused as refused:
            self._refuse(refused, request_line)
            return
        self._known = KnownHead.of(head, fields, framing) if self._unlike < _UNLIKE_MAX else None
        self._unlike += 1
        self._empty_bytes = 0
        self._begin_request(framing, fields, framing.body_bytes, data, end)

    def _await_head(self, data: bytes) -> None:
        if not self._buffer and self._deadline is not None:
            limit = time.monotonic() + self._server.limits.head_wait_max_s
            self._deadline = min(self._deadline, limit)
        self._buffer += data
        if len(self._buffer) > _UNCOUNTED_BYTES:
            self._hold()

    def _begin_request(
        self,
        framing: Framing,
        fields: dict[bytes, bytes],
        body_bytes: int | None,
        data: bytes,
        end: int,
    ) -> None:
        """The head, which ends at `end`, is understood; take the body or wait for it."""
        self.peer_speaks_1_1, self._keep_alive = framing.speaks_1_1, framing.keep_alive
        request = Request(
            framing.method, framing.target, framing.path, framing.query, fields,
            time.monotonic(), self._known,
        )  # fmt: skip
        if body_bytes is None:
            if len(data) > end:
                self._buffer += data[end:]
            self._dispatch(request)
            return
        allowed = self._server.limits.body_bytes_max
        if self._server.body_bytes_max_of is not None:
            allowed = self._server.body_bytes_max_of(request.path)
            if body_bytes > allowed:
                self._refuse(body_too_large(allowed))
                return
        if body_bytes == CHUNKED:
            self._chunks = ChunkedBody(allowed)
        else:
            left_over = len(data) - end - body_bytes
            if left_over >= 0:
                # The usual case: head and body came together.
                request.body = data[end : end + body_bytes]
                if left_over:
                    self._buffer += data[end + body_bytes :]
                self._dispatch(request)
                return
            self._body_left = body_bytes
            self._body = bytearray()
        begun = data[end:]
        if self._buffer and not begun:
            # The head came out of the buffer, and its body is the next thing in there.
            begun = self._cut(_WINDOW_BYTES if body_bytes == CHUNKED else body_bytes)
        self._await_body(request, begun)
        while self._chunks is not None and self._buffer:
            self._take_body(self._cut(_WINDOW_BYTES))

    def _cut(self, size: int) -> bytes:
        """Take bytes off the buffer's beginning, which moves none of the others."""
        cut = bytes(self._buffer[:size])
        del self._buffer[:size]
        return cut

    def _await_body(self, request: Request, begun: bytes) -> None:
        self._request = request
        limits = self._server.limits
        self._deadline = request.received_at + limits.body_grace_s
        self._read_on()
        if self._server.at_head is not None:
            if self._refused_at_head(request):
                return
            if not self._proven:
                self._deadline = request.received_at + limits.stranger_grace_s
        try:
            waits_for_us = wants_continue(request.headers)
        except RequestRefused as refused:
            self._refuse(refused)
            return
        if begun:
            self._take_body(begun)
        elif waits_for_us and self.peer_speaks_1_1:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refused_at_head(self, request: Request) -> bool:
        """Whether who asks, or for what, is refused before the body is read."""
        assert self._server.at_head is not None
        exchange = Exchange(self, request, keep_alive=False)
        self._proven = self._server.at_head(exchange)
        return exchange.ended

    def _take_body(self, data: bytes) -> None:
        request = self._request
        assert request is not None
        if self._chunks is not None:
            try:
                done = self._chunks.feed(data)
            except ChunkError as error:
                self._refuse(
                    body_too_large(self._chunks.bytes_max)
                    if error.too_large
                    else RequestRefused(400, "malformed_http", str(error))
                )
                return
            self._body_bytes = len(self._chunks.body)
            if not self._hold() or not done:
                return
            request.body = bytes(self._chunks.body)
            self._buffer[:0] = self._chunks.rest
            self._chunks = None
        else:
            assert self._body is not None
            left = self._body_left
            self._body += data if len(data) <= left else data[:left]
            self._body_bytes = len(self._body)
            if not self._hold():
                return
            if len(data) < left:
                self._body_left = left - len(data)
                return
            self._buffer += data[left:]
            request.body = bytes(self._body)
            self._body = None
        self._request = None
        self._dispatch(request)

    def _dispatch(self, request: Request) -> None:
        self._deadline = None
        if len(request.body) > _UNCOUNTED_BYTES and not self._hold(request):
            return
        exchange = Exchange(self, request, self._keep_alive)
        self.exchange = exchange
        # Looked up before it is called: a slot that is called takes six times as much.
        handler = self._server.handler
        handler(exchange)

    def exchange_ended(self, keep_alive: bool) -> None:
        """The answer has been handed to the transport."""
        self.exchange = None
        if self._held:
            self._release()
        if self._request is not None:
            self._linger()
            return
        if not keep_alive or self._transport.is_closing():
            self._transport.close()
            return
        if self._buffer:
            self._await_next()
        elif self._reading_paused:
            self._read_on()
        self._deadline = time.monotonic() + self._server.limits.idle_max_s

    def _await_next(self) -> None:
        # Not from here: a run of short answers would recurse, and others would wait for it. A
        # caller who does not read the answers gets no more of them for now.
        if not self._next_comes and self._stalled_since is None:
            self._next_comes = True
            self._server.loop.call_soon(self._next_pipelined)

    def _next_pipelined(self) -> None:
        self._next_comes = False
        if self.exchange is None and self._buffer and not self._transport.is_closing():
            self._take_next()

    def _take_next(self) -> None:
        """Take one message from the buffer; what follows it stays there and is not copied."""
        buffer = self._buffer
        try:
            while buffer.startswith(b"\r\n"):
                self._skip(2)
                del buffer[:2]
        except RequestRefused as refused:
            self._refuse(refused)
            return
        end = end_of_head(buffer)
        if end < 0:
            end = len(buffer)
            self._read_on()
        elif len(buffer) <= self._server.limits.pipeline_bytes_max:
            self._read_on()
        if end:
            self._take_head(self._cut(end))

    def _skip(self, empty_bytes: int) -> None:
        """Count empty lines before a request: a client or two sends one behind a body, and nobody
        sends many.

        Raises:
            RequestRefused: there are too many.
        """
        self._empty_bytes += empty_bytes
        if self._empty_bytes > EMPTY_BYTES_MAX:
            raise RequestRefused(400, "malformed_http", "Empty lines come in place of a request.")

    def _read_on(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _refuse(self, refused: RequestRefused, request_line: bytes = b"") -> None:
        """Answer from the wire itself and close: nothing after this can be trusted."""
        path = b"" if self._request is None else self._request.path
        if request_line.count(b" ") == 2:
            path = request_line.split(b" ")[1]
        lines, body = self._server.refusal(refused.status, refused.code, refused.message, path)
        self._transport.write(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n"
            b"%bconnection: close\r\n\r\n%b"
            % (STATUS_LINES[refused.status], lines, len(body), self.date_line(), body)
        )
        self._linger()

    def _linger(self) -> None:
        """The answer is written; what still comes is dropped, and the connection ends."""
        self._request = self._body = self._chunks = None
        self._buffer.clear()
        self._release()
        self._lingering = True
        self._deadline = time.monotonic() + _LINGER_S
        self._read_on()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # --- limits ------------------------------------------------------------------

    def _hold(self, served: Request | None = None) -> bool:
        """Count what is kept of this connection; false where that is too much, and it ends.

        Args:
            served: the request whose body is whole.
        """
        request = self._request or served
        if served is not None:
            self._body_bytes = len(served.body)
        more = self._body_bytes + len(self._buffer) - self._held
        if more <= 0:
            return True
        server = self._server
        if not self._held:
            address = self.peer if request is None else self.client_address(request)
            self._holder = server.share_of(address)
        try:
            server.body_bytes.take(self._holder, more)
        except BudgetExceeded as exceeded:
            if self.exchange is not None:
                self.abort()  # it pipelines, and its running answer must not be spoilt
            else:
                self._request = request
                self._refuse(_too_much(exceeded))
            return False
        self._held += more
        return True

    def _release(self) -> None:
        if self._held:
            self._server.body_bytes.give_back(self._holder, self._held)
        self._held = self._body_bytes = 0

    def sweep(self, now: float) -> None:
        """Enforce the time limits of this connection."""
        limits = self._server.limits
        if self._stalled_since is not None and now - self._stalled_since > limits.write_stall_max_s:
            self._leave("caller_stalled")
            self._transport.abort()
            return
        if self._deadline is None or now < self._deadline:
            return
        if self._request is not None:
            received = len(self._chunks.body if self._chunks is not None else self._body or b"")
            if now < self._deadline + received / limits.body_rate_min:
                return
            self._refuse(_too_slow("body"))
        elif self._buffer:
            self._refuse(_too_slow("request head"))
        else:
            self._transport.close()

    @property
    def idle(self) -> bool:
        """Whether it may be closed in favour of another: no request of its is under way, but one
        whose body a stranger has still to send."""
        return self.exchange is None and (self._request is None or not self._proven)

    def drain(self) -> None:
        """Close when idle; after the running exchange otherwise."""
        self.draining = True
        if self.exchange is None and self._request is None and not self._buffer:
            self._transport.close()

    def client_address(self, request: Request) -> str:
        trusted = self._server.trusted_proxies
        address = self.peer
        if not trusted:
            return address
        hops = request.headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        for hop in reversed([h.strip() for h in hops if h.strip()]):
            if not _within(address, trusted):
                break
            address = hop
        return address


def _too_much(exceeded: BudgetExceeded) -> RequestRefused:
    if exceeded.by_address:
        message = "Your address sends more at one time than it may; wait for answers."
        return RequestRefused(429, "rate_limit_exceeded", message)
    return RequestRefused(503, "server_busy", "Too much is being sent here; try again soon.")


def _too_slow(part: str) -> RequestRefused:
    return RequestRefused(408, "request_timeout", f"The {part} arrived too slowly.")


def _within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


class HttpServer:
    """Listens, hands each complete request to `handler`, and drains on demand."""

    def __init__(
        self,
        handler: Handler,
        refusal: RefusalWriter,
        limits: Limits | None = None,
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        self.handler = handler
        self.refusal = refusal
        self.limits = limits or Limits()
        self.trusted_proxies = trusted_proxies
        self.connections: ConnectionTable[_Connection] = ConnectionTable(
            self.limits.connections_max, self.limits.connections_per_address_max
        )
        self.body_bytes = ByteBudget(
            self.limits.body_bytes_total_max, self.limits.body_bytes_per_address_max
        )
        self.draining = False
        self.date_line = b""
        self.at_head: Callable[[Exchange], bool] | None = None
        """May refuse a request whose body has not come yet: what it answers is the answer. True
        where it is proven who sends; a stranger's connection makes room for others."""
        self.body_bytes_max_of: Callable[[bytes], int] | None = None
        """The largest body by path, where paths differ; none above `Limits.body_bytes_max`."""
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._servers: deque[asyncio.Server] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(
        self,
        host: str,
        port: int,
        *,
        reuse_port: bool = False,
        tls: ssl.SSLContext | None = None,
        backlog: int = 1_024,
    ) -> int:
        """Start to accept; returns the port (useful with port 0).

        Raises:
            OSError: the address is taken or not ours.
        """
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(
            lambda: _Connection(self),
            host,
            port,
            reuse_port=reuse_port or None,
            ssl=tls,
            ssl_handshake_timeout=self.limits.head_wait_max_s if tls is not None else None,
            backlog=backlog,
        )
        self._servers.append(server)
        if self._sweeper is None:
            self._sweep()
        return int(server.sockets[0].getsockname()[1])

    def share_of(self, address: str) -> str:
        """Whose share of a budget an address uses: none of its own where callers come through
        it."""
        if self.trusted_proxies and _within(address, self.trusted_proxies):
            return ""
        return network_of(address)

    def _sweep(self) -> None:
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        self._sweep_some(list(self.connections), 0)
        self._sweeper = self.loop.call_later(self.limits.sweep_s, self._sweep)

    def _sweep_some(self, connections: list[_Connection], at: int) -> None:
        now = time.monotonic()
        for connection in connections[at : at + _SWEPT_AT_ONCE]:
            connection.sweep(now)
        if at + _SWEPT_AT_ONCE < len(connections):
            self.loop.call_soon(self._sweep_some, connections, at + _SWEPT_AT_ONCE)

    async def drain(self, limit_s: float) -> int:
        """Stop accepting, let running exchanges finish; returns how many were cut.

        New requests on open connections are still answered, with
        `connection: close`, until the limit.
        """
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.drain()
        deadline = time.monotonic() + limit_s
        while self.connections and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        cut = len(self.connections)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        return cut
