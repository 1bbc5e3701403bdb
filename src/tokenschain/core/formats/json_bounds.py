"""JSON bounds: what a body from outside is made of is counted before anything is made of it.

A decoder makes an object, a key or a number in a fraction of a microsecond, and holds the
interpreter until it has made the last one. Within these bounds no decoding of a body takes longer
than the pause that callers may notice (tests/security/test_long_bodies.py), wherever it is done.
"""

from __future__ import annotations

from typing import NamedTuple

SLICE_BYTES = 262_144
"""Counted at a time: within a millisecond."""
LONG_BYTES = 65_536
"""What is longer is read and written off the event loop; whatever a shorter body is made of, it
takes some milliseconds, and the way to a thread and back a tenth of one."""


class TooManyParts(ValueError):
    """More than the bounds allow; its text says what."""


class JsonBounds(NamedTuple):
    """How much of everything a body may hold."""

    objects: int
    lists: int
    texts: int
    """Names of fields included."""
    values: int
    """Entries of lists and fields of objects, as far as a comma stands before them."""
    outside_bytes: int
    """Numbers, blanks and punctuation: what is not in texts."""
    escapes: int
    """Backslashes: each makes a text slower to read."""


REQUEST_BOUNDS = JsonBounds(50_000, 50_000, 200_000, 1_000_000, 16_777_216, 3_000_000)
"""10,000 messages of two parts each, tools with long schemas, a batch of token arrays, as
much Chinese written as escapes as fills a context of 2 million tokens."""
REPLY_BOUNDS = JsonBounds(200_000, 200_000, 800_000, 10_000_000, 134_217_728, 500_000)
"""20 alternatives to each of 8,000 tokens; 2,048 vectors of 4,096 numbers."""
EVENT_BOUNDS = JsonBounds(5_000, 5_000, 40_000, 400_000, 4_194_304, 300_000)
"""Of one event of a stream, which is read on the loop: no slower than one of as many bytes as an
event may have, without escapes."""
ADMIN_BOUNDS = JsonBounds(2_000, 2_000, 10_000, 10_000, 262_144, 300_000)
"""Of a request to the admin API: 1,000 pairs of questions, a role for 1,000 models."""
DOCUMENTS_BOUNDS = JsonBounds(50_000, 50_000, 400_000, 400_000, 4_194_304, 300_000)
"""Of a platform's configuration at once."""


def check_parts(body: bytes, bounds: JsonBounds = REQUEST_BOUNDS) -> None:
    """Count what stands outside of texts, slice by slice; braces and quotes within do not count.

    What is no JSON is counted somehow: the decoder says what is wrong with it.

    Raises:
        TooManyParts: there is more than the bounds allow.
    """
    objects = lists = texts = values = outside_bytes = escapes = 0
    inside, carried = 0, b""
    for start in range(0, len(body), SLICE_BYTES):
        piece = carried + body[start : start + SLICE_BYTES]
        carried = b""
        if b"\\" in piece:
            escapes += piece.count(b"\\")
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
                piece, carried = piece[:-1], b"\\"
            # Pairs first, so that a quote after two backslashes stays one.
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = piece.split(b'"')
        outside = b"".join(pieces[inside::2])
        quotes = len(pieces) - 1
        inside ^= quotes & 1
        texts += (quotes + 1) // 2
        objects += outside.count(b"{")
        lists += outside.count(b"[")
        values += outside.count(b",")
        outside_bytes += len(outside)
        found = JsonBounds(objects, lists, texts, values, outside_bytes, escapes)
        for name, count, most in zip(JsonBounds._fields, found, bounds, strict=True):
            if count > most:
                raise TooManyParts(f"more than {most} {_WORDS[name]}")


_WORDS = {
    "objects": "objects", "lists": "lists", "texts": "texts", "values": "values",
    "outside_bytes": "bytes outside of texts", "escapes": "escapes",
}  # fmt: skip
