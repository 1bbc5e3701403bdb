"""ASGI applications over the wire's HTTP server, behind its limits on heads, bodies and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from tokenschain.wire.exchange import Exchange, Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]
"""See https://asgi.readthedocs.io/en/latest/specs/www.html; scopes are messages, too."""

# The wire says these itself: how a message is framed is not the application's.
_OF_THE_WIRE = frozenset({b"connection", b"content-length", b"date", b"transfer-encoding"})


class AsgiHandler:
    """Runs an application for each request; see `wire.exchange.Handler`."""

    def __init__(
        self,
        app: AsgiApp,
        refusal: Callable[[], tuple[int, bytes, bytes]],
        report: Callable[[str, BaseException], None],
    ) -> None:
        """
        Args:
            refusal: status, header lines and body where the application has failed.
            report: told of such a failure: `(path, why)`.
        """
        self._app = app
        self._refusal = refusal
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> None:
        """See `wire.exchange.Handler`."""
        task = asyncio.get_running_loop().create_task(self._serve(_Cycle(exchange)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, cycle: _Cycle) -> None:
        exchange = cycle.exchange
        scope = _scope_of(exchange.request, exchange.client_address)
        try:
            await self._app(scope, cycle.receive, cycle.send)
        except Exception as error:  # noqa: BLE001 - the border of the application
            self._report(scope["path"], error)
        if not exchange.ended:
            if exchange.started:
                exchange.abort()
            else:
                exchange.reply(*self._refusal())


class _Cycle:
    """One request and its answer, as the application sees them."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._body: bytes | None = exchange.request.body
        self._status = 500
        self._headers = b""
        self._over = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        exchange.watcher = self

    def caller_left(self, _: str) -> None:
        """See `wire.exchange.Watcher`, as the next two."""
        self._over.set()
        self._writable.set()

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    async def receive(self) -> Message:
        """The body, which is whole; then that the caller has left or the answer is complete."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer, no faster than the caller reads."""
        exchange = self.exchange
        if message["type"] == "http.response.start":
            self._status = message["status"]
            lines = (
                b"%b: %b\r\n" % (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in _OF_THE_WIRE
            )
            self._headers = b"".join(lines)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not exchange.started and not more:
            exchange.reply(self._status, self._headers, body)
        else:
            if not exchange.started:
                exchange.begin(self._status, self._headers)
            if more:
                exchange.write(body)
                await self._writable.wait()
                return
            exchange.finish(body)
        self._over.set()


def _scope_of(request: Request, address: str) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.path.decode("latin-1")),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers.items()),
        "client": (address, 0),
        "server": None,
        "state": {},
    }
