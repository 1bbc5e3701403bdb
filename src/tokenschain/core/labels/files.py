"""Labels in files: text, Markdown, JPEG, PNG, WAV and PDF; small readers that trust no length.

Where the label is: JPEG and PNG hold it as XMP `TC260:AIGC`, WAV as a chunk `AIGC`, PDF as the
entry `AIGC` of its information dictionary (by an incremental update), Markdown as front matter and
other texts as their first line.
"""

from __future__ import annotations

import html
import re
import zlib
from binascii import crc32
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

import msgspec

from tokenschain.core.labels import pdf
from tokenschain.core.labels.aigc import LABEL_BYTES_MAX, AigcLabel, read_label, write_label
from tokenschain.core.labels.pdf import BadFile

XMP_BYTES_MAX = 65_000
"""Of an XMP packet: as much as a segment of a JPEG holds."""
NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ENTRY = f'<rdf:Description rdf:about="" xmlns:rdf="{_RDF}" xmlns:TC260="{NAMESPACE}"><TC260:AIGC>'
_ENTRY_END = "</TC260:AIGC></rdf:Description>"
_XMLNS = re.compile(
    rf"""xmlns:([A-Za-z][\w.-]{{0,31}})\s{{0,9}}=\s{{0,9}}["']{re.escape(NAMESPACE)}["']"""
)
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_PNG_XMP = b"XML:com.adobe.xmp\x00"
_PNG_TEXT = b"AIGC\x00"
_MARKDOWN = (".md", ".markdown")
_PLAIN = (".txt", ".text", "")
"""Ends of names of texts whose first line may be anything; it would break a program, or data."""


class LabelledFile(NamedTuple):
    """A file, taken apart."""

    label: AigcLabel | None
    content: bytes
    """All of it that no label touches: the same before and after one is written."""


def read_file(data: bytes, name: str) -> LabelledFile:
    """The label of a file.

    Args:
        name: of the file; texts are told apart by its end.

    Raises:
        BadFile: it is damaged, or of a kind that is not known here.
        BadLabel: what stands where the label would is none.
    """
    if data.startswith(b"\xff\xd8"):
        found = _read_jpeg(data)
    elif data.startswith(_PNG):
        found = _read_png(data)
    elif data.startswith(b"RIFF"):
        found = _read_wav(data)
    elif data.startswith(b"%PDF-"):
        found = pdf.read(data)
    else:
        found = _read_text(data, name)
    text, content = found
    return LabelledFile(None if text is None else read_label(text), content)


def write_file(data: bytes, name: str, label: AigcLabel) -> bytes:
    """The file with a label instead of the one that it may have.

    Raises:
        BadFile: see `read_file`; or there is no room for it.
    """
    text = write_label(label)
    if len(text) > LABEL_BYTES_MAX:
        raise BadFile("the label is too long")
    if data.startswith(b"\xff\xd8"):
        return _write_jpeg(data, text)
    if data.startswith(_PNG):
        return _write_png(data, text)
    if data.startswith(b"RIFF"):
        return _write_wav(data, text)
    if data.startswith(b"%PDF-"):
        return pdf.write(data, text)
    return _write_text(data, name, text)


# --- XMP -------------------------------------------------------------------------------------


def _xmp_label(packet: str) -> str | None:
    found = _xmp_place(packet)
    return None if found is None else html.unescape(found.group("text"))


def _xmp_place(packet: str) -> re.Match[str] | None:
    """Where the label is in a packet: as an element, or as an attribute."""
    named = re.search(
        rf"""xmlns:([A-Za-z][\w.-]{{0,31}})\s{{0,9}}=\s{{0,9}}["']{NAMESPACE}["']""", packet
    )
    if named is None:
        return None
    prefix = re.escape(named.group(1))
    element = re.search(rf"<{prefix}:AIGC>(?P<text>[^<]*)</{prefix}:AIGC>", packet)
    return element or re.search(rf"""\s{prefix}:AIGC="(?P<text>[^"<]*)\"""", packet)


def _xmp_with(packet: str | None, text: str) -> bytes:
    """A packet with a label, in place of the one that it may have."""
    entry = f"{_ENTRY}{html.escape(text, quote=False)}{_ENTRY_END}"
    if packet is not None:
        packet = re.sub(f"{re.escape(_ENTRY)}[^<]*{re.escape(_ENTRY_END)}", "", packet)
        while (old := _xmp_place(packet)) is not None:
            packet = packet[: old.start()] + packet[old.end() :]
        end = re.search(r"</[A-Za-z][\w.-]{0,31}:RDF\s{0,9}>", packet)
        if end is not None:
            return (packet[: end.start()] + entry + packet[end.start() :]).encode()
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">{entry}</rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _packet(data: bytes) -> str:
    if len(data) > XMP_BYTES_MAX:
        raise BadFile("its XMP packet is too long")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFile("its XMP packet is not UTF-8") from None


