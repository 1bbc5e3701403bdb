"""The gateway as the playground asks it: one answer at a time, passed on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tokenschain.wire.client import ClientError, HttpClient, Origin, Reply, Waits
from tokenschain.wire.request_head import encode_lines

SHOWN = ("x-request-id", "x-tc-upstream", "x-tc-cache", "retry-after")
"""Headers of an answer that pages read."""
NO_CACHE = "no-store"
PIECES_AHEAD_MAX = 32
"""That a slow browser is behind, before reading from the gateway rests."""
WAITS = Waits()


class GatewayAnswer(NamedTuple):
    """An answer that is under way."""

    status: int
    headers: dict[str, str]
    pieces: AsyncIterator[bytes]


class GatewayUnreachable(Exception):
    """It cannot be asked; the message says why."""


class ChatGateway(Protocol):
    """Where chat completions are asked for."""

    async def ask(
        self, key: str, body: bytes, address: str, *, cache: bool, bulk: bool = False
    ) -> GatewayAnswer:
        """Ask for a chat completion.

        Args:
            key: an API key.
            address: of who asks; a gateway that trusts control as a proxy takes it for the call's.
            cache: whether the answer may come from the cache, and go there.
            bulk: whether nobody waits for it: others go first.

        Raises:
            GatewayUnreachable: see there.
        """


class HttpGateway:
    """A gateway over HTTP; see `ChatGateway`."""

    def __init__(self, client: HttpClient, url: str) -> None:
        """
        Args:
            url: up to `/v1`.
        """
        self._client = client
        self._url = url

    async def ask(
        self, key: str, body: bytes, address: str, *, cache: bool, bulk: bool = False
    ) -> GatewayAnswer:
        """See `ChatGateway.ask`."""
        try:
            origin = Origin.of(self._url)
            lines = {
                "host": origin.authority,
                "user-agent": "tokenschain",
                "authorization": f"Bearer {key}",
                "content-type": "application/json",
                "content-length": str(len(body)),
                **({"x-forwarded-for": address} if address else {}),
                **({} if cache else {"x-tc-cache": NO_CACHE}),
                **({"x-tc-priority": "bulk"} if bulk else {}),
            }
            target = f"{urlsplit(self._url).path.rstrip('/')}/chat/completions"
            head = encode_lines(
                (f"POST {target} HTTP/1.1", *(f"{name}: {text}" for name, text in lines.items()))
            )
            reply = await self._client.open(origin, b"%b\r\n%b" % (head, body), WAITS)
        except (ClientError, ValueError) as error:
            raise GatewayUnreachable(str(error)) from error
        found = {name.decode("latin-1"): value.decode("latin-1")
                 for name, value in reply.headers.items()}  # fmt: skip
        events = found.get("content-type", "").startswith("text/event-stream")
        headers = {name: found[name] for name in SHOWN if name in found}
        headers["content-type"] = "text/event-stream" if events else "application/json"
        return GatewayAnswer(reply.status, headers, _pieces(reply))


class _Pieces:
    """Takes the body in; see `wire.client.Sink`."""

    def __init__(self, reply: Reply) -> None:
        self.came: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._reply = reply

    def on_data(self, data: bytes) -> None:
        self._reply.progress += 1
        self.came.put_nowait(data)
        if self.came.qsize() >= PIECES_AHEAD_MAX:
            self._reply.pause()

    def on_end(self, error: BaseException | None) -> None:
        # An answer that breaks off has no end mark, which the page sees.
        self.came.put_nowait(None)


async def _pieces(reply: Reply) -> AsyncIterator[bytes]:
    """The body; when nobody takes more of it, the gateway is left, and the call ends there."""
    sink = _Pieces(reply)
    reply.push(sink)
    try:
        while (piece := await sink.came.get()) is not None:
            yield piece
            if sink.came.empty():
                reply.resume()
    finally:
        reply.abort()
