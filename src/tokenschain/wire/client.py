"""HTTP/1.1 client with a connection pool, on asyncio transports, for upstreams.

The caller's own task opens a reply and waits for its head; the body is then
either read whole or pushed to a sink straight from the transport's callbacks,
so that relaying a stream costs no task switch per event.

Each wait has its own limit and its own error. Limits are enforced by one sweep
per client and are kept to within `SWEEP_S`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from tokenschain.wire.connection_pool import ConnectionPool
from tokenschain.wire.proxy_tunnel import Tunnel
from tokenschain.wire.request_head import ascii_host
from tokenschain.wire.resolver import Resolver

SWEEP_S = 0.1
IDLE_KEEP_S = 30.0
"""An idle connection is closed after this long; most servers keep theirs longer."""
_BODILESS_BYTES_MAX = 65_536
"""Read one after the other without any of a body: a head, or what is behind the last chunk."""
_PIECE_BYTES = 65_536
"""Taken in at a time; the rest of a longer read waits for the loop's next turn, so that others
are served in between."""


class Origin(NamedTuple):
    """Where a connection goes."""

    tls: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of a URL, its host as it is looked up.

        Raises:
            ValueError: not an http or https URL with a host, or one that cannot stand in a
                request's head as it is.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        beyond = parts._replace(netloc="").geturl()
        if " " in url or not url.isprintable() or not beyond.isascii():
            raise ValueError(f"not percent-encoded: {url!r}")
        tls = parts.scheme == "https"
        return cls(tls, ascii_host(parts.hostname), parts.port or (443 if tls else 80))

    @property
    def authority(self) -> str:
        """The value of `host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Waits(msgspec.Struct, frozen=True):
    """The limits of one exchange, seconds; see the error of the same name."""

    connect_max_s: float = 5.0
    pool_max_s: float = 5.0
    first_byte_max_s: float = 300.0
    idle_max_s: float = 120.0
    total_max_s: float = 1_800.0


class ClientError(Exception):
    """Something between us and the upstream failed; the message is safe to log."""


class ConnectFailed(ClientError):
    """No connection: refused, unreachable, unknown name, TLS or proxy failure."""


class PoolExhausted(ClientError):
    """Every connection to the origin was taken for longer than the limit."""


class TimedOut(ClientError):
    """A limit ran out; `phase` says which: connection, first byte, next event or end."""

    def __init__(self, phase: str, waited_s: float) -> None:
        super().__init__(f"no {phase} within {waited_s:g} s")
        self.phase = phase


class BadReply(ClientError):
    """The upstream's bytes are not HTTP/1.1 or exceed a limit."""


class Interrupted(ClientError):
    """The connection broke before the reply was complete."""


class Sink(Protocol):
    """Receives a pushed body."""

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, error: BaseException | None) -> None:
        """The body is complete, or broke off with `error`: a `ClientError`, or what `on_data`
        itself raised."""


class Reply:
    """The answer to one request. Use `read` or `push`, not both."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_done",
        "_error",
        "_sink",
        "_waiter",
        "headers",
        "progress",
        "status",
    )

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection
        self._chunks: list[bytes] = []
        self._done = False
        self._error: BaseException | None = None
        self._sink: Sink | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.progress = 0
        """Counts what the reader takes for progress; a sink counts for itself, so
        that heartbeats of an upstream do not keep a dead stream alive."""

    def whole(self, bytes_max: int) -> bytes:
        """The body, where all of it came in one piece and is here; otherwise nothing, and `read`
        waits for it."""
        chunks = self._chunks
        if self._done and len(chunks) == 1 and len(chunks[0]) <= bytes_max and not self._error:
            return chunks[0]
        return b""

    async def read(self, bytes_max: int, hold: Callable[[int], None] | None = None) -> bytes:
        """The whole body.

        Args:
            hold: counts the bytes that have come, as they come, where all are not here at once.

        Raises:
            BadReply: longer than `bytes_max`.
            ClientError: as it broke off.
            Exception: as raised by `hold`.
        """
        size, counted = sum(map(len, self._chunks)), 0
        while not self._done:
            if size > bytes_max:
                self.abort()
                raise BadReply(f"the reply is longer than {bytes_max} bytes")
            if hold is not None and size > counted:
                try:
                    hold(size - counted)
                except BaseException:
                    self.abort()
                    raise
                counted = size
            self._waiter = asyncio.get_running_loop().create_future()
            seen = len(self._chunks)
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.abort()
                raise
            size += sum(map(len, self._chunks[seen:]))
        if self._error is not None:
            raise self._error
        if size > bytes_max:
            raise BadReply(f"the reply is longer than {bytes_max} bytes")
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def push(self, sink: Sink) -> None:
        """Give the body to `sink` as it arrives, starting with what is here already."""
        self._sink = sink
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            sink.on_data(chunk)
        if self._done:
            sink.on_end(self._error)

    def pause(self) -> None:
        """Stop reading from the upstream: the one we feed is slow."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def abort(self) -> None:
        """Close the upstream connection at once."""
        connection, self._connection = self._connection, None
        self._sink = None
        if connection is not None and not self._done:
            self._done = True
            self._error = Interrupted("aborted here")
            connection.abort()

    def _data(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.on_data(data)
            return
        self.progress += 1
        self._chunks.append(data)
        if self._waiter is not None:
            self._wake(self._waiter)

    def _end(self, error: BaseException | None) -> None:
        if self._done:
            return
        self._done = True
        self._error = error
        self._connection = None
        if self._sink is not None:
            self._sink.on_end(error)
        if self._waiter is not None:
            self._wake(self._waiter)

    @staticmethod
    def _wake(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection to an origin; carries one exchange at a time."""

    __slots__ = (
        "_bodiless_bytes",
        "_client",
        "_fields",
        "_keep",
        "_parser",
        "_paused",
        "_pool",
        "_progress_seen",
        "_reply",
        "_rest",
        "_transport",
        "_waits",
        "closed",
        "deadline",
        "forgotten",
        "head",
        "idle_since",
        "started",
        "untouched",
    )

    def __init__(self, client: HttpClient, pool: _Pool) -> None:
        self._client = client
        self._pool = pool
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parser = httptools.HttpResponseParser(self)
        """One for all replies: llhttp begins anew behind each. Another parser for each reply takes
        3,000 instructions."""
        self._reply: Reply | None = None
        self._fields: dict[bytes, bytes] = {}
        self._bodiless_bytes = 0
        self._keep = False
        self._paused = False
        self._progress_seen = -1
        self._rest = memoryview(b"")
        """Read and not yet taken in; reading stands still for as long."""
        self._waits = Waits()
        self.head: asyncio.Future[Reply] | None = None
        self.closed = False
        self.forgotten = False
        self.deadline = 0.0
        self.started = 0.0
        self.idle_since = 0.0
        self.untouched = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes, waits: Waits) -> asyncio.Future[Reply]:
        """Send one request; the future holds the reply once its head is here."""
        now = time.monotonic()
        self._waits = waits
        self._fields = {}
        self._bodiless_bytes = 0
        self.untouched = True
        self.started = now
        self.deadline = now + waits.first_byte_max_s
        self._reply = Reply(self)
        self.head = self._client.loop.create_future()
        self._client.active.add(self)
        self._transport.write(data)
        return self.head

    # --- incoming ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if len(data) > _PIECE_BYTES:
            self._transport.pause_reading()
            self._rest = memoryview(data)
            self._take_rest()
            return
        if self._reply is None:
            # Bytes that were not asked for: this connection can no longer be trusted.
            self.abort()
            return
        self.untouched = False
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # What reads the body failed, not the upstream: it gets its own exception back.
            self._fail(error.__context__ or error)
            return
        except httptools.HttpParserUpgrade:
            # Nobody asked for another protocol, and what comes now is in it.
            self._fail(BadReply("it switches protocols (101)"))
            return
        except httptools.HttpParserError as error:
            if self._reply is not None:
                self._fail(BadReply(f"not HTTP/1.1: {type(error).__name__}"))
            else:
                self.abort()
            return
        if self._bodiless_bytes > _BODILESS_BYTES_MAX and self._reply is not None:
            what = "trailers are" if self._reply.status else "head is"
            self._fail(BadReply(f"the reply's {what} too large"))

    def _take_rest(self) -> None:
        """Take in the next piece of a long read; one to a turn of the loop."""
        if self.closed or self._paused or not self._rest:
            return
        piece, self._rest = bytes(self._rest[:_PIECE_BYTES]), self._rest[_PIECE_BYTES:]
        self.data_received(piece)
        if self.closed or self._paused:
            return
        if self._rest:
            self._client.loop.call_soon(self._take_rest)
        else:
            self._transport.resume_reading()

    def on_message_begin(self) -> None:
        if self._reply is None:
            # What follows an answer in the same read must not be the beginning of the next one.
            raise BadReply("bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is not None and self._reply.status == 0:  # not in a trailer
            self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._fields = {}
            return
        reply = self._reply
        assert reply is not None
        reply.status = status
        reply.headers = self._fields
        self._keep = parser.should_keep_alive()
        self._progress_seen = -1

    def on_body(self, data: bytes) -> None:
        self._bodiless_bytes = 0
        if self.head is not None:
            self._announce()
        reply = self._reply
        if reply is not None:
            reply._data(data)

    def on_message_complete(self) -> None:
        if self._reply is None or self._reply.status == 0:
            return  # an interim 1xx
        if self.head is not None:
            self._announce()
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._client.active.discard(self)
        if self._keep and not self._paused and not self._rest:
            self._pool.give_back(self)
        else:
            self.abort()
        reply._end(None)

    def _announce(self) -> None:
        """Hand the reply to whoever waits for its head."""
        head, self.head = self.head, None
        if head is not None and not head.done() and self._reply is not None:
            head.set_result(self._reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.forget(self)
        if self._reply is None:
            return
        if self._reply.status and not self._keep and exc is None:
            # A reply without a length ends where the connection does (RFC 9112, 6.3).
            length_known = b"content-length" in self._fields or (
                b"chunked" in self._fields.get(b"transfer-encoding", b"").lower()
            )
            if not length_known:
                self._announce()
                reply, self._reply = self._reply, None
                self._client.active.discard(self)
                reply._end(None)
                return
        self._fail(Interrupted("the connection was closed before the answer was complete"))

    def _fail(self, error: BaseException) -> None:
        reply, self._reply = self._reply, None
        head, self.head = self.head, None
        self._client.active.discard(self)
        self.abort()
        if head is not None and not head.done():
            head.set_exception(error)
        elif reply is not None:
            reply._end(error)

    # --- control -----------------------------------------------------------------

    def pause(self) -> None:
        if not self._paused and not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            if self._rest:
                self._client.loop.call_soon(self._take_rest)
            else:
                self._transport.resume_reading()
            self._progress_seen = -1

    def abort(self) -> None:
        self._reply = None
        self._client.active.discard(self)
        if not self.closed:
            self.closed = True
            self._pool.forget(self)
            if self._transport is not None:
                self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforce the limits; called every `SWEEP_S` while an exchange runs."""
        waits = self._waits
        reply = self._reply
        if now >= self.started + waits.total_max_s:
            self._fail(TimedOut("end", waits.total_max_s))
        elif reply is None or reply.status == 0:
            if now >= self.deadline:
                self._fail(TimedOut("first byte", waits.first_byte_max_s))
        elif reply.progress != self._progress_seen or self._paused:
            # While paused, it is our reader that is slow and not the upstream.
            self._progress_seen = reply.progress
            self.deadline = now + waits.idle_max_s
        elif now >= self.deadline:
            self._fail(TimedOut("next event", waits.idle_max_s))


_Pool = ConnectionPool[_Connection]


class HttpClient:
    """All outgoing connections of one event loop."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        past_proxy: Callable[[str], bool] | None = None,
        connections_max: int = 1_000,
        resolver: Resolver | None = None,
    ) -> None:
        """
        Args:
            tls: the context for https origins; the system's trust store by default.
            proxy: an `http://host:port` that understands CONNECT.
            past_proxy: whether a host is connected to without it, by default this machine alone;
                raises OSError for one that is not to be reached.
            connections_max: per origin.
        """
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.active: set[_Connection] = set()
        self._tls = tls
        self._proxy = Origin.of(proxy) if proxy else None
        self._past_proxy = past_proxy or is_loopback
        self._connections_max = connections_max
        self.resolver = resolver or Resolver()
        self._pools: dict[Origin, _Pool] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(
        self,
        origin: Origin,
        request: bytes,
        waits: Waits,
        connections_max: int | None = None,
    ) -> Reply:
        """Send a request and wait for the head of its reply.

        A reused connection that the peer closes before any byte of a reply is
        tried once more on a new one (RFC 9110, 9.2.2: it was idle-closed).

        Raises:
            ClientError: one of its kinds.
        """
        if self._sweeper is None:
            self.loop = asyncio.get_running_loop()
            self._sweep()
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = ConnectionPool()
        connection = pool.take_idle()
        reused = connection is not None
        while True:
            if connection is None:
                connection = await self._new_connection(
                    origin, pool, waits, connections_max or self._connections_max
                )
            try:
                return await connection.send(request, waits)
            except asyncio.CancelledError:
                connection.abort()
                raise
            except Interrupted:
                if not reused or not connection.untouched:
                    raise
                connection, reused = None, False

    async def _new_connection(
        self, origin: Origin, pool: _Pool, waits: Waits, connections_max: int
    ) -> _Connection:
        deadline = self.loop.time() + waits.pool_max_s
        while pool.count >= connections_max:
            waiter: asyncio.Future[None] = self.loop.create_future()
            pool.waiters.append(waiter)
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                raise PoolExhausted(
                    f"all {connections_max} connections to {origin.authority} were taken "
                    f"for {waits.pool_max_s:g} s"
                ) from None
            except asyncio.CancelledError:
                if waiter.done():
                    pool.wake_one()
                raise
            idle = pool.take_idle()
            if idle is not None:
                return idle
        pool = self._pools.setdefault(origin, pool)  # it may have been empty, and swept away
        pool.count += 1
        connection = _Connection(self, pool)
        try:
            async with asyncio.timeout(waits.connect_max_s):
                await self._connect(origin, connection)
        except TimeoutError:
            connection.abort()
            raise TimedOut("connection", waits.connect_max_s) from None
        except (OSError, ValueError) as error:  # `ssl.SSLError` is one; a host, the other
            connection.abort()
            raise ConnectFailed(f"{origin.authority}: {_plain(error)}") from error
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(self, origin: Origin, connection: _Connection) -> None:
        context = None
        if origin.tls:
            context = self._tls = self._tls or ssl.create_default_context()
        if self._proxy is not None and not self._past_proxy(origin.host):
            await self._connect_through_proxy(self._proxy, origin, connection, context)
            return
        addresses = await self.resolver.resolve(origin.host, origin.port)
        failure: OSError | None = None
        for address in addresses:
            try:
                await self.loop.create_connection(
                    lambda: connection,
                    address,
                    origin.port,
                    ssl=context,
                    server_hostname=origin.host if context else None,
                )
                return
            except OSError as error:
                failure = error
        raise failure or OSError("the name has no address")

    async def _connect_through_proxy(
        self,
        proxy: Origin,
        origin: Origin,
        connection: _Connection,
        context: ssl.SSLContext | None,
    ) -> None:
        addresses = await self.resolver.resolve(proxy.host, proxy.port)
        tunnel = Tunnel(f"{_bracketed(origin.host)}:{origin.port}".encode())
        transport, _ = await self.loop.create_connection(lambda: tunnel, addresses[0], proxy.port)
        try:
            await tunnel.opened
            if context is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
                return
            secured = await self.loop.start_tls(
                transport, connection, context, server_hostname=origin.host
            )
            assert secured is not None
            connection.connection_made(secured)
        except BaseException:
            transport.abort()
            raise

    def close(self) -> None:
        """Close every connection, running ones too."""
        for connection in list(self.active):
            connection._fail(Interrupted("shutting down"))
        for pool in self._pools.values():
            for connection in list(pool.idle):
                connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.active):
            connection.sweep(now)
        for pool in self._pools.values():
            pool.close_idle(now - IDLE_KEEP_S)
        for origin in [o for o, p in self._pools.items() if not p.count and not p.waiters]:
            del self._pools[origin]  # addresses come and go, with upstreams that leave
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)


def is_loopback(host: str) -> bool:
    """A name such as `127.a.example` leads anywhere."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _plain(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted ({error.verify_message})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
