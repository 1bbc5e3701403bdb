"""Forwarding writer: what writers on the way back share that look at some of what passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from tokenschain.core.call import Call, ResponseWriter
from tokenschain.wire import sse

DONE = b"[DONE]"
"""Data of the event that ends a stream; no chunk."""
Inner = TypeVar("Inner", bound=ResponseWriter)


class ForwardingWriter(Generic[Inner]):
    """See `core.call.ResponseWriter`; passes all on as it comes."""

    __slots__ = ("_inner", "_reader")

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._reader: sse.SseReader | None = None

    @property
    def on_pause(self) -> Callable[[], None] | None:
        return self._inner.on_pause

    @on_pause.setter
    def on_pause(self, value: Callable[[], None] | None) -> None:
        self._inner.on_pause = value

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self._inner.on_resume

    @on_resume.setter
    def on_resume(self, value: Callable[[], None] | None) -> None:
        self._inner.on_resume = value

    @property
    def bytes_out(self) -> int:
        return self._inner.bytes_out

    @property
    def takes_raw(self) -> bool:
        return self._inner.takes_raw

    def begin_stream(self, call: Call) -> None:
        self._inner.begin_stream(call)

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def event(self, data: bytes) -> None:
        self._inner.event(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        self._inner.native(data, chunks)

    def close(self, call: Call, last: bytes) -> None:
        self._inner.close(call, last)

    def _write_events(self, data: bytes) -> None:
        """Take bytes as they came from another call's stream, chunk by chunk."""
        if self._reader is None:
            self._reader = sse.SseReader()
        for event in self._reader.feed(data):
            if event.data and event.data != DONE:
                self.event(event.data)