# --- JPEG ------------------------------------------------------------------------------------


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """From and to of each segment before the picture itself; the rest comes last."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            yield at, at + 1
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            size = 0
        else:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            if size < 2 or at + 2 + size > len(data):
                raise BadFile("a segment of the JPEG is cut")
        yield at, at + 2 + size
        at += 2 + size
    else:
        raise BadFile("the JPEG has no picture")
    yield at, len(data)


def _is_jpeg_xmp(segment: bytes) -> bool:
    return segment[:2] == b"\xff\xe1" and segment[4:].startswith(_JPEG_XMP)


def _read_jpeg(data: bytes) -> tuple[str | None, bytes]:
    label, content = None, [data[:2]]
    for start, end in _segments(data):
        piece = data[start:end]
        if _is_jpeg_xmp(piece):
            label = label or _xmp_label(_packet(piece[4 + len(_JPEG_XMP) :]))
        else:
            content.append(piece)
    return label, b"".join(content)


def _write_jpeg(data: bytes, text: str) -> bytes:
    head, rest = [data[:2]], list[bytes]()
    packet: str | None = None
    for start, end in _segments(data):
        piece = data[start:end]
        if _is_jpeg_xmp(piece) and packet is None:
            packet = _packet(piece[4 + len(_JPEG_XMP) :])
        elif not _is_jpeg_xmp(piece):
            is_first = piece[:2] == b"\xff\xe0" and not rest and len(head) == 1
            (head if is_first else rest).append(piece)
    body = _JPEG_XMP + _xmp_with(packet, text)
    if len(body) + 2 > 0xFFFF:
        raise BadFile("there is no room beside the XMP that it has")
    made = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    return b"".join([*head, made, *rest])


# --- PNG -------------------------------------------------------------------------------------


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Type, data, and all of each chunk."""
    at = len(_PNG)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + size
        if at + 12 > len(data) or end > len(data):
            raise BadFile("a chunk of the PNG is cut")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadFile("a chunk of the PNG is damaged")
        yield kind, body, data[at:end]
        at = end
        if kind == b"IEND":
            break
    else:
        raise BadFile("the PNG has no end")
    if at < len(data):
        yield b"", b"", data[at:]


def _png_packet(kind: bytes, body: bytes) -> str | None:
    """The XMP of a chunk; None where it is another chunk."""
    if kind != b"iTXt" or not body.startswith(_PNG_XMP):
        return None
    flags = body[len(_PNG_XMP) : len(_PNG_XMP) + 2]
    parts = body[len(_PNG_XMP) + 2 :].split(b"\x00", 2)
    if len(flags) < 2 or len(parts) < 3:
        raise BadFile("the text of the PNG is damaged")
    if not flags[0]:
        return _packet(parts[2])
    unpacking = zlib.decompressobj()
    try:
        return _packet(unpacking.decompress(parts[2], XMP_BYTES_MAX + 1))
    except zlib.error:
        raise BadFile("the text of the PNG is damaged") from None


def _read_png(data: bytes) -> tuple[str | None, bytes]:
    label, content = None, [_PNG]
    for kind, body, whole in _chunks(data):
        packet = _png_packet(kind, body)
        if packet is not None:
            label = label or _xmp_label(packet)
        elif kind == b"tEXt" and body.startswith(_PNG_TEXT):
            label = label or body[len(_PNG_TEXT) : LABEL_BYTES_MAX + 9].decode("latin-1")
        else:
            content.append(whole)
    return label, b"".join(content)


def _write_png(data: bytes, text: str) -> bytes:
    known, pieces = None, [_PNG]
    for kind, body, whole in _chunks(data):
        packet = _png_packet(kind, body)
        if packet is not None:
            known = known or packet
        elif not (kind == b"tEXt" and body.startswith(_PNG_TEXT)):
            pieces.append(whole)
    body = b"iTXt" + _PNG_XMP + b"\x00\x00\x00\x00" + _xmp_with(known, text)
    made = (len(body) - 4).to_bytes(4, "big") + body + crc32(body).to_bytes(4, "big")
    return b"".join([*pieces[:2], made, *pieces[2:]])


# --- WAV -------------------------------------------------------------------------------------


