"""Signatures of moderation packs."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.infra.security.openssl import openssl
from tokenschain.infra.security import pack_signatures as signatures
from tokenschain.infra.security import sm2


@pytest.mark.parametrize("suite", ["international", "gm"])
def test_only_the_signed_bytes_and_a_known_key_will_do(suite: str) -> None:
    private, public = signatures.new_key(suite)
    _, other = signatures.new_key(suite)
    signature = signatures.sign(b"a pack", [private])
    assert signatures.public_key_of(private) == public
    assert signatures.is_signed(b"a pack", signature, [other, public])
    assert not signatures.is_signed(b"a pack", signature, [other])
    assert not signatures.is_signed(b"a pack", signature, [])
    assert not signatures.is_signed(b"b pack", signature, [public])
    for damaged in (b"", b"!!", signature[:20], signature[:-6] + b"AAAA=\n"):
        assert not signatures.is_signed(b"a pack", damaged, [public])


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError):
        signatures.sign(b"a pack", [b"no key"])


def test_one_of_two_signatures_is_enough_and_the_openssl_command_agrees(tmp_path: Path) -> None:
    keys = [signatures.new_key(suite) for suite in ("international", "gm")]
    both = signatures.sign(b"a pack", [private for private, _ in keys])
    for _, public in keys:
        assert signatures.is_signed(b"a pack", both, [public])
        assert not signatures.is_signed(b"b pack", both, [public])
    (tmp_path / "key").write_bytes(keys[1][0])
    (tmp_path / "sig").write_bytes(base64.b64decode(both.split()[1]))
    by = ("dgst", "-sm3", "-sigopt", "distid:1234567812345678")
    of = ("-prverify", str(tmp_path / "key"), "-signature", str(tmp_path / "sig"))
    assert b"Verified OK" in openssl(*by, *of, given=b"a pack")


def test_without_sm2_on_this_machine_its_keys_sign_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = signatures.new_key("gm")
    signature = signatures.sign(b"a pack", [private])

    def missing() -> None:
        raise sm2.Sm2Missing("none")

    monkeypatch.setattr(sm2, "_library", missing)
    assert not signatures.is_signed(b"a pack", signature, [public])
