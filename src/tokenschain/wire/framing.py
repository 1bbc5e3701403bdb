"""Request heads and body framing, strict against request smuggling; pure.

What two servers read differently is a smuggling hole, so any doubt about who is asking or where
the message ends is a refusal, after which the connection must be closed (RFC 9112, 6.3).
"""

from __future__ import annotations

import re

import httptools
import msgspec

# Names whose repetition changes who is asking or where the message ends.
_SINGLE = frozenset(
    {b"host", b"content-length", b"authorization", b"x-api-key", b"api-key", b"content-type"}
)
_METHODS = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
# 10^18 - 1 is far above every limit on bodies and still a cheap integer.
_LENGTH_DIGITS_MAX = 18
_LENGTH = b"content-length"
_NOT_STRICT = "The request head is not strict HTTP/1.1."
# llhttp calls back only for methods that this object has; it has none.
_NO_CALLBACKS = object()

KNOWN_HEAD_BYTES_MAX = 2_048
"""A longer head is not remembered."""
CHUNKED = -1
"""The `body_bytes` of a body whose length is told chunk by chunk."""


class RequestRefused(Exception):
    """The wire itself refuses a request; the connection cannot be used on."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Framing(msgspec.Struct, frozen=True):
    """What the head says about the message and its connection."""

    method: str
    target: bytes
    path: bytes
    query: bytes
    speaks_1_1: bool
    keep_alive: bool
    body_bytes: int | None
    """The body's length; None without a body, `CHUNKED` where the chunks tell it."""


class KnownHead:
    """The head of a request that was understood, for the next one on its connection: clients
    repeat theirs byte for byte, but for the length of the body.

    What is equal to a head that was found strict is strict, so nothing is checked again.
    """

    __slots__ = (
        "_after", "_before", "bytes_whole", "fields", "framing", "head", "notes", "size",
    )  # fmt: skip

    def __init__(self, head: bytes, fields: dict[bytes, bytes], framing: Framing) -> None:
        length = fields[_LENGTH]
        at = head.lower().index(b"\r\n%b:" % _LENGTH)
        start = head.index(length, at + len(_LENGTH) + 3)
        self.head, self.size = head, len(head)
        self._before = head[:start]
        self._after = head[start + len(length) :]
        self.fields = fields
        """Not to be changed."""
        self.framing = framing
        self.bytes_whole = len(head) + (framing.body_bytes or 0)
        """Of the head and its body."""
        self.notes: object = None
        """What the handler derived from the head, if it is the same for all that repeat it."""

    @classmethod
    def of(cls, head: bytes, fields: dict[bytes, bytes], framing: Framing) -> KnownHead | None:
        """A head to be remembered; None where it is long, or of a request without a length."""
        if len(head) > KNOWN_HEAD_BYTES_MAX or framing.body_bytes in (None, CHUNKED):
            return None
        return cls(head, fields, framing)

    def match(self, data: bytes) -> tuple[int, bytes] | None:
        """Where the head ends that `data` begins with, and its length's digits; None where it
        is another head."""
        # A slice costs a third of what `startswith` does.
        if data[: self.size] == self.head:
            return self.size, self.fields[_LENGTH]
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        at = data.find(after, start, start + _LENGTH_DIGITS_MAX + len(after))
        digits = data[start:at]
        if at < 0 or not digits.isdigit():
            return None
        return at + len(after), digits

    def fields_with(self, length: bytes) -> dict[bytes, bytes]:
        """The fields with that length; not to be changed."""
        fields = self.fields
        return fields if fields[_LENGTH] == length else fields | {_LENGTH: length}


def without_empty_lines(data: bytes) -> bytes:
    """Bytes from the request line on: empty lines before it are ignored (RFC 9112, 2.2).

    Raises:
        RequestRefused: an empty line ends in LF alone.
    """
    data = _EMPTY_LINES.sub(b"", data, count=1)
    if data.startswith(b"\n"):
        raise RequestRefused(400, "malformed_http", "A line ends in LF without CR.")
    return data


def check_partial_head(data: bytes, bytes_max: int) -> None:
    """Refuse early what no further bytes can make a head of.

    Raises:
        RequestRefused: too large already, or not strict.
    """
    if len(data) > bytes_max:
        raise head_too_large()
    if not _strict_lines(data.removesuffix(b"\r")):
        raise RequestRefused(400, "malformed_http", _NOT_STRICT)


def head_too_large() -> RequestRefused:
    """The refusal of a head above its limit, whole or not."""
    return RequestRefused(431, "headers_too_large", "The request head is too large.")


