"""Addresses: one is written one way, and several may be one mailbox."""

from __future__ import annotations

import pytest

from tokenschain.core import mail_address


@pytest.mark.parametrize("text", ["a@b.example", "a.b+c@d-e.example", "o'neil@b.example"])
def test_an_address_is_one(text: str) -> None:
    assert mail_address.is_one(text)


@pytest.mark.parametrize(
    "text", ["", "a@b", "a b@c.example", "a@b.example\n", "-a@b.example", "a@b.example,c@d.example"]
)
def test_what_is_none(text: str) -> None:
    assert not mail_address.is_one(text)


def test_tags_and_case_are_of_one_mailbox() -> None:
    assert str(mail_address.mailbox_of("Ann+1+2@B.example")) == "ann@b.example"
    assert mail_address.mailbox_of("ann@b.example") != mail_address.mailbox_of("anne@b.example")
