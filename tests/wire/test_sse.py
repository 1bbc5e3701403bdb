"""Server-sent events in every cut and every line end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.wire.sse import Event, SseError, SseReader, comment, data_of, encode

STREAM = (
    'data: {"t":"你好，世界🌏"}\n\n: ping\n\nevent: error\ndata:two\ndata: lines\n\n'
    "id: 7\nretry: 5\ndata: 👩‍👩‍👧‍👦\n\ndata: [DONE]\n\n"
)
EVENTS = [
    Event('{"t":"你好，世界🌏"}'.encode()),
    Event(b"two\nlines", b"error"),
    Event("👩‍👩‍👧‍👦".encode()),
    Event(b"[DONE]"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_stream_cut_at_every_byte_reads_the_same(end: str, mark: bytes) -> None:
    data = mark + STREAM.replace("\n", end).encode()
    for cut in range(len(data) + 1):
        reader = SseReader()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == EVENTS
        assert reader.comments == 1
    reader = SseReader()
    assert [e for byte in data for e in reader.feed(bytes([byte]))] == EVENTS


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)
    ),
    st.lists(st.integers(0, 200)),
)
def test_what_is_written_is_read_back_in_any_cut(texts: list[str], cuts: list[int]) -> None:
    events = [Event(text.encode()) for text in texts]
    data = b"".join(comment(b"x") + encode(event) for event in events)
    reader, at, found = SseReader(), 0, []
    for cut in [*sorted(c for c in cuts if c < len(data)), len(data)]:
        found += reader.feed(data[at:cut])
        at = cut
    assert found == events


def test_a_last_event_without_its_empty_line_is_kept_only_when_whole() -> None:
    whole, cut = SseReader(), SseReader()
    assert whole.feed(b'data: {"a":1}') == [] and whole.finish() == [Event(b'{"a":1}')]
    assert cut.feed(b'data: {"a":') == [] and cut.finish() == []


def test_an_endless_event_is_refused() -> None:
    reader = SseReader(bytes_max=1_000)
    with pytest.raises(SseError):
        for _ in range(100):
            reader.feed(b"data: " + b"x" * 100)


def test_the_data_of_pieces_is_that_of_the_stream_however_it_was_kept() -> None:
    raw = [b"data: one\n\nda", b"ta: two\n\n: ping\n\ndata: [DO", b"NE]\n\n"]
    assert data_of((True, piece) for piece in raw) == [b"one", b"two", b"[DONE]"]
    assert data_of([(False, b"one"), (True, b"data: two\n\n"), (False, b"three")]) == [
        b"one", b"two", b"three",
    ]  # fmt: skip
