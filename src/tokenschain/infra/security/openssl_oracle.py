"""Each algorithm beside the openssl command, on random input and in both directions.

What the command of OpenSSL 3.0 cannot do by itself is put together of what it can: GCM of the block
cipher in counter mode and a plain GHASH (NIST SP 800-38D).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tokenschain.infra.security.self_test import SelfTestFailed, TestedAlgorithm
from tokenschain.infra.security.sm2 import (
    SIGNER_ID,
    Sm2Missing,
    Sm2PrivateKey,
    der_of,
    wrapped_of,
)
from tokenschain.infra.security.suite import GM, INTERNATIONAL, Suite

ROUNDS = 4
_WAITS_S = 20.0
_TEXT_BYTES_MAX = 2_000
_NONCE_BYTES, _BLOCK_BYTES, _TAG_BYTES = 12, 16, 16
_GHASH_POLYNOMIAL = 0xE1 << 120
_SM2_ID = f"distid:{SIGNER_ID.decode()}"


def beside_openssl(rounds: int = ROUNDS) -> list[TestedAlgorithm]:
    """Every algorithm of both suites, compared so many times.

    Raises:
        SelfTestFailed: there is no such command.
    """
    if shutil.which("openssl") is None:
        raise SelfTestFailed("there is no openssl command to compare with")
    return [TestedAlgorithm(name, "openssl", _holds(test, rounds)) for name, test in _TESTS.items()]


def _holds(test: Callable[[], bool], rounds: int) -> bool:
    try:
        return all(test() for _ in range(rounds))
    except (
        ValueError, InvalidTag, InvalidSignature, Sm2Missing, OSError, subprocess.SubprocessError,
    ):  # fmt: skip
        return False


def _same_digest(suite: Suite, name: str) -> bool:
    text = _text()
    return suite.hex_digest(text) == _first_word(_openssl("dgst", f"-{name}", "-r", given=text))


def _same_code(suite: Suite, name: str) -> bool:
    text, key = _text(), os.urandom(random.randint(1, 80))  # noqa: S311  # nosec B311  # a length
    by = ("dgst", f"-{name}", "-mac", "hmac", "-macopt", f"hexkey:{key.hex()}", "-r")
    return suite.mac(key, text).hex() == _first_word(_openssl(*by, given=text))


def _same_keyed_digest() -> bool:
    text, key = _text(), os.urandom(32)
    found = INTERNATIONAL.keyed_digest(key, text)
    by = ("mac", "-macopt", f"hexkey:{key.hex()}", "-macopt", f"size:{len(found)}", "-in", "-")
    return found == bytes.fromhex(_openssl(*by, "BLAKE2BMAC", given=text).decode())


def _same_sealing(suite: Suite, cipher: str, key_bytes: int) -> bool:
    key, nonce, text, data = os.urandom(key_bytes), os.urandom(_NONCE_BYTES), _text(), _text()
    first, counter = (nonce + count.to_bytes(4) for count in (1, 2))
    by = ("-K", key.hex())
    sealed = _openssl("enc", f"-{cipher}-ctr", *by, "-iv", counter.hex(), given=text)
    blocks = _openssl("enc", f"-{cipher}-ecb", "-nopad", *by, given=bytes(_BLOCK_BYTES) + first)
    subkey, mask = blocks[:_BLOCK_BYTES], blocks[_BLOCK_BYTES:]
    tag = int.from_bytes(_ghash(subkey, data, sealed)) ^ int.from_bytes(mask)
    theirs, aead = sealed + tag.to_bytes(_TAG_BYTES), suite.aead(key)
    return aead.encrypt(nonce, text, data) == theirs and aead.decrypt(nonce, theirs, data) == text


def _ghash(subkey: bytes, data: bytes, sealed: bytes) -> bytes:
    """GHASH (NIST SP 800-38D, 6.4) over the associated data, the sealed text and their lengths."""
    lengths = (8 * len(data)).to_bytes(8) + (8 * len(sealed)).to_bytes(8)
    padded = (one + bytes(-len(one) % _BLOCK_BYTES) for one in (data, sealed, lengths))
    blocks = b"".join(padded)
    found, factor = 0, int.from_bytes(subkey)
    for at in range(0, len(blocks), _BLOCK_BYTES):
        left, right, product = found ^ int.from_bytes(blocks[at : at + _BLOCK_BYTES]), factor, 0
        for bit in range(127, -1, -1):
            product ^= right if left >> bit & 1 else 0
            right = right >> 1 ^ (_GHASH_POLYNOMIAL if right & 1 else 0)
        found = product
    return found.to_bytes(_BLOCK_BYTES)


def _same_ed25519() -> bool:
    key, text = Ed25519PrivateKey.generate(), _text()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with _file(pem) as private, _file(text) as message:
        by = ("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", message)
        key.public_key().verify(_openssl(*by), text)
        return _openssl(*by) == key.sign(text)


def _same_sm2() -> bool:
    pem = _openssl("genpkey", "-algorithm", "SM2")
    key, text = Sm2PrivateKey.from_pem(pem), _text()
    by = ("dgst", "-sm3", "-sigopt", _SM2_ID)
    with _file(pem) as private, _file(key.sign(text)) as signature:
        theirs = _openssl(*by, "-sign", private, given=text)
        said = _openssl(*by, "-prverify", private, "-signature", signature, given=text)
    return key.public_key().is_signed(text, theirs) and b"Verified OK" in said


def _same_wrapping() -> bool:
    pem, secret = _openssl("genpkey", "-algorithm", "SM2"), os.urandom(32)
    key = Sm2PrivateKey.from_pem(pem)
    with _file(pem) as private, _file(key.public_key().to_pem()) as public:
        theirs = _openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public, given=secret)
        ours = der_of(key.public_key().wrap(secret))
        opened = _openssl("pkeyutl", "-decrypt", "-inkey", private, given=ours)
    return key.unwrap(wrapped_of(theirs)) == opened == secret


_TESTS: dict[str, Callable[[], bool]] = {
    "SHA-256": lambda: _same_digest(INTERNATIONAL, "sha256"),
    "HMAC-SHA256": lambda: _same_code(INTERNATIONAL, "sha256"),
    "BLAKE2b": _same_keyed_digest,
    "AES-256-GCM": lambda: _same_sealing(INTERNATIONAL, "aes-256", 32),
    "Ed25519": _same_ed25519,
    "SM3": lambda: _same_digest(GM, "sm3"),
    "HMAC-SM3": lambda: _same_code(GM, "sm3"),
    "SM4-GCM": lambda: _same_sealing(GM, "sm4", 16),
    "SM2": _same_sm2,
    "SM2 key wrapping": _same_wrapping,
}


def _text() -> bytes:
    return os.urandom(random.randrange(1, _TEXT_BYTES_MAX))  # noqa: S311  # nosec B311  # a length


def _first_word(said: bytes) -> str:
    return said.decode().split()[0]


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    # The one that the operator has.
    command = shutil.which("openssl") or "openssl"
    return subprocess.run(  # noqa: S603  # nosec B603  # our own arguments
        [command, *arguments],
        input=given, capture_output=True, check=True, timeout=_WAITS_S,
    ).stdout  # fmt: skip
