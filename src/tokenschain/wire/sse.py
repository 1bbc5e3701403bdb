"""Server-sent events (SSE), read and written incrementally (WHATWG HTML, 9.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
EVENT_BYTES_MAX = 8_388_608
# What a line counts beside its bytes: empty ones take room and time as well.
_LINE_BYTES = 1
_LINES_FREE = 4_096
_LINE_BYTES_MIN = 4
"""On average, of what comes at a time: each line takes a microsecond."""


class Event(NamedTuple):
    """One event: its data lines joined by LF; comments are kept apart."""

    data: bytes
    event: bytes = b""


class SseError(ValueError):
    """An event is larger than the limit."""


class SseReader:
    """Bytes in any cut to events.

    Works on bytes throughout, so a character split between two reads is never
    decoded in halves. Line ends may be CRLF, LF or CR; a byte order mark at the
    start is skipped; comments only count in `comments`.
    """

    __slots__ = (
        "_bytes_max", "_data", "_event", "_first", "_partial", "_size", "_skip_lf", "comments",
    )  # fmt: skip

    def __init__(self, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._first = True
        self._skip_lf = False
        self.comments = 0

    @property
    def bytes_held(self) -> int:
        """Of an event that is not complete."""
        return len(self._partial) + self._size

    @property
    def between_events(self) -> bool:
        """Whether all input so far has been given out as events."""
        return not self._partial and not self._data and not self._event and not self._first

    def start(self) -> None:
        """Declare the start of the stream seen (by one who has looked at the bytes)."""
        self._first = False

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes; returns the events they complete.

        Raises:
            SseError: an event exceeds the limit.
        """
        if self._skip_lf:
            # A CR ended the last line; an LF now is the rest of that line end.
            if not data:
                return []
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if not self._first and b"\n" not in data and b"\r" not in data:
            # What came before is neither copied nor looked through again.
            self._partial += data
            self._check_size()
            return []
        events: list[Event] = []
        if self._partial and not self._first:
            # The line that was begun is not looked through again either.
            end = _LINE_END.search(data)
            assert end is not None
            self._partial += data[: end.start()]
            line = bytes(self._partial)
            self._partial.clear()
            self._line(line, events)
            self._skip_lf = end.end() == len(data) and data.endswith(b"\r")
            data = data[end.end() :]
        if self._first:
            data = bytes(self._partial) + data
            self._partial.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._partial += data
                return []
            data = data.removeprefix(_BOM)
            self._first = False
        if len(data) > _LINES_FREE:
            lines = max(data.count(b"\n"), data.count(b"\r"))
            if lines > _LINES_FREE + len(data) // _LINE_BYTES_MIN:
                raise SseError("it consists of next to nothing but line ends")
        at = 0
        for match in _LINE_END.finditer(data):
            self._line(data[at : match.start()], events)
            at = match.end()
        if at == len(data) and data.endswith(b"\r"):
            self._skip_lf = True
        if at < len(data):
            self._partial += data[at:]
        if self._size or self._partial:
            self._check_size()
        return events

    def _check_size(self) -> None:
        if len(self._partial) + self._size > self._bytes_max:
            raise SseError(f"an event is larger than {self._bytes_max} bytes")

    def finish(self) -> list[Event]:
        """The stream has ended; returns a last event that lacked its empty line.

        The standard drops it. Vendors do end streams so, and the data is whole
        when its line is: it is given out, and a cut line is left out.
        """
        events: list[Event] = []
        if self._partial:
            line = bytes(self._partial)
            self._partial.clear()
            if line.endswith(b"}") or line.endswith(b"[DONE]"):
                self._line(line, events)
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(b"\n".join(self._data), self._event))
            self._data = []
            self._size = 0
            self._event = b""
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + _LINE_BYTES
        elif name == b"event":
            self._event = value
        elif not name:
            self.comments += 1


def data_of(pieces: Iterable[tuple[bool, bytes]]) -> list[bytes]:
    """The data of a stream's events that were kept in pieces.

    Args:
        pieces: each either the stream's own bytes (True), cut anywhere, or the data of one event.

    Raises:
        SseError: an event exceeds the limit.
    """
    reader, found = SseReader(), list[bytes]()
    for raw, data in pieces:
        found += [event.data for event in reader.feed(data)] if raw else [data]
    return found


def encode(event: Event) -> bytes:
    """An event as bytes."""
    head = b"event: " + event.event + b"\n" if event.event else b""
    if b"\n" in event.data:
        return head + b"".join(b"data: %b\n" % line for line in event.data.split(b"\n")) + b"\n"
    return b"%bdata: %b\n\n" % (head, event.data)


def comment(text: bytes) -> bytes:
    """A comment: keeps proxies awake, means nothing.

    No empty line follows: some clients take any empty line for the end of an event.
    """
    return b": %b\n" % text
