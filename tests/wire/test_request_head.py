"""Request heads: hosts in the form in which they are looked up, and lines that stay one line."""

from __future__ import annotations

import pytest

from tokenschain.wire.request_head import ascii_host, can_be_value, encode_lines


def test_an_internationalised_name_is_looked_up_by_its_idna_form() -> None:
    assert ascii_host("例子.com") == "xn--fsqu00a.com"
    assert [ascii_host(host) for host in ("a.b.cn.", "::1", "db")] == ["a.b.cn.", "::1", "db"]


@pytest.mark.parametrize("host", ["", "a..com", "例..com", "a" * 64 + ".com", "a b.com", "a\0b"])
def test_what_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        ascii_host(host)


@pytest.mark.parametrize("line", ["a: sk\n", "a: sk\r", "a: s\0k", "a: \x7f", "a: 密"])
def test_a_line_that_would_be_two_is_refused_and_not_quoted(line: str) -> None:
    with pytest.raises(ValueError) as refused:
        encode_lines(["x: y", line])
    assert "sk" not in str(refused.value)
    assert not can_be_value(line)


def test_lines_each_have_their_end() -> None:
    assert encode_lines(["GET / HTTP/1.1", "a:\té"]) == b"GET / HTTP/1.1\r\na:\t\xe9\r\n"
