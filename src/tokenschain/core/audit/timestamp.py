"""RFC 3161 time stamps: the request for one, and what an answer says.

Whether its signature is right is for who verifies it, with the authority's certificate and
`openssl ts -verify`: here it is checked that a time stamp is of the digest that was asked for.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

REQUEST_TYPE, REPLY_TYPE = "application/timestamp-query", "application/timestamp-reply"
REPLY_BYTES_MAX = 65_536
_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE, _TIME = 2, 4, 5, 6, 0x30, 0x18
_CONTEXT_0 = 0xA0
_SHA256 = bytes.fromhex("608648016503040201")
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_GRANTED = (0, 1)
_LONGEST = 4
"""Bytes of a length."""


class NoTimestamp(Exception):
    """An answer has no time stamp for what was asked; the text says why."""


class Timestamp(NamedTuple):
    """What a time stamp says."""

    at_s: int
    """Unix time."""
    serial: int
    """Of the authority."""


def request(digest: bytes, nonce: int) -> bytes:
    """The request for a time stamp of a SHA-256 digest, with the authority's certificate (DER)."""
    return _sequence(
        _tlv(_INTEGER, b"\x01"),
        _imprint(digest),
        _integer(nonce),
        b"\x01\x01\xff",  # certReq
    )


def stated(reply: bytes, digest: bytes, nonce: int) -> Timestamp:
    """What the time stamp of an answer says.

    Raises:
        NoTimestamp: it was refused, is none, or is of another digest or request.
    """
    try:
        return _stated(reply, digest, nonce)
    except (ValueError, IndexError, StopIteration) as error:
        raise NoTimestamp(f"no answer of RFC 3161 {error}".strip()) from None


def _stated(reply: bytes, digest: bytes, nonce: int) -> Timestamp:
    (answer,) = _children(reply)
    status, *token = _children(_body(answer, _SEQUENCE))
    number = int.from_bytes(_body(next(_children(_body(status, _SEQUENCE))), _INTEGER), "big")
    if number not in _GRANTED or not token:
        raise NoTimestamp(f"the authority refused it with status {number}")
    kind, content = _children(_body(token[0], _SEQUENCE))
    if _body(kind, _OID) != _SIGNED_DATA:
        raise ValueError("its token is not signed")
    (signed,) = _children(_body(content, _CONTEXT_0))
    _, _, inner, *_ = _children(_body(signed, _SEQUENCE))
    kind, octets = _children(_body(inner, _SEQUENCE))
    if _body(kind, _OID) != _TST_INFO:
        raise ValueError("its token is no time stamp")
    (octet_string,) = _children(_body(octets, _CONTEXT_0))
    (info,) = _children(_body(octet_string, _OCTETS))
    _, _, imprint, serial, at, *more = _children(_body(info, _SEQUENCE))
    if imprint != _imprint(digest) and imprint != _imprint(digest, with_null=False):
        raise NoTimestamp("it is the time stamp of another digest")
    if _integer(nonce) not in more:
        raise NoTimestamp("it answers another request")
    return Timestamp(_moment(_body(at, _TIME)), int.from_bytes(_body(serial, _INTEGER), "big"))


def _moment(text: bytes) -> int:
    found = re.fullmatch(rb"(\d{14})(\.\d+)?Z", text)
    if found is None:
        raise ValueError("its time is none")
    return calendar.timegm(time.strptime(found[1].decode(), "%Y%m%d%H%M%S"))


def _imprint(digest: bytes, *, with_null: bool = True) -> bytes:
    algorithm = _tlv(_OID, _SHA256) + (_tlv(_NULL, b"") if with_null else b"")
    return _sequence(_sequence(algorithm), _tlv(_OCTETS, digest))


# --- DER -------------------------------------------------------------------------------------


def _sequence(*parts: bytes) -> bytes:
    return _tlv(_SEQUENCE, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tlv(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _children(data: bytes) -> Iterator[bytes]:
    """Each value with its head."""
    at = 0
    while at < len(data):
        start = at + _head_bytes(data[at:])
        end = start + _length(data[at:])
        if end > len(data):
            raise ValueError("it is cut off")
        yield data[at:end]
        at = end


def _body(value: bytes, tag: int) -> bytes:
    if value[0] != tag:
        raise ValueError(f"tag {value[0]:#x} instead of {tag:#x}")
    return value[_head_bytes(value) :]


def _head_bytes(value: bytes) -> int:
    if value[0] & 0x1F == 0x1F:
        raise ValueError("a long tag")
    return 2 + (value[1] & 0x7F if value[1] & 0x80 else 0)


def _length(value: bytes) -> int:
    count = value[1] & 0x7F if value[1] & 0x80 else 0
    if not count:
        if value[1] == 0x80:
            raise ValueError("an indefinite length")
        return value[1]
    length = value[2 : 2 + count]
    if count > _LONGEST or len(length) != count:
        raise ValueError("a length that is too long")
    return int.from_bytes(length, "big")
