"""Labels in PDF: the entry `AIGC` of the information dictionary, added by an incremental update.

What the file had stays as it is, byte for byte; what is appended repeats the information
dictionary with the label in it. No object streams are read: a file whose information dictionary is
in one, or that is encrypted, is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DICTIONARY_BYTES_MAX = 65_536
DEPTH_MAX = 50
_MARK = b"\n% label of AI-generated content\n"
_END = b"\n%%EOF\n"
_REF = rb"[ \t\r\n]{0,9}(\d{1,10})[ \t\r\n]{1,9}(\d{1,5})[ \t\r\n]{1,9}R"
_KEY = re.compile(rb"/AIGC[ \t\r\n]{0,9}(?=\()")


class BadFile(ValueError):
    """A file that cannot be labelled or read; says why."""


class _Trailer(NamedTuple):
    at: int
    """Where the last table of objects is."""
    is_stream: bool
    entries: bytes


def read(data: bytes) -> tuple[str | None, bytes]:
    """The label's text, and the file as it was before one was written.

    Raises:
        BadFile: it is damaged, or of a kind that is not read.
    """
    trailer = _trailer(data)
    found = _information(data, trailer)
    key = None if found is None else _KEY.search(found)
    if found is None or key is None:
        return None, _without_updates(data)
    return _string(found, key.end())[0], _without_updates(data)


def write(data: bytes, text: str) -> bytes:
    """The file with a label.

    Raises:
        BadFile: see `read`.
    """
    earlier = data.rfind(_MARK)
    if earlier >= 0 and data.endswith(_END) and data.count(_END, earlier) == 1:
        data = data[:earlier]
    trailer = _trailer(data)
    root = re.search(rb"/Root" + _REF, trailer.entries)
    size = re.search(rb"/Size[ \t\r\n]{1,9}(\d{1,10})", trailer.entries)
    if root is None or size is None:
        raise BadFile("the PDF has no catalogue")
    known = _information(data, trailer)
    number = int(size.group(1))
    entries = _without_label(known) if known is not None else b""
    safe = _ascii(text)
    for sign in (b"\\", b"(", b")"):
        safe = safe.replace(sign, b"\\" + sign)
    made = b"%d 0 obj\n<<%s /AIGC (%s)>>\nendobj\n" % (number, entries, safe)
    at = len(data) + len(_MARK)
    table_at = at + len(made)
    kept = b"/Root %s %s R /Info %d 0 R /Prev %d" % (root[1], root[2], number, trailer.at)
    identity = re.search(rb"/ID[ \t\r\n]{0,9}\[[^\]]{0,300}\]", trailer.entries)
    if identity is not None:
        kept += b" " + identity.group()
    if trailer.is_stream:
        rows = b"".join(
            b"\x01" + place.to_bytes(5, "big") + b"\x00\x00" for place in (at, table_at)
        )
        table = (
            b"%d 0 obj\n<</Type /XRef /Size %d /Index [%d 2] /W [1 5 2] /Length %d %s>>\n"
            b"stream\n%s\nendstream\nendobj\n"
            % (number + 1, number + 2, number, len(rows), kept, rows)
        )
    else:
        table = b"xref\n%d 1\n%010d 00000 n \ntrailer\n<</Size %d %s>>\n" % (
            number, at, number + 1, kept,
        )  # fmt: skip
    return data + _MARK + made + table + b"startxref\n%d" % table_at + _END


def _without_updates(data: bytes) -> bytes:
    """The file without what `write` has appended, here or before later updates."""
    kept, at = [], 0
    while (mark := data.find(_MARK, at)) >= 0:
        kept.append(data[at:mark])
        end = data.find(_END, mark)
        at = len(data) if end < 0 else end + len(_END)
    return b"".join([*kept, data[at:]])


def _ascii(text: str) -> bytes:
    """JSON with every other letter escaped."""
    units = text.encode("utf-16-be")
    found = bytearray()
    for at in range(0, len(units), 2):
        unit = int.from_bytes(units[at : at + 2], "big")
        found += bytes([unit]) if unit < 128 else b"\\u%04x" % unit
    return bytes(found)


def _trailer(data: bytes) -> _Trailer:
    tail = data[-2_048:]
    found = re.findall(rb"startxref[ \t\r\n]{1,9}(\d{1,15})", tail)
    at = int(found[-1]) if found else len(data)
    if at >= len(data):
        raise BadFile("the PDF has no table of its objects")
    head = data[at : at + 64].lstrip()
    if head.startswith(b"xref"):
        begins = data.find(b"trailer", at)
        is_stream = False
    elif re.match(rb"\d{1,10}[ \t\r\n]{1,9}\d{1,5}[ \t\r\n]{1,9}obj", head):
        begins, is_stream = at, True
    else:
        begins = -1
    begins = -1 if begins < 0 else data.find(b"<<", begins)
    if begins < 0:
        raise BadFile("the PDF's table of its objects is damaged")
    entries = _dictionary(data, begins)
    if b"/Encrypt" in entries:
        raise BadFile("the PDF is encrypted")
    return _Trailer(at, is_stream, entries)


def _information(data: bytes, trailer: _Trailer) -> bytes | None:
    """The entries of the information dictionary; None where there is none."""
    named = re.search(rb"/Info" + _REF, trailer.entries)
    if named is None:
        return None
    head = re.compile(
        rb"(?<!\d)%d[ \t\r\n]{1,9}%d[ \t\r\n]{1,9}obj" % tuple(map(int, named.groups()))
    )
    places = list(head.finditer(data))
    if not places:
        raise BadFile("its information dictionary is in an object stream, which is not read here")
    begins = data.find(b"<<", places[-1].end(), places[-1].end() + 64)
    if begins < 0:
        raise BadFile("the PDF's information dictionary is damaged")
    return _dictionary(data, begins)


def _dictionary(data: bytes, begins: int) -> bytes:
    """What is between `<<` and its `>>`."""
    at, depth, end = begins, 0, min(len(data), begins + DICTIONARY_BYTES_MAX)
    while at < end:
        two = data[at : at + 2]
        if two == b"<<":
            depth, at = depth + 1, at + 2
            if depth > DEPTH_MAX:
                break
        elif two == b">>":
            depth, at = depth - 1, at + 2
            if depth == 0:
                return data[begins + 2 : at - 2]
        elif two[:1] == b"(":
            at = _string(data, at)[1]
        else:
            at += 1
    raise BadFile("a dictionary of the PDF is damaged")


def _string(data: bytes, begins: int) -> tuple[str, int]:
    """A literal string, and where what follows it begins."""
    at, depth, found = begins, 0, bytearray()
    end = min(len(data), begins + DICTIONARY_BYTES_MAX)
    while at < end:
        one = data[at : at + 1]
        if one == b"\\":
            found += data[at + 1 : at + 2]
            at += 2
            continue
        if one == b"(":
            depth += 1
        if one == b")":
            depth -= 1
            if depth == 0:
                return bytes(found[1:]).decode("latin-1"), at + 1
        found += one
        at += 1
    raise BadFile("a text of the PDF is damaged")


def _without_label(entries: bytes) -> bytes:
    found = _KEY.search(entries)
    if found is None:
        return entries
    return entries[: found.start()] + entries[_string(entries, found.end())[1] :]
