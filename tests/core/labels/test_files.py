"""Labels in files: written, read and replaced; the rest of the file stays; hostile files end well."""

from __future__ import annotations

import random
import struct
import wave
import zlib
from io import BytesIO

import pytest

from tokenschain.core.labels.aigc import AigcLabel, BadLabel, read_label, write_label
from tokenschain.core.labels.files import read_file, write_file
from tokenschain.core.labels.pdf import BadFile

LABEL = AigcLabel(content_producer="001191110108MA01KP2T5U00000", produce_id="req_1",
                  content_propagator="某公司 <&\">()\\🙂")  # fmt: skip
OTHER = AigcLabel(produce_id="req_2")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(*more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    picture = _chunk(b"IDAT", zlib.compress(b"\x00\x7f"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + picture + _chunk(b"IEND", b"")


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _jpeg(*more: bytes) -> bytes:
    jfif = _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
    return (b"\xff\xd8" + jfif + b"".join(more) + _segment(0xDB, bytes(65))
            + _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"picture\xff\xd9")  # fmt: skip


def _wav() -> bytes:
    made = BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 1, 8_000, 3, "NONE", ""))
        file.writeframes(b"\x80\x81\x82")
    return made.getvalue()


def _pdf(*, stream: bool = False, more: bytes = b"") -> bytes:
    made = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate((b"<</Type /Catalog>>", b"<</Title (a \\) b) /Author (Li)>>"), 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    at = len(made)
    kept = b"/Root 1 0 R /Info 2 0 R /ID [<aa> <bb>]" + more
    if stream:
        rows = b"".join(b"\x01" + struct.pack(">H", place) for place in [*places, at])
        made += (b"3 0 obj\n<</Type /XRef /Size 4 /W [1 2 0] /Index [1 3] /Length %d %s>>\nstream\n"
                 % (len(rows), kept) + rows + b"\nendstream\nendobj\n")  # fmt: skip
    else:
        made += b"xref\n0 3\n0000000000 65535 f \n"
        made += b"".join(b"%010d 00000 n \n" % place for place in places)
        made += b"trailer\n<</Size 3 %s>>\n" % kept
    return bytes(made + b"startxref\n%d\n%%%%EOF\n" % at)


_XMP = (b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
        b"xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
        b"rdf:about=''>kept</rdf:Description></rdf:RDF></x:xmpmeta>")  # fmt: skip
FILES = {
    "a.txt": "第一行\r\n第二行".encode(), "empty.txt": b"", "bom.txt": "\ufeffx\n".encode(),
    "a.md": b"# Title\n\ntext\n", "front.md": b"---\ntitle: T\n---\ntext\n",
    "bare.md": b"---\n---\ntext\n", "a.png": _png(), "a.jpg": _jpeg(),
    "xmp.jpg": _jpeg(_segment(0xE1, _XMP)), "a.wav": _wav(), "a.pdf": _pdf(),
    "stream.pdf": _pdf(stream=True),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_label_is_written_read_and_replaced_and_the_content_stays(name: str) -> None:
    data = FILES[name]
    before = read_file(data, name)
    assert before.label is None
    once = write_file(data, name, LABEL)
    assert read_file(once, name) == (LABEL, before.content)
    twice = write_file(once, name, OTHER)
    assert read_file(twice, name) == (OTHER, before.content)
    assert b"req_1" not in twice, "nothing of the earlier one is left"
    assert write_file(twice, name, LABEL) == once


@pytest.mark.parametrize(
    ("name", "was", "now"),
    [("a.txt", "第一行".encode(), "第二行".encode()), ("front.md", b"title: T", b"title: U"),
     ("a.jpg", b"picture", b"another"), ("a.wav", b"\x80\x81\x82", b"\x80\x81\x83"),
     ("a.pdf", b"(Li)", b"(Lu)"), ("a.pdf", b"", b"")],
)  # fmt: skip
def test_content_that_was_changed_or_added_to_is_another(name: str, was: bytes, now: bytes) -> None:
    made = write_file(FILES[name], name, LABEL)
    if was:
        other = made.replace(was, now)
    else:  # a later update
        end = made.rfind(b"startxref")
        other = made + b"% more\n" + made[end:]
    assert other != made
    assert read_file(other, name).content != read_file(made, name).content


def test_what_readers_of_each_kind_look_for_is_where_they_look() -> None:
    text = write_label(OTHER)
    assert write_file(b"x", "a.txt", OTHER) == f"AIGC: {text}\nx".encode()
    assert write_file(b"x", "a.md", OTHER) == f"---\nAIGC: {text}\n---\nx".encode()
    png, jpeg = write_file(_png(), "p", OTHER), write_file(FILES["xmp.jpg"], "j", OTHER)
    assert b"iTXtXML:com.adobe.xmp\x00" in png and b"kept" in jpeg
    assert b"http://www.tc260.org.cn/ns/AIGC/1.0/" in png
    wav = write_file(_wav(), "w", OTHER)
    with wave.open(BytesIO(wav)) as file:
        assert file.readframes(9) == b"\x80\x81\x82", "players find the sound"
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    pdf = write_file(_pdf(), "p", OTHER)
    assert pdf.startswith(_pdf()) and b"/Title (a \\) b)" in pdf[len(_pdf()) :]


def test_labels_of_others_are_read() -> None:
    text = write_label(OTHER)
    block = "---\nAIGC:\n  Label: \"1\"\n  ProduceID: 'req_2'\ntitle: T\n---\nx"
    assert read_file(block.encode(), "a.md").label == OTHER
    in_text = _png(_chunk(b"tEXt", b"AIGC\x00" + text.encode()))
    assert read_file(in_text, "a.png").label == OTHER
    attribute = ("<r:Description xmlns:q='http://www.tc260.org.cn/ns/AIGC/1.0/' q:AIGC=\""
                 + text.replace('"', "&quot;") + '"/>')  # fmt: skip
    packed = b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(attribute.encode())
    assert read_file(_png(_chunk(b"iTXt", packed)), "a.png").label == OTHER


@pytest.mark.parametrize("name", FILES)
def test_cut_and_damaged_files_are_refused_or_read_and_nothing_hangs(name: str) -> None:
    data, chance = write_file(FILES[name], name, LABEL), random.Random(name)
    refused = 0
    for number in range(400):
        made = bytearray(data[: chance.randrange(len(data))] if number % 2 else data)
        for _ in range(chance.randrange(4)):
            if made:
                made[chance.randrange(len(made))] = chance.randrange(256)
        for act in (read_file, lambda given, named: write_file(given, named, OTHER)):
            try:
                act(bytes(made), name)
            except (BadFile, BadLabel):
                refused += 1
    assert refused


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.bin", b"\x00\x01"), ("a.txt", b"\xff\xfe"), ("a.jpg", b"\xff\xd8\xff\xe0\xff\xff"),
     ("a.png", b"\x89PNG\r\n\x1a\n" + b"\xff" * 12), ("a.wav", b"RIFF\0\0\0\0AVI "),
     ("a.wav", b"RIFF\0\0\0\0WAVEdata\xff\xff\xff\xff"), ("a.pdf", b"%PDF-1.7"),
     ("a.pdf", _pdf(more=b" /Encrypt 9 0 R")), ("a.pdf", _pdf().replace(b"2 0 obj", b"7 0 obj")),
     ("a.pdf", b"%PDF-1.7\nxref trailer " + b"<<" * 40_000 + b"\nstartxref\n9\n%%EOF\n"),
     ("a.png", _png(_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00"
                           + zlib.compress(bytes(10_000_000)))))],
)  # fmt: skip
def test_files_that_are_hostile_or_of_no_known_kind_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(BadFile):
        read_file(data, name)


@pytest.mark.parametrize("name", ["a.json", "a.py", "a.CSV", "empty.docx", "page.html", "a.pdf"])
def test_a_text_that_a_line_would_break_is_refused(name: str) -> None:
    for data in (b"", b'{"a": 1}\n'):
        with pytest.raises(BadFile, match=r"may break a `\.[a-z]+` file"):
            write_file(data, name, LABEL)
        assert read_file(data, name).label is None


@pytest.mark.parametrize("text", ["", "{}x", '{"Label": 1}', '{"Label": "4"}', '{"Nothing": ""}',
                                  '{"ProduceID": "' + "x" * 9_000 + '"}', "[]"])  # fmt: skip
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(BadLabel):
        read_label(text)