def _read_wav(data: bytes) -> tuple[str | None, bytes]:
    if data[8:12] != b"WAVE":
        raise BadFile("a RIFF file that is no WAV")
    label, content, at = None, [], 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size
        if at + 8 > len(data) or end > len(data):
            raise BadFile("a chunk of the WAV is cut")
        if data[at : at + 4] == b"AIGC":
            body = data[at + 8 : min(end, at + 9 + LABEL_BYTES_MAX)]
            label = label or body.rstrip(b"\x00").decode("utf-8", "replace")
        else:
            content.append(data[at:end])
            content.append(b"\x00" * (size % 2))
        at = end + size % 2
    return label, b"".join(content)


def _write_wav(data: bytes, text: str) -> bytes:
    _, content = _read_wav(data)
    body = text.encode()
    made = b"AIGC" + len(body).to_bytes(4, "little") + body + b"\x00" * (len(body) % 2)
    size = 4 + len(content) + len(made)
    if size > 0xFFFF_FFFF:
        raise BadFile("the WAV is too large")
    return b"RIFF" + size.to_bytes(4, "little") + b"WAVE" + content + made


# --- text ------------------------------------------------------------------------------------

_LINE = re.compile(r"AIGC: ?(\{[^\r\n]*\})(?:\r\n|\n|\Z)")
_BLOCK = re.compile(r"AIGC:[ \t]*(?:\r\n|\n)((?:[ \t]+\w+:[^\r\n]*(?:\r\n|\n)){1,10})")
_FIELD = re.compile(r"""[ \t]+(\w+):[ \t]*["']?([^"'\r\n]*)["']?[ \t]*(?:\r\n|\n)""")
_FRONT = re.compile(r"---[ \t]*(?:\r\n|\n)")
_FRONT_END = re.compile(r"^---[ \t]*(?:\r\n|\n|\Z)", re.MULTILINE)
_FRONT_CHARACTERS_MAX = 65_536


def _read_text(data: bytes, name: str) -> tuple[str | None, bytes]:
    mark, text = _decoded(data)
    label, rest = (_read_front if name.lower().endswith(_MARKDOWN) else _read_line)(text)
    return label, (mark + rest).encode()


def _decoded(data: bytes) -> tuple[str, str]:
    """The byte order mark, and the text after it."""
    if b"\x00" in data[:1_024]:
        raise BadFile("it is of no kind that can be labelled here")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFile("it is neither UTF-8 text nor of another kind that is known") from None
    return ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)


def _read_line(text: str) -> tuple[str | None, str]:
    found = _LINE.match(text)
    return (None, text) if found is None else (found.group(1), text[found.end() :])


def _read_front(text: str) -> tuple[str | None, str]:
    """The label of a front matter, and the text without it."""
    front = _front_of(text)
    if front is None:
        return None, text
    start, end, after = front
    for at in _lines(text, start, end):
        if not text.startswith("AIGC:", at):
            continue
        line, block = _LINE.match(text, at, end), _BLOCK.match(text, at, end)
        if line is not None:
            label, until = line.group(1), line.end()
        elif block is not None:
            fields = dict(_FIELD.findall(block.group(1)))
            label, until = msgspec.json.encode(fields).decode(), block.end()
        else:
            return text[at:end].partition("\n")[0], text
        if not (text[start:at] + text[until:end]).strip():
            return label, text[after:]
        return label, text[:at] + text[until:]
    return None, text if text[start:end].strip() else text[after:]


def _front_of(text: str) -> tuple[int, int, int] | None:
    """Where a front matter's lines begin and end, and where the text after it begins."""
    begun = _FRONT.match(text)
    if begun is None:
        return None
    ended = _FRONT_END.search(text, begun.end(), begun.end() + _FRONT_CHARACTERS_MAX)
    return None if ended is None else (begun.end(), ended.start(), ended.end())


def _lines(text: str, start: int, end: int) -> Iterator[int]:
    """Where lines begin."""
    at = start
    while 0 <= at < end:
        yield at
        at = text.find("\n", at, end) + 1 or -1


def _write_text(data: bytes, name: str, label: str) -> bytes:
    mark, text = _decoded(data)
    suffix = PurePath(name.lower()).suffix
    if suffix not in (*_PLAIN, *_MARKDOWN):
        raise BadFile(f"a label would be a line of it, which may break a `{suffix}` file")
    eol = "\r\n" if "\r\n" in text[:4_096] else "\n"
    line = f"AIGC: {label}{eol}"
    if suffix not in _MARKDOWN:
        return (mark + line + _read_line(text)[1]).encode()
    text = _read_front(text)[1]
    begun = _front_of(text)
    if begun is None:
        return f"{mark}---{eol}{line}---{eol}{text}".encode()
    return (mark + text[: begun[0]] + line + text[begun[0] :]).encode()
