"""Content encodings of upstreams' answers: undone whole or in pieces, within bounds."""

from __future__ import annotations

import gzip
import time
import zlib

import pytest

from tokenschain.providers.openai_compat.body_decoding import MEMBERS_MAX, BadEncoding, BodyDecoder

TEXT = b'{"answer":' + b'"42"' * 50_000 + b"}"


@pytest.mark.parametrize("step", [1_000, 65_536, 10**9], ids=str)
@pytest.mark.parametrize(
    "encoded",
    [gzip.compress(TEXT), zlib.compress(TEXT), zlib.compress(TEXT)[2:-4],
     gzip.compress(TEXT[:9]) + b"\0" * 70_000 + gzip.compress(TEXT[9:]) + b"\0" * 9],
    ids=["gzip", "deflate", "raw", "members"],
)  # fmt: skip
def test_bodies_are_decoded_in_pieces_of_any_size(encoded: bytes, step: int) -> None:
    decoder = BodyDecoder(len(TEXT))
    pieces = [encoded[at : at + step] for at in range(0, len(encoded), step)]
    assert b"".join(map(decoder.feed, pieces)) == TEXT


@pytest.mark.parametrize(
    "member", [gzip.compress(b""), gzip.compress(b"") + b"\0" * 40], ids=["empty", "padded"]
)
def test_empty_members_end_it_soon_however_many_there_are(member: bytes) -> None:
    """Each used to cost a copy of all that followed: hours for 64 MB."""

    def took(members: int) -> float:
        body = member * members
        began = time.process_time()
        with pytest.raises(BadEncoding, match=f"more than {MEMBERS_MAX} parts"):
            BodyDecoder(1).feed(body)
        return time.process_time() - began

    assert took(200_000) < 20 * max(took(2 * MEMBERS_MAX), 0.01)


def test_what_is_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(BadEncoding, match="more bytes than the limit"):
        BodyDecoder(len(TEXT) - 1).feed(gzip.compress(TEXT))
