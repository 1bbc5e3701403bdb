"""SM3, HMAC-SM3 and SM4-GCM by the vectors of their standards, and beside the openssl command."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.infra.security.openssl import openssl
from tokenschain.infra.security import gm

# RFC 8998, appendix A.1.
KEY = bytes.fromhex("0123456789abcdeffedcba9876543210")
NONCE = bytes.fromhex("00001234567800000000abcd")
DATA = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
TEXT = b"".join(bytes([one]) * 8 for one in b"\xaa\xbb\xcc\xdd\xee\xff\xee\xaa")
SEALED = bytes.fromhex(
    "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
    "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
    "83de3541e4c2b58177e065a9bf7b62ec"
)


@pytest.mark.parametrize(
    ("text", "digest"),
    [  # GB/T 32905, appendix A
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ],
)
def test_sm3_gives_the_digests_of_its_standard(text: bytes, digest: str) -> None:
    assert gm.sm3(text).hex() == digest


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 1_000, 100_000])
def test_digests_and_codes_are_those_of_the_openssl_command(size: int) -> None:
    text, key = bytes(one * 7 % 256 for one in range(size)), b"k" * (size % 130 + 1)
    assert gm.sm3(text).hex() == openssl("dgst", "-sm3", "-r", given=text).decode().split()[0]
    found = openssl("dgst", "-sm3", "-mac", "hmac", "-macopt", f"hexkey:{key.hex()}", "-r",
                    given=text)  # fmt: skip
    assert gm.hmac_sm3(key, text).hex() == found.decode().split()[0]
    if "sm3" in hashlib.algorithms_available:
        assert gm.hmac_sm3(key, text) == hmac.digest(key, text, "sm3")


def test_sm4_gives_the_blocks_of_its_standard() -> None:
    """GB/T 32907, appendix A: one block, and with `PROOFS=full` the millionth."""
    encryptor = Cipher(algorithms.SM4(KEY), modes.ECB()).encryptor()
    block = encryptor.update(KEY)
    assert block.hex() == "681edf34d206965e86b3e94f536e4246"
    if os.environ.get("PROOFS") == "full":
        for _ in range(999_999):
            block = encryptor.update(block)
        assert block.hex() == "595298c7c6fd271f0402f804c33d3f66"


def test_sm4_gcm_gives_the_bytes_of_rfc_8998() -> None:
    cipher = gm.Sm4Gcm(KEY)
    assert cipher.encrypt(NONCE, TEXT, DATA) == SEALED
    assert cipher.decrypt(NONCE, SEALED, DATA) == TEXT
    assert gm.Sm4Gcm(KEY + b"more").encrypt(NONCE, TEXT, DATA) == SEALED


def test_what_was_changed_does_not_open() -> None:
    cipher = gm.Sm4Gcm(KEY)
    for at in range(len(SEALED)):
        changed = SEALED[:at] + bytes([SEALED[at] ^ 1]) + SEALED[at + 1 :]
        with pytest.raises(InvalidTag):
            cipher.decrypt(NONCE, changed, DATA)
    for sealed, nonce, data in (
        (SEALED[:-1], NONCE, DATA), (SEALED[:15], NONCE, DATA), (b"", NONCE, DATA),
        (SEALED, b"n" * 12, DATA), (SEALED, NONCE, DATA[:-1]), (SEALED, NONCE, None),
    ):  # fmt: skip
        with pytest.raises(InvalidTag):
            cipher.decrypt(nonce, sealed, data)
    with pytest.raises(InvalidTag):
        gm.Sm4Gcm(b"another key here").decrypt(NONCE, SEALED, DATA)


def test_keys_and_nonces_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="key size"):
        gm.Sm4Gcm(KEY[:15])
    for nonce in (b"", NONCE[:11], NONCE + b"x"):
        with pytest.raises(ValueError, match="12 bytes"):
            gm.Sm4Gcm(KEY).encrypt(nonce, TEXT, None)
        with pytest.raises(ValueError, match="12 bytes"):
            gm.Sm4Gcm(KEY).decrypt(nonce, SEALED, None)
