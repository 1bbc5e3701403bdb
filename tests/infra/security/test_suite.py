"""Both suites: the bytes that earlier versions stored, and what either reads and refuses."""

from __future__ import annotations

import contextlib

import pytest

from tokenschain.infra.security.suite import (
    GM,
    INTERNATIONAL,
    KEY_BYTES,
    KEYED_DIGEST_BYTES,
    SUITES,
    Place,
    Sealable,
    Sealer,
    Signer,
    Suite,
    Unsealable,
    digest_of_stored,
    suite_named,
    suite_of_stored,
)

KEY = b"k" * KEY_BYTES
# Made by the version before the suite was a seam of its own.
SEALED = bytes.fromhex("0196f4cf7ee3c546e823c91c4a4eb0c062650bc6c0f6131011824fe8eac5de2dbae6")


PLACE = Place(Sealable.CREDENTIAL, "", "cloud")


def sealer_of(*keys: bytes, suite: Suite = INTERNATIONAL) -> Sealer:
    names = tuple(map(str, range(len(keys))))
    return Sealer(suite, lambda: names, lambda _, name: keys[int(name)])


def test_what_was_sealed_before_is_opened_only_to_be_sealed_anew():
    assert sealer_of(KEY).unseal_former(PLACE, SEALED) == b"hello"
    with pytest.raises(Unsealable, match="another suite"):
        sealer_of(KEY).unseal(PLACE, SEALED)
    with pytest.raises(Unsealable):
        sealer_of(KEY).unseal_former(PLACE, sealer_of(KEY).seal(PLACE, b"hello"))


def test_digests_stored_before_are_still_found():
    assert INTERNATIONAL.hex_digest(b"tc-abc") == (
        "07367a2a6732c388cfa903f3b3efb5b046914adc56348e910cd8c91737887671"
    )
    assert INTERNATIONAL.derive("secret", b"shelf").hex() == (
        "9715da79312423320e1c6574efba393b8f529362993595d1173d10e619c73323"
    )
    assert INTERNATIONAL.keyed_digest(KEY, b"data").hex() == "b477d3418783a60686bcf73eb302ee5f"
    assert len(INTERNATIONAL.keyed_digest(KEY, b"data")) == KEYED_DIGEST_BYTES


def test_another_place_key_version_or_text_is_not_unsealed(suite: Suite):
    sealer = sealer_of(KEY, suite=suite)
    sealed = sealer.seal(PLACE, b"hello")
    assert sealer.unseal(PLACE, sealed) == b"hello"
    for text in (
        sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", sealed[:5], sealed[1:], b"\x01" + sealed[1:],
        suite.others()[0].sealed_version + sealed[1:],
    ):  # fmt: skip
        with pytest.raises(Unsealable):
            sealer.unseal(PLACE, text)
    for place in (
        Place(Sealable.CREDENTIAL, "", "other"), Place(Sealable.CREDENTIAL, "acme", "cloud"),
        Place(Sealable.CREDENTIAL, "cloud", ""), Place(Sealable.RESPONSE, "", "cloud"),
    ):  # fmt: skip
        with pytest.raises(Unsealable):
            sealer.unseal(place, sealed)
    with pytest.raises(Unsealable):
        sealer_of(b"x" * KEY_BYTES, suite=suite).unseal(PLACE, sealed)


def test_no_two_places_read_alike():
    kind = Sealable.RESPONSE
    places = [Place(kind, a, b) for a, b in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]]
    assert len({place.encoded() for place in places}) == len(places)


def test_each_sealing_is_another_text(suite: Suite):
    sealer = sealer_of(KEY, suite=suite)
    one, other = sealer.seal(PLACE, b"hello"), sealer.seal(PLACE, b"hello")
    assert one != other
    assert sealer.unseal(PLACE, one) == sealer.unseal(PLACE, other) == b"hello"


def test_the_first_key_seals_and_each_opens(suite: Suite):
    new = b"n" * KEY_BYTES
    both = sealer_of(new, KEY, suite=suite)
    assert both.unseal(PLACE, sealer_of(KEY, suite=suite).seal(PLACE, b"old")) == b"old"
    sealed = both.seal(PLACE, b"new")
    assert sealer_of(new, suite=suite).unseal(PLACE, sealed) == b"new"
    with pytest.raises(Unsealable):
        sealer_of(KEY, suite=suite).unseal(PLACE, sealed)


def test_a_signature_is_right_for_its_message_and_secret_only(suite: Suite):
    signer = Signer(suite, "secret")
    signature = signer.sign(b"body")
    assert signature == {  # as `openssl dgst -hmac secret` gives them
        "international": "dc46983557fea127b43af721467eb9b3fde2338fe3e14f51952aa8478c13d355",
        "gm": "6d5efe858a983956a1bcd9736021272b057d79b9bf2b07a3b954b4540f32f141",
    }[suite.name]  # fmt: skip
    assert signer.signed(b"body", signature)
    assert not signer.signed(b"body!", signature)
    assert not Signer(suite, "other").signed(b"body", signature)
    assert not signer.signed(b"body", "") and not signer.signed(b"body", "é")


def test_what_one_suite_sealed_the_other_opens():
    for one, other in ((INTERNATIONAL, GM), (GM, INTERNATIONAL)):
        for seal in (sealer_of(KEY, suite=one).seal, sealer_of(KEY, suite=one).seal_alike):
            sealed = seal(PLACE, b"hello")
            assert sealed[:1] == one.sealed_version
            assert sealer_of(KEY, suite=other).unseal(PLACE, sealed) == b"hello"
            relabelled = other.sealed_version + sealed[1:]
            for suite in SUITES:
                with pytest.raises(Unsealable):
                    sealer_of(KEY, suite=suite).unseal(PLACE, relabelled)
    with pytest.raises(Unsealable, match="another suite"):
        sealer_of(KEY).unseal(PLACE, b"\x07" + sealed[1:])
    assert sealer_of(KEY, suite=GM).unseal_former(PLACE, SEALED) == b"hello"


def test_stored_digests_say_whose_they_are():
    for suite in SUITES:
        stored = suite.stored_digest(b"tc-abc")
        assert len(stored) <= 64 and suite_of_stored(stored) is suite
        assert digest_of_stored(stored) == suite.digest(b"tc-abc")
        assert suite.stored_digests(b"tc-abc")[0] == stored
    assert set(GM.stored_digests(b"x")) == set(INTERNATIONAL.stored_digests(b"x"))
    assert INTERNATIONAL.stored_digest(b"tc-abc") == INTERNATIONAL.hex_digest(b"tc-abc")
    assert GM.is_digest(b"x", INTERNATIONAL.hex_digest(b"x")) and GM.is_digest(
        b"x", GM.hex_digest(b"x")
    )
    assert not GM.is_digest(b"y", INTERNATIONAL.hex_digest(b"x"))
    for wrong in ("", "sm3:", "sm3:x", "07"):
        with contextlib.suppress(ValueError):
            assert len(digest_of_stored(wrong)) < 32


def test_the_settings_name_a_suite():
    assert [suite_named(one) for one in ("international", "gm")] == [INTERNATIONAL, GM]


def test_keys_of_different_purposes_and_suites_differ():
    found = {suite.derive("secret", purpose) for suite in SUITES for purpose in (b"a", b"b")}
    found |= {suite.digest(b"secret") for suite in SUITES}
    assert len(found) == 6 and {len(one) for one in found} == {KEY_BYTES}
