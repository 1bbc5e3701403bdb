"""Single flight: identical calls wait for the one that is being answered, and get its answer.

The leader's answer is recorded as it is delivered; followers read the record at their own pace,
from its beginning. A leader that reads slowly, or leaves, stops nothing while somebody follows:
what it has not read yet is kept for it, within bounds. All of it runs on one event loop, so between
two `await`s nothing changes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

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
BEHIND_BYTES_MAX, BEHIND_BYTES_TOTAL_MAX = 8_388_608, 67_108_864
"""How far a leader may be behind its followers, and all leaders of a worker together; beyond it
they go on as it reads."""


class Behind:
    """Bytes that leaders have not read yet, in all flights."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


def nothing() -> None:
    """Of a flight that nobody watches."""


class Flight:
    """A call that is being answered, and what it has been told so far."""

    __slots__ = (
        "_bytes_left", "_changed", "behind", "entry", "failed", "followers", "name", "on_alone",
        "on_followed", "over", "pieces",
    )  # fmt: skip

    def __init__(
        self, name: tuple[object, ...], bytes_max: int, behind: Behind | None = None
    ) -> None:
        self.name = name
        self._bytes_left = bytes_max
        self.behind = behind or Behind()
        self.followers = 0
        self.on_followed: Callable[[], None] = nothing
        """Called when somebody follows."""
        self.on_alone: Callable[[], None] = nothing
        """Called when nobody follows any more."""
        self.pieces: list[tuple[bool, bytes]] = []
        """What the stream consists of: bytes as they are, or one canonical chunk."""
        self.over = self.failed = False
        self.entry: CacheEntry | None = None
        self._changed: asyncio.Future[None] | None = None

    def join(self) -> None:
        """Another call follows; it must `leave` again."""
        self.followers += 1
        self.on_followed()

    def leave(self) -> None:
        """A follower is over, or has left."""
        self.followers -= 1
        if not self.followers and not self.over:
            self.on_alone()

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
        try:
            chunks = [data for data in sse.data_of(self.pieces) if data != b"[DONE]"]
            body = stream_aggregation.whole_of(chunks)
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
    """Writes a stream to its caller and records it for the calls that follow.

    While somebody follows, a caller that reads slowly does not stop the upstream: it is given the
    rest when it reads on.
    """

    __slots__ = (
        "_backlog", "_backlog_bytes", "_flight", "_held", "_pause", "_resume", "_slow", "_writer",
    )  # fmt: skip

    def __init__(self, writer: ResponseWriter, flight: Flight) -> None:
        self._writer = writer
        self._flight = flight
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None
        self._slow = self._held = False
        """Whether the caller reads too slowly, and whether the upstream waits for it."""
        self._backlog: deque[tuple[Callable[[], None], int]] = deque()
        self._backlog_bytes = 0
        flight.on_followed = self._go_on
        flight.on_alone = self._wait

    @property
    def on_pause(self) -> Callable[[], None] | None:
        return self._pause

    @on_pause.setter
    def on_pause(self, value: Callable[[], None] | None) -> None:
        self._pause = value
        self._writer.on_pause = None if value is None else self._slowed
        if value is None:
            self._give(whole=True)  # the answer is over: its end follows

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self._resume

    @on_resume.setter
    def on_resume(self, value: Callable[[], None] | None) -> None:
        self._resume = value
        self._writer.on_resume = None if value is None else self._reads_on

    def _slowed(self) -> None:
        self._slow = True
        if not self._flight.followers:
            self._wait()

    def _reads_on(self) -> None:
        self._slow = False
        self._give()
        self._go_on()

    def _wait(self) -> None:
        """Stop the upstream, where the caller is slow."""
        if self._slow and not self._held and self._pause is not None:
            self._held = True
            self._pause()

    def _go_on(self) -> None:
        """Let the upstream go on, where nothing speaks against it any more."""
        may = not self._slow or (self._flight.followers and self._has_room())
        if self._held and may and self._resume is not None:
            self._held = False
            self._resume()

    def _has_room(self) -> bool:
        behind = self._flight.behind.bytes
        return self._backlog_bytes < BEHIND_BYTES_MAX and behind < BEHIND_BYTES_TOTAL_MAX

    def _tell(self, tell: Callable[[], None], size: int) -> None:
        """Write to the caller, or keep it until it reads on."""
        if not self._backlog and not (self._slow and self._flight.followers):
            tell()
            return
        self._backlog.append((tell, size))
        self._backlog_bytes += size
        self._flight.behind.bytes += size
        if not self._has_room():
            self._wait()

    def _give(self, *, whole: bool = False) -> None:
        """Write what was kept, until the caller is slow again."""
        while self._backlog and (whole or not self._slow):
            tell, size = self._backlog.popleft()
            self._backlog_bytes -= size
            self._flight.behind.bytes -= size
            tell()

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
        if self._slow or self._backlog:
            self._tell(partial(self._writer.write, data), len(data))
        else:
            self._writer.write(data)

    def event(self, data: bytes) -> None:
        self._flight.add(False, data)
        if self._slow or self._backlog:
            self._tell(partial(self._writer.event, data), len(data))
        else:
            self._writer.event(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._flight.add(False, chunk)
        if self._slow or self._backlog:
            self._tell(partial(self._writer.native, data, chunks), len(data))
        else:
            self._writer.native(data, chunks)

    def close(self, call: Call, last: bytes) -> None:
        self._writer.close(call, last)


class FollowedAnswer:
    """The answer of an identical call, as it comes."""

    __slots__ = ("_flight", "_reads", "_result")

    def __init__(self, flight: Flight, result: CacheResult) -> None:
        """
        Args:
            flight: joined; it is left when the answer is over.
        """
        self._flight = flight
        self._result = result
        self._reads = asyncio.Event()
        """Whether its caller keeps up."""
        self._reads.set()

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        flight, writer = self._flight, call.output
        if call.parsed.stream:
            call.partial = True
            writer.begin_stream(call)
        writer.on_pause, writer.on_resume = self._reads.clear, self._reads.set
        try:
            in_time = await self._relay(writer)
        finally:
            writer.on_pause = writer.on_resume = None
            flight.leave()
        hit = self._result.hit
        assert hit is not None, "who follows has a hit"
        if not in_time or flight.failed or flight.entry is None:
            raise ApiError(
                "upstream_interrupted", "The identical call that was being answered broke off."
            )
        self._result.hit = Hit(hit.kind, flight.entry, hit.key)
        call.partial = False
        return b"" if call.parsed.stream else response.as_new(flight.entry.body, target_of(call))

    async def _relay(self, writer: ResponseWriter) -> bool:
        """Pass on the leader's pieces as the caller reads; false where none came for too long."""
        flight, sent = self._flight, 0
        while True:
            while sent < len(flight.pieces):
                raw, data = flight.pieces[sent]
                sent += 1
                (writer.write if raw else writer.event)(data)
                if not self._reads.is_set():
                    await self._reads.wait()
            if flight.over:
                return True
            try:
                await flight.change()
            except TimeoutError:
                return False

    def abort(self) -> None: ...

    def partial_output(self) -> None:
        return None
