"""Single flight: identical calls wait for the one that is being answered, and get its answer.

The leader's answer is recorded as it is delivered; followers read the record at their own pace,
from its beginning. All of it runs on one event loop, so between two `await`s nothing changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from tokenschain.core.cache import response
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import CacheResult, Call, Hit, ResponseWriter
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat, stream_aggregation
from tokenschain.core.formats.openai_chat import Api
from tokenschain.gateway.cache.replay import target_of
from tokenschain.wire import sse

FOLLOW_MAX_S = 300.0
"""How long a follower waits for the leader's next piece: as long as an upstream may be silent."""


class Flight:
    """A call that is being answered, and what it has been told so far."""

    __slots__ = (
        "_bytes_left", "_changed", "entry", "failed", "followers", "name", "over", "pieces",
    )  # fmt: skip

    def __init__(self, name: tuple[object, ...], bytes_max: int) -> None:
        self.name = name
        self._bytes_left = bytes_max
        self.followers = 0
        self.pieces: list[tuple[bool, bytes]] = []
        """What the stream consists of: bytes as they are, or one canonical chunk."""
        self.over = self.failed = False
        self.entry: CacheEntry | None = None
        self._changed: asyncio.Future[None] | None = None

    def add(self, raw: bool, data: bytes) -> None:
        """The leader was sent another piece."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0 and not self.followers:
            # Too long to be cached, and no caller waits for it. With followers it is kept on: they
            # have a part of it already, and a broken stream is worse than the memory.
            self.pieces.clear()
            return
        self.pieces.append((raw, data))
        self._wake()

    @property
    def too_long(self) -> bool:
        """Whether it is no longer kept whole: no call may join, and nothing is stored."""
        return self._bytes_left < 0

    def end(self, entry: CacheEntry | None) -> None:
        """The leader is over; without an entry, it failed or its answer is for no other caller."""
        self.entry = entry
        self.over, self.failed = True, entry is None
        self._wake()

    async def change(self) -> None:
        """Wait for more.

        Raises:
            TimeoutError: there was none for `FOLLOW_MAX_S`.
        """
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(FOLLOW_MAX_S):
            # Shared by all followers: one that leaves must not cancel it for the others.
            await asyncio.shield(self._changed)

    async def begins(self) -> bool:
        """Whether the leader was told something, in the end.

        Followers commit to nothing before that: where the leader fails first, each of them asks
        an upstream itself instead of failing with it.
        """
        while not self.pieces and not self.over:
            try:
                await self.change()
            except TimeoutError:
                return False
        return bool(self.pieces) or not self.failed

    def whole(self, call: Call) -> bytes:
        """The stream as one canonical reply, with the usage that the caller may not have seen."""
        if call.parsed.api is not Api.CHAT or self.too_long:
            return b""
        chunks: list[bytes] = []
        reader = sse.SseReader()
        for raw, data in self.pieces:
            if raw:
                chunks += [event.data for event in reader.feed(data)]
            else:
                chunks.append(data)
        try:
            body = stream_aggregation.whole_of([chunk for chunk in chunks if chunk != b"[DONE]"])
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, TypeError):
            return b""
        answered = call.answered_by
        usage = (answered.delivered or answered.usage) if answered is not None else None
        return body if usage is None else openai_chat.with_usage(body, usage)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


class RecordingWriter:
    """Writes a stream to its caller and records it for the calls that follow."""

    __slots__ = ("_flight", "_writer")

    def __init__(self, writer: ResponseWriter, flight: Flight) -> None:
        self._writer = writer
        self._flight = flight

    @property
    def on_pause(self) -> Callable[[], None] | None:
        return self._writer.on_pause

    @on_pause.setter
    def on_pause(self, value: Callable[[], None] | None) -> None:
        self._writer.on_pause = value

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self._writer.on_resume

    @on_resume.setter
    def on_resume(self, value: Callable[[], None] | None) -> None:
        self._writer.on_resume = value

    @property
    def bytes_out(self) -> int:
        return self._writer.bytes_out

    @property
    def takes_raw(self) -> bool:
        return self._writer.takes_raw

    def begin_stream(self, call: Call) -> None:
        self._writer.begin_stream(call)

    def write(self, data: bytes) -> None:
        self._flight.add(True, data)
        self._writer.write(data)

    def event(self, data: bytes) -> None:
        self._flight.add(False, data)
        self._writer.event(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._flight.add(False, chunk)
        self._writer.native(data, chunks)

    def close(self, call: Call, last: bytes) -> None:
        self._writer.close(call, last)


class FollowedAnswer:
    """The answer of an identical call, as it comes."""

    __slots__ = ("_flight", "_result")

    def __init__(self, flight: Flight, result: CacheResult) -> None:
        self._flight = flight
        self._result = result

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        flight, writer, sent = self._flight, call.output, 0
        if call.parsed.stream:
            call.partial = True
            writer.begin_stream(call)
        while True:
            while sent < len(flight.pieces):
                raw, data = flight.pieces[sent]
                sent += 1
                (writer.write if raw else writer.event)(data)
            if flight.over:
                break
            try:
                await flight.change()
            except TimeoutError:
                flight.failed = True
                break
        hit = self._result.hit
        assert hit is not None, "who follows has a hit"
        if flight.failed or flight.entry is None:
            raise ApiError(
                "upstream_interrupted", "The identical call that was being answered broke off."
            )
        self._result.hit = Hit(hit.kind, flight.entry, hit.key)
        call.partial = False
        return b"" if call.parsed.stream else response.as_new(flight.entry.body, target_of(call))

    def abort(self) -> None: ...

    def partial_output(self) -> None:
        return None
