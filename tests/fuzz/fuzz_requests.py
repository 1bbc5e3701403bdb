"""Fuzz the request parser against h11: `python -m tests.fuzz.fuzz_requests SECONDS [SEED]`.

Mutates valid and invalid requests, feeds each in random cuts to a connection without
sockets, and stops at the first crash, or where a request is accepted that h11 refuses or
reads with another method, target or body. Prints what it tried and the seed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import h11

from tokenschain.wire.exchange import Exchange
from tokenschain.wire.server import HttpServer, Limits, _Connection

PARTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"0", b"3", b"abc", b"content-length: 3\r\n",
    b"transfer-encoding: chunked\r\n", b"host: x\r\n", b"GET / HTTP/1.1\r\n", b"POST ", b"HTTP/1.0",
    b"0\r\n\r\n", b"3\r\nabc\r\n", b"expect: 100-continue\r\n", b"connection: close\r\n", b"\xff",
    b";x=y", b"1e", b"-1", b"+1", b", ", b"\r\n ", b"/" * 20,
]  # fmt: skip
SEEDS = [
    b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
]


class Transport:
    """Takes what the server writes; just enough of a transport."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def set_write_buffer_limits(self, high: int) -> None: ...
    def get_extra_info(self, name: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closing = True

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close


def mutate(chance: random.Random) -> bytes:
    data = bytearray(
        chance.choice(SEEDS) + (chance.choice(SEEDS) if chance.random() < 0.3 else b"")
    )
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 3):
            case 0:
                data[at:at] = chance.choice(PARTS)
            case 1:
                del data[at : at + chance.randint(1, 4)]
            case 2 if at < len(data):
                data[at] = chance.randint(0, 255)
            case _:
                data[at:at] = bytes(chance.choices(range(256), k=chance.randint(1, 3)))
    return bytes(data)


def first_of_h11(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    peer = h11.Connection(h11.SERVER)
    try:
        peer.receive_data(data)
        request = peer.next_event()
        if not isinstance(request, h11.Request):
            return None
        body = b""
        while isinstance(event := peer.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return (request.method, request.target, body) if isinstance(event, h11.EndOfMessage) else None


async def fuzz(seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    seen: list[tuple[bytes, bytes, bytes]] = []

    def handler(exchange: Exchange) -> None:
        request = exchange.request
        seen.append((request.method.encode(), request.target, request.body))
        exchange.reply(200, b"", b"ok")

    server = HttpServer(handler, lambda *_: (b"", b""), Limits(body_bytes_max=1_000))
    server.loop = asyncio.get_running_loop()
    until, tried, accepted = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        data = mutate(chance)
        seen.clear()
        connection = _Connection(server)
        transport = Transport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        if chance.random() < 0.5:
            # The head of this one is remembered: what resembles it is read against it.
            connection.data_received(SEEDS[1])
            await asyncio.sleep(0)
            seen.clear()
        at = 0
        while at < len(data) and not transport.closing:
            step = chance.choice((1, 2, 5, len(data)))
            connection.data_received(data[at : at + step])
            at += step
            await asyncio.sleep(0)
        connection.connection_lost(None)
        tried += 1
        if not seen:
            continue
        accepted += 1
        while data.startswith(b"\r\n"):  # ignored here, refused by h11
            data = data[2:]
        theirs = first_of_h11(data)
        if theirs != seen[0]:
            print(f"seed {seed}: {data!r}\n  here {seen[0]}\n  h11  {theirs}")
            return 1
    print(f"seed {seed}: {tried} requests tried, {accepted} accepted, no difference to h11")
    return 0


if __name__ == "__main__":
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    sys.exit(asyncio.run(fuzz(length, chosen)))
