"""Bodies of upstreams' answers: content encodings undone, and what they really hold.

`accept-encoding: identity` is sent, and compressed answers come all the same: from CDNs and
proxies on the way. Content types are wrong as often, so the first bytes decide.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from enum import StrEnum

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_GZIP = b"\x1f\x8b"
_ZLIB_FIRST = b"\x78"
_AUTOMATIC = zlib.MAX_WBITS | 32
_RAW = -zlib.MAX_WBITS
_ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})
_STEP_BYTES = 65_536
_PIECE_BYTES = 65_536
"""Of what came, given to the decompressor at once: it copies what is left after each member."""
MEMBERS_MAX = 1_024
"""Of one body; parallel packers begin one each 128 KiB or more (`pigz -i`, bgzip 64 KiB)."""


class Content(StrEnum):
    """What a body holds, by its first bytes."""

    JSON = "json"
    EVENTS = "events"
    PAGE = "page"
    UNKNOWN = "unknown"
    """Too few bytes to say."""


def content_of(start: bytes) -> Content:
    """What a body holds that begins so."""
    start = start.removeprefix(_BOM).lstrip(_SPACE)
    if not start or _BOM.startswith(start):
        return Content.UNKNOWN
    if start[:1] in (b"{", b"["):
        return Content.JSON
    return Content.PAGE if start[:1] == b"<" else Content.EVENTS


class BadEncoding(ValueError):
    """A body cannot be decoded, or is larger than the limit."""


class BodyDecoder:
    """Undoes a content encoding, piece by piece, up to a limit of bytes and of members."""

    __slots__ = (
        "_between", "_bytes_left", "_decompressor", "_members_left", "_raw_tried", "_started"
    )  # fmt: skip

    def __init__(self, bytes_max: int) -> None:
        self._bytes_left = bytes_max
        self._members_left = MEMBERS_MAX
        self._between = False
        """Whether a member ended and none began since: zeros may fill up."""
        self._decompressor = zlib.decompressobj(_AUTOMATIC)
        self._raw_tried = False
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """What more bytes hold.

        Raises:
            BadEncoding: they are no gzip or deflate, or hold more than the limits.
        """
        return b"".join(self.pieces(data))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What more bytes hold, a piece at a time: a few may hold megabytes. What comes after them
        waits until all pieces are taken.

        Raises:
            BadEncoding: as `feed`.
        """
        for start in range(0, len(data), _PIECE_BYTES):
            yield from self._pieces(data[start : start + _PIECE_BYTES])

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._between:
            data = data.lstrip(b"\0")
        while data:
            try:
                piece = self._decompressor.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                if self._started or self._raw_tried:
                    raise BadEncoding("its encoding is broken") from error
                # Some call deflate what has no zlib header.
                self._raw_tried = True
                self._decompressor = zlib.decompressobj(_RAW)
                continue
            self._started, self._between = True, False
            self._bytes_left -= len(piece)
            if self._bytes_left < 0:
                raise BadEncoding("its body holds more bytes than the limit")
            yield piece
            data = self._decompressor.unconsumed_tail
            if self._decompressor.eof:
                self._members_left -= 1
                if not self._members_left:
                    raise BadEncoding(f"its body has more than {MEMBERS_MAX} parts")
                data = self._decompressor.unused_data.lstrip(b"\0")
                self._between = True
                self._decompressor = zlib.decompressobj(_AUTOMATIC)


def decoder_of(headers: Mapping[bytes, bytes], start: bytes, bytes_max: int) -> BodyDecoder | None:
    """The decoder that a body needs which begins so; None when it is not encoded.

    Raises:
        BadEncoding: it is encoded in a way that was not asked for and is not known.
    """
    named = headers.get(b"content-encoding", b"").lower().strip()
    if start.startswith(_GZIP):
        return BodyDecoder(bytes_max)
    if named in (b"", b"identity") or content_of(start) in (Content.JSON, Content.PAGE):
        return None
    if named == b"deflate" or start.startswith(_ZLIB_FIRST):
        return BodyDecoder(bytes_max)
    if named in _ENCODINGS or start.startswith((b"data:", b"event:", b":")):
        return None  # it says so and is not
    raise BadEncoding(f"its content encoding is `{named[:40].decode('latin-1')}`")


def decoded(body: bytes, headers: Mapping[bytes, bytes], bytes_max: int) -> bytes:
    """A whole body without its content encoding.

    Raises:
        BadEncoding: see above.
    """
    if body.startswith(b"{"):
        return body
    decoder = decoder_of(headers, body[:16], bytes_max)
    return body if decoder is None else decoder.feed(body)
