"""Signatures of moderation packs."""

from __future__ import annotations

import pytest

from tokenschain.infra.security import pack_signatures as signatures


def test_only_the_signed_bytes_and_a_known_key_will_do() -> None:
    private, public = signatures.new_key()
    _, other = signatures.new_key()
    signature = signatures.sign(b"a pack", private)
    assert signatures.public_key_of(private) == public
    assert signatures.is_signed(b"a pack", signature, [other, public])
    assert not signatures.is_signed(b"a pack", signature, [other])
    assert not signatures.is_signed(b"a pack", signature, [])
    assert not signatures.is_signed(b"b pack", signature, [public])
    for damaged in (b"", b"!!", signature[:20], signature[:-6] + b"AAAA=\n"):
        assert not signatures.is_signed(b"a pack", damaged, [public])


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError):
        signatures.sign(b"a pack", b"no key")
