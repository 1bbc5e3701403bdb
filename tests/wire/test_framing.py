"""Request heads and body framing by themselves: no sockets, no connection."""

from __future__ import annotations

import pytest

from tokenschain.wire.framing import (
    CHUNKED,
    Framing,
    KnownHead,
    RequestRefused,
    check_partial_head,
    framing_of,
    parse_head,
    wants_continue,
    without_empty_lines,
)

BODY_BYTES_MAX = 1_000


def framed(*lines: str, first: str = "POST /v1/x?a=b HTTP/1.1", host: bool = True) -> Framing:
    head = "\r\n".join((first, *(["host: x"] if host else []), *lines)) + "\r\n\r\n"
    return framing_of(*parse_head(head.encode("latin-1"), headers_max=10), BODY_BYTES_MAX)


def refusal(*lines: str, first: str = "POST / HTTP/1.1", host: bool = True) -> int:
    with pytest.raises(RequestRefused) as caught:
        framed(*lines, first=first, host=host)
    return caught.value.status


def test_two_lengths_are_a_smuggling_attempt_and_refused():
    assert refusal("content-length: 3", "transfer-encoding: chunked") == 400
    assert refusal("content-length: 3", "content-length: 3") == 400
    assert refusal("content-length: 3", "Content-Length: 4") == 400


@pytest.mark.parametrize("encoding", ["gzip, chunked", "chunked, chunked", "identity", "xchunked"])
def test_an_encoding_that_cannot_be_delimited_is_refused(encoding: str):
    assert refusal(f"transfer-encoding: {encoding}") == 400


def test_http_1_0_knows_no_chunks():
    assert refusal("transfer-encoding: chunked", first="POST / HTTP/1.0") == 400


@pytest.mark.parametrize("length", ["+3", "-3", "3, 3", "0x3", "9" * 19, "three"])
def test_a_length_that_is_no_plain_number_is_refused(length: str):
    assert refusal(f"content-length: {length}") == 400


def test_a_length_above_the_limit_is_refused_before_the_body_comes():
    assert refusal(f"content-length: {BODY_BYTES_MAX + 1}") == 413
    assert framed(f"content-length: {BODY_BYTES_MAX}").body_bytes == BODY_BYTES_MAX


@pytest.mark.parametrize("name", ["host", "authorization", "x-api-key", "content-type"])
def test_a_repeated_header_that_says_who_asks_is_refused(name: str):
    assert refusal(f"{name}: a", f"{name}: b") == 400


def test_an_unknown_version_method_or_target_is_refused_by_its_own_status():
    assert refusal(first="BREW / HTTP/1.1") in (400, 501)
    assert refusal(first="LINK / HTTP/1.1") == 501
    assert refusal(first="GET http://x/ HTTP/1.1") == 400
    assert refusal(host=False) == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\ry\r\n\r\n",
    ],
)
def test_lines_that_peers_read_differently_are_refused(head: bytes):
    with pytest.raises(RequestRefused):
        parse_head(head, headers_max=10)


def test_too_many_fields_are_refused():
    assert refusal(*(f"x-{i}: y" for i in range(10))) == 431


def test_the_body_is_framed_by_its_length_by_chunks_or_absent():
    assert framed("content-length: 5").body_bytes == 5
    assert framed("transfer-encoding: Chunked").body_bytes == CHUNKED
    assert framed().body_bytes is None


def test_a_connection_is_kept_as_its_version_and_header_say():
    assert framed().keep_alive
    assert not framed("connection: Close").keep_alive
    assert not framed("connection: x, close").keep_alive
    old = "GET / HTTP/1.0"
    assert framed(first=old, host=False) == Framing("GET", b"/", b"/", b"", False, False, None)
    assert framed("connection: keep-alive", first=old).keep_alive


def test_repeated_fields_are_joined_and_names_are_lower_case():
    _, fields = parse_head(b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\na:  2 \r\n\r\n", headers_max=10)
    assert fields == {b"host": b"x", b"a": b"1, 2"}


def test_empty_lines_before_a_request_are_dropped_but_not_those_that_end_in_lf():
    assert without_empty_lines(b"\r\n\r\nGET") == b"GET"
    with pytest.raises(RequestRefused):
        without_empty_lines(b"\r\n\nGET")


def test_a_partial_head_is_refused_as_soon_as_nothing_can_save_it():
    check_partial_head(b"GET / HTTP/1.1\r", 32)
    for hopeless in (b"GET /\nHTTP", b"x" * 33):
        with pytest.raises(RequestRefused):
            check_partial_head(hopeless, 32)


def test_only_100_continue_may_be_expected():
    assert wants_continue({b"expect": b"100-Continue"})
    assert not wants_continue({})
    with pytest.raises(RequestRefused, match="100-continue"):
        wants_continue({b"expect": b"a miracle"})


REPEATED = b"POST /v1/x HTTP/1.1\r\nhost: x\r\nContent-Length:  12 \r\nx-12: 12\r\n\r\n"


def known(head: bytes) -> KnownHead | None:
    request_line, fields = parse_head(head, headers_max=10)
    return KnownHead.of(head, fields, framing_of(request_line, fields, BODY_BYTES_MAX))


@pytest.mark.parametrize("length", [b"12", b"0", b"7", b"999", b"012", b"9" * 18])
def test_a_repeated_head_is_read_as_the_parser_would_read_it(length: bytes):
    before = known(REPEATED)
    assert before is not None
    head = REPEATED.replace(b" 12 ", b" %b " % length)
    found = before.match(head + b"body")
    assert found == (len(head), length)
    assert before.fields_with(length) == parse_head(head, headers_max=10)[1]


@pytest.mark.parametrize(
    "other",
    [
        REPEATED.replace(b" 12 ", b" 1 2 "),
        REPEATED.replace(b" 12 ", b" +12 "),
        REPEATED.replace(b" 12 ", b"  "),
        REPEATED.replace(b" 12 ", b" 12\r\ncontent-length: 3 "),
        REPEATED.replace(b" 12 ", b" 12\r\ntransfer-encoding: chunked "),
        REPEATED.replace(b" 12 ", b" %b " % (b"9" * 19)),
        REPEATED.replace(b"host: x", b"host: y"),
        REPEATED.replace(b"x-12: 12", b"x-12: 13"),
        REPEATED.replace(b"12\r\n\r\n", b"12\r\nexpect: 100-continue\r\n\r\n"),
        REPEATED[:-1],
        REPEATED[:-2] + b"\n",
        REPEATED[:40],
        b"\r\n" + REPEATED,
    ],
)
def test_a_head_that_differs_in_more_than_its_length_is_not_known(other: bytes):
    before = known(REPEATED)
    assert before is not None and before.match(other + b"") is None


def test_only_short_heads_of_bodies_with_a_length_are_remembered():
    assert known(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") is None
    assert known(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n") is None
    long = b"x: %b\r\n\r\n" % (b"y" * 2_048)
    assert known(REPEATED[:-2] + long) is None
