"""SM2 by the vectors of GB/T 32918.5, beside the openssl command, and with wrong input."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from tests.infra.security import plain_sm2
from tests.infra.security.openssl import openssl
from tokenschain.infra.security import sm2
from tokenschain.infra.security.sm2 import SIGNER_ID, BadSm2, Sm2PrivateKey, Sm2PublicKey

# GB/T 32918.5, appendices A.2 (signature of "message digest") and C.2 (encryption).
SCALAR = bytes.fromhex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8")
POINT = bytes.fromhex(
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
WRAPPED = bytes.fromhex(
    "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
    "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"
    "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"
    "21886ca989ca9c7d58087307ca93092d651efa"
)
ORDER = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
DISTID = f"distid:{SIGNER_ID.decode()}"
PROOF = os.environ.get("PROOFS") == "full"


@pytest.fixture(scope="module")
def key() -> Sm2PrivateKey:
    return Sm2PrivateKey(SCALAR)


def test_the_vectors_of_the_standard(key: Sm2PrivateKey) -> None:
    public = key.public_key()
    assert public.point() == POINT
    assert public.is_signed(b"message digest", encode_dss_signature(R, S))
    assert not public.is_signed(b"message digest", encode_dss_signature(R, S + 1))
    assert key.unwrap(WRAPPED) == b"encryption standard"


def test_plain_numbers_agree(key: Sm2PrivateKey) -> None:
    point, signature = key.public_key().point(), key.sign(b"text")
    assert plain_sm2.is_signed(POINT, b"message digest", encode_dss_signature(R, S), SIGNER_ID)
    assert plain_sm2.is_signed(point, b"text", signature, SIGNER_ID)
    assert not plain_sm2.is_signed(point, b"texT", signature, SIGNER_ID)
    assert not plain_sm2.is_signed(point, b"text", signature, b"")


def test_signatures_hold_for_message_id_and_key_only(key: Sm2PrivateKey) -> None:
    public, signature = key.public_key(), key.sign(b"text")
    assert public.is_signed(b"text", signature)
    assert not public.is_signed(b"texT", signature)
    assert not public.is_signed(b"text", signature, b"")
    assert not public.is_signed(b"text", signature, b"another")
    assert not Sm2PrivateKey.generate().public_key().is_signed(b"text", signature)
    assert public.is_signed(b"", key.sign(b"")) and signature != key.sign(b"text")
    named = key.sign(b"text", b"log")
    assert public.is_signed(b"text", named, b"log") and not public.is_signed(b"text", named)


def test_what_is_no_signature_is_not_one(key: Sm2PrivateKey) -> None:
    public, signature = key.public_key(), key.sign(b"text")
    r, s = decode_dss_signature(signature)
    for wrong in (
        b"", b"\x30", b"\x30\x00", signature[:-1], signature + b"\0", b"x" * 72, b"\0" * 5_000,
        encode_dss_signature(0, s), encode_dss_signature(r, 0), encode_dss_signature(ORDER, s),
        encode_dss_signature(r, s + ORDER), encode_dss_signature(r + ORDER, s),
        b"\x30\x84\xff\xff\xff\xff" + signature[2:],
    ):  # fmt: skip
        assert not public.is_signed(b"text", wrong), wrong.hex()


def test_keys_are_wrapped_and_come_out_whole(key: Sm2PrivateKey) -> None:
    for size in (1, 16, 32, 255, 256, sm2.WRAPPED_BYTES_MAX):
        text = os.urandom(size)
        wrapped = key.public_key().wrap(text)
        assert len(wrapped) == 97 + size
        assert key.unwrap(wrapped) == text
    for size in (0, sm2.WRAPPED_BYTES_MAX + 1):
        with pytest.raises(BadSm2):
            key.public_key().wrap(b"x" * size)


def test_what_was_changed_is_not_unwrapped(key: Sm2PrivateKey) -> None:
    for at in range(len(WRAPPED)):
        changed = WRAPPED[:at] + bytes([WRAPPED[at] ^ 1]) + WRAPPED[at + 1 :]
        with pytest.raises(BadSm2):
            key.unwrap(changed)
    for wrong in (b"", b"\x04", WRAPPED[:97], WRAPPED[:-1], b"\x04" + bytes(120),
                  WRAPPED + bytes(5_000)):  # fmt: skip
        with pytest.raises(BadSm2):
            key.unwrap(wrong)
    with pytest.raises(BadSm2):
        Sm2PrivateKey.generate().unwrap(WRAPPED)


def test_points_and_numbers_outside_the_curve_are_no_keys() -> None:
    for point in (
        b"", POINT[:-1], POINT + b"\0", b"\x04" + bytes(64), b"\x04" + b"\xff" * 64,
        POINT[:-1] + bytes([POINT[-1] ^ 1]), b"\x02" + POINT[1:], b"\x06" + POINT[1:],
    ):  # fmt: skip
        with pytest.raises(BadSm2):
            Sm2PublicKey(point)
    for scalar in (b"", SCALAR[:-1], SCALAR + b"\0", bytes(32), b"\xff" * 32,
                   ORDER.to_bytes(32), (ORDER - 1).to_bytes(32)):  # fmt: skip
        with pytest.raises(BadSm2):
            Sm2PrivateKey(scalar)
    assert Sm2PrivateKey((1).to_bytes(32)).public_key().point()[0] == 4
    assert Sm2PrivateKey((ORDER - 2).to_bytes(32)).sign(b"x")


def test_a_seed_always_gives_the_same_key_and_none_gives_another() -> None:
    one, other = (Sm2PrivateKey.from_seed(seed * 40).public_key() for seed in (b"a", b"b"))
    assert one.point() == Sm2PrivateKey.from_seed(b"a" * 40).public_key().point() != other.point()
    assert len({Sm2PrivateKey.generate().public_key().point() for _ in range(5)}) == 5
    with pytest.raises(BadSm2):
        Sm2PrivateKey.from_seed(b"a" * 39)


def test_pem_of_other_keys_is_refused(key: Sm2PrivateKey) -> None:
    assert Sm2PrivateKey.from_pem(key.to_pem()).to_pem() == key.to_pem()
    assert Sm2PublicKey.from_pem(key.public_key().to_pem()).point() == POINT
    other = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    for pem in (b"", b"no pem", other, key.public_key().to_pem(), key.to_pem()[:80],
                key.to_pem().replace(b"MEEC", b"????")):  # fmt: skip
        with pytest.raises(BadSm2):
            Sm2PrivateKey.from_pem(pem)
    for pem in (b"", key.to_pem(), openssl("pkey", "-pubout", given=other)):
        with pytest.raises(BadSm2):
            Sm2PublicKey.from_pem(pem)


def test_the_openssl_command_and_we_believe_each_other(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("private", "public", "text", "signature", "sealed")}
    private, public, text, signature, sealed = map(str, paths.values())
    paths["text"].write_bytes(b"the text")
    paths["private"].write_bytes(openssl("genpkey", "-algorithm", "SM2"))
    paths["public"].write_bytes(openssl("pkey", "-in", private, "-pubout"))
    ours = Sm2PrivateKey.from_pem(paths["private"].read_bytes())
    assert ours.public_key().to_pem() == paths["public"].read_bytes()
    raw = ("pkeyutl", "-rawin", "-digest", "sm3", "-in", text, "-pkeyopt", DISTID)
    openssl(*raw, "-sign", "-inkey", private, "-out", signature)
    assert ours.public_key().is_signed(b"the text", paths["signature"].read_bytes())
    paths["signature"].write_bytes(ours.sign(b"the text"))
    paths["private"].write_bytes(ours.to_pem())
    openssl(*raw, "-verify", "-pubin", "-inkey", public, "-sigfile", signature)
    openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-in", text, "-out", sealed)
    assert ours.unwrap(sm2.wrapped_of(paths["sealed"].read_bytes())) == b"the text"
    paths["sealed"].write_bytes(sm2.der_of(ours.public_key().wrap(b"the text")))
    assert openssl("pkeyutl", "-decrypt", "-inkey", private, "-in", sealed) == b"the text"


def test_memory_is_given_back(key: Sm2PrivateKey) -> None:
    count = 100_000 if PROOF else 1_000
    public, signature, wrapped = key.public_key(), key.sign(b"text"), key.public_key().wrap(b"k")

    def work(count: int) -> int:
        for at in range(count):
            match at % 8:
                case 0:
                    key.sign(b"text")
                case 1:
                    public.is_signed(b"text", signature)
                case 2:
                    public.is_signed(b"texT", signature)
                case 3:
                    public.is_signed(b"text", b"no signature")
                case 4:
                    key.unwrap(wrapped)
                case 5:
                    public.wrap(b"k" * 32)
                case 6:
                    Sm2PrivateKey(SCALAR).public_key().point()
                case _:
                    with pytest.raises(BadSm2):
                        key.unwrap(WRAPPED[:-1])
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = work(500)
    # A context that is not freed takes some 200 bytes and more; a key as many again.
    assert work(count) - before < (4_000_000 if PROOF else 1_000_000)
