"""The international suite gives the bytes that earlier versions stored, and refuses the rest."""

from __future__ import annotations

import dataclasses

import pytest

from tokenschain.infra.security.suite import (
    INTERNATIONAL,
    KEY_BYTES,
    KEYED_DIGEST_BYTES,
    Sealer,
    Signer,
    Unsealable,
)

KEY = b"k" * KEY_BYTES
# Made by the version before the suite was a seam of its own.
SEALED = bytes.fromhex("0196f4cf7ee3c546e823c91c4a4eb0c062650bc6c0f6131011824fe8eac5de2dbae6")


def test_what_was_sealed_before_is_still_unsealed():
    assert Sealer(INTERNATIONAL, KEY).unseal("cloud", SEALED) == b"hello"


def test_digests_stored_before_are_still_found():
    assert INTERNATIONAL.hex_digest(b"tc-abc") == (
        "07367a2a6732c388cfa903f3b3efb5b046914adc56348e910cd8c91737887671"
    )
    assert INTERNATIONAL.derive("secret", b"shelf").hex() == (
        "9715da79312423320e1c6574efba393b8f529362993595d1173d10e619c73323"
    )
    assert INTERNATIONAL.keyed_digest(KEY, b"data").hex() == "b477d3418783a60686bcf73eb302ee5f"
    assert len(INTERNATIONAL.keyed_digest(KEY, b"data")) == KEYED_DIGEST_BYTES


def test_another_name_key_version_or_text_is_not_unsealed():
    sealer = Sealer(INTERNATIONAL, KEY)
    changed = SEALED[:-1] + bytes([SEALED[-1] ^ 1])
    for name, sealed in [
        ("other", SEALED), ("cloud", changed), ("cloud", b""), ("cloud", SEALED[:5]),
        ("cloud", b"\x02" + SEALED[1:]),
    ]:  # fmt: skip
        with pytest.raises(Unsealable):
            sealer.unseal(name, sealed)
    with pytest.raises(Unsealable):
        Sealer(INTERNATIONAL, b"x" * KEY_BYTES).unseal("cloud", SEALED)


def test_each_sealing_is_another_text():
    sealer = Sealer(INTERNATIONAL, KEY)
    one, other = sealer.seal("cloud", b"hello"), sealer.seal("cloud", b"hello")
    assert one != other
    assert sealer.unseal("cloud", one) == sealer.unseal("cloud", other) == b"hello"


def test_a_signature_is_right_for_its_message_and_secret_only():
    signer = Signer(INTERNATIONAL, "secret")
    signature = signer.sign(b"body")
    assert signature == "dc46983557fea127b43af721467eb9b3fde2338fe3e14f51952aa8478c13d355"
    assert signer.signed(b"body", signature)
    assert not signer.signed(b"body!", signature)
    assert not Signer(INTERNATIONAL, "other").signed(b"body", signature)
    assert not signer.signed(b"body", "") and not signer.signed(b"body", "é")


def test_another_suite_cannot_read_what_this_one_sealed():
    other = dataclasses.replace(INTERNATIONAL, name="other", sealed_version=b"\x02")
    with pytest.raises(Unsealable, match="another suite"):
        Sealer(other, KEY).unseal("cloud", SEALED)
