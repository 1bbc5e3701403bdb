"""Chunked transfer coding, parsed strictly and incrementally."""

from __future__ import annotations

import re

_HEX = frozenset(b"0123456789abcdefABCDEF")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
# Framing, routing and authentication belong in the head (RFC 9110, 6.5.1).
_NEVER_TRAILING = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"authorization", b"x-api-key"}
)
_SIZE_LINE_BYTES_MAX = 1_024
_TRAILER_BYTES_MAX = 8_192
# A chunk costs as much work as some hundred bytes: what is cut finer than that is no upload.
CHUNKS_MAX = 8_192
BYTES_PER_CHUNK_MIN = 64
"""On the average, of those beyond the first `CHUNKS_MAX`."""


class ChunkError(ValueError):
    """The body is not strictly chunked, or larger than allowed."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class ChunkedBody:
    """Collects a chunked request body (RFC 9112, 7.1).

    Chunk extensions are refused: no client of this API sends them and parsers
    disagree about them. Trailers are read and dropped.
    """

    __slots__ = ("_chunks", "_left", "_pending", "_state", "body", "bytes_max", "rest")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._pending = b""
        self._state = "size"
        self._left = 0
        self._chunks = 0
        self.body = bytearray()
        self.rest = b""
        """After the end: bytes that belong to the next message."""

    def feed(self, data: bytes) -> bool:
        """Take more bytes; true when the body is complete.

        Raises:
            ChunkError: not a strictly chunked body, or too large.
        """
        data = self._pending + data
        self._pending = b""
        at = 0
        while True:
            if self._state == "data":
                take = min(self._left, len(data) - at)
                self.body += data[at : at + take]
                at += take
                self._left -= take
                if self._left:
                    return False
                self._state = "crlf"
            if self._state == "crlf":
                if len(data) - at < 2:
                    if data[at:] not in (b"", b"\r"):
                        raise ChunkError("A chunk does not end where its size says.")
                    self._pending = data[at:]
                    return False
                if data[at : at + 2] != b"\r\n":
                    raise ChunkError("A chunk does not end where its size says.")
                at += 2
                self._state = "size"
            end = data.find(b"\r\n", at)
            if end < 0:
                self._wait_for_line(data[at:])
                return False
            line = data[at:end]
            at = end + 2
            if self._state == "trailer":
                self._left += len(line)
                if not line:
                    self.rest = data[at:]
                    return True
                name = line.partition(b":")[0].lower()
                if (
                    self._left > _TRAILER_BYTES_MAX
                    or not _FIELD.fullmatch(line)
                    or name in _NEVER_TRAILING
                ):
                    raise ChunkError("The trailer is not strict HTTP/1.1.")
                continue
            size = self._size(line)
            if size == 0:
                self._state = "trailer"
                self._left = 0
                continue
            if len(self.body) + size > self.bytes_max:
                raise ChunkError("The body is too large.", too_large=True)
            self._chunks += 1
            if self._chunks > CHUNKS_MAX + len(self.body) // BYTES_PER_CHUNK_MIN:
                raise ChunkError("The body is cut into too many chunks.")
            self._left = size
            self._state = "data"

    def _wait_for_line(self, partial: bytes) -> None:
        if len(partial) > _SIZE_LINE_BYTES_MAX or b"\n" in partial:
            raise ChunkError("A chunk size is not strict HTTP/1.1.")
        if self._state == "size" and not _HEX.issuperset(partial.removesuffix(b"\r")):
            raise ChunkError("A chunk size is not a hexadecimal number.")
        self._pending = partial

    @staticmethod
    def _size(line: bytes) -> int:
        if not line or len(line) > 15 or not _HEX.issuperset(line):
            raise ChunkError("A chunk size is not a hexadecimal number.")
        return int(line, 16)


def end_of_head(data: bytes | bytearray) -> int:
    """The index after the empty line that ends a message head, or -1."""
    at = data.find(b"\r\n\r\n")
    return at if at < 0 else at + 4