def parse_head(head: bytes, headers_max: int) -> tuple[bytes, dict[bytes, bytes]]:
    """The request line and the fields of a whole head, which ends in its empty line.

    Names come in lower case; the values of a repeated one are joined by commas.

    Raises:
        RequestRefused: not strict HTTP/1.1, too many fields, or one repeated that must not be.
    """
    if not _strict_lines(head):
        raise RequestRefused(400, "malformed_http", _NOT_STRICT)
    try:
        # llhttp judges the grammar; it is given no callbacks and no body, so all
        # of this is C. What it has passed can be split by the simplest means.
        httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise RequestRefused(400, "malformed_http", _NOT_STRICT) from None
    lines = head[:-4].split(b"\r\n")
    if len(lines) - 1 > headers_max:
        raise RequestRefused(431, "headers_too_large", "Too many headers.")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    if len(fields) != len(lines) - 1:
        fields = _joined(lines[1:])
    return lines[0], fields


def _joined(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in fields:
            fields[name] = value.strip()
        elif name in _SINGLE:
            raise RequestRefused(400, "malformed_http", f"The header {name!r} is repeated.")
        else:
            fields[name] += b", " + value.strip()
    return fields


def framing_of(request_line: bytes, fields: dict[bytes, bytes], body_bytes_max: int) -> Framing:
    """How the body is framed and whether the connection is kept (RFC 9112, 6.3 and 9.3).

    Raises:
        RequestRefused: an unknown version, method, target or length, or two lengths.
    """
    method_name, _, rest = request_line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if version == b"HTTP/1.1":
        if b"host" not in fields:
            raise RequestRefused(400, "malformed_http", "The header host is missing.")
        speaks_1_1 = True
    elif version == b"HTTP/1.0":
        speaks_1_1 = False
    else:
        raise RequestRefused(505, "malformed_http", "Only version 1.1 is spoken here.")
    method = _METHODS.get(method_name)
    if method is None:
        raise RequestRefused(501, "malformed_http", "This method is not known here.")
    if (target[:1] != b"/" and target != b"*") or not _TARGET.fullmatch(target):
        raise RequestRefused(400, "malformed_http", "The request target must be a path.")
    connection = fields.get(b"connection")
    keep_alive = speaks_1_1 if connection is None else _keeps_alive(connection, speaks_1_1)
    path, _, query = target.partition(b"?")
    body_bytes = _body_bytes(fields, speaks_1_1, body_bytes_max)
    return Framing(method, target, path, query, speaks_1_1, keep_alive, body_bytes)


def body_too_large(bytes_max: int) -> RequestRefused:
    """The refusal of a body above the limit, said the same however its length is told."""
    return RequestRefused(413, "payload_too_large", f"The body is larger than {bytes_max} bytes.")


def wants_continue(fields: dict[bytes, bytes]) -> bool:
    """Whether the caller waits for `100 Continue` before it sends the body.

    Raises:
        RequestRefused: it expects something else.
    """
    expected = fields.get(b"expect")
    if expected is None:
        return False
    if expected.lower() != b"100-continue":
        raise RequestRefused(417, "malformed_http", "Only 100-continue may be expected.")
    return True


def _keeps_alive(connection: bytes, speaks_1_1: bool) -> bool:
    tokens = {token.strip() for token in connection.lower().split(b",")}
    return b"close" not in tokens if speaks_1_1 else b"keep-alive" in tokens


def _body_bytes(fields: dict[bytes, bytes], speaks_1_1: bool, bytes_max: int) -> int | None:
    length = fields.get(b"content-length")
    encoding = fields.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None or encoding.lower() != b"chunked" or not speaks_1_1:
            # Both, or an encoding we cannot delimit: the classic smuggling set-up.
            raise RequestRefused(400, "malformed_http", "The length of the body is ambiguous.")
        return CHUNKED
    if length is None:
        return None
    if not length.isdigit() or len(length) > _LENGTH_DIGITS_MAX:
        raise RequestRefused(400, "malformed_http", "content-length is not a number.")
    size = int(length)
    if size > bytes_max:
        raise body_too_large(bytes_max)
    return size


def _strict_lines(head: bytes) -> bool:
    """Whether every line ends in CRLF and none is folded over two.

    llhttp checks the rest of the grammar (field names are tokens, no space before
    the colon) but lets these pass, and peers disagree about them.
    """
    ends = head.count(b"\r\n")
    return (
        head.count(b"\n") == ends
        and head.count(b"\r") == ends
        and b"\n " not in head
        and b"\n\t" not in head
    )
