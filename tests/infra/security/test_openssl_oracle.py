"""Every algorithm agrees with the openssl command, and one that does not is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tokenschain.infra.security import openssl_oracle, sm2
from tokenschain.infra.security.self_test import SelfTestFailed
from tokenschain.infra.security.suite import GM, INTERNATIONAL, Suite


def failed() -> set[str]:
    return {one.algorithm for one in openssl_oracle.beside_openssl(1) if not one.passed}


def test_every_algorithm_is_compared_and_agrees() -> None:
    found = openssl_oracle.beside_openssl()
    assert all(one.passed and one.by == "openssl" for one in found), found
    assert len(found) == 10


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def with_wrong(suite: Suite) -> Suite:
    """Each of its algorithms is wrong in one bit."""

    class Wrong:
        def __init__(self, key: bytes) -> None:
            self._right = suite.aead(key)

        def encrypt(self, nonce: bytes, data: bytes, more: bytes | None) -> bytes:
            return changed(self._right.encrypt(nonce, data, more))

        def decrypt(self, nonce: bytes, data: bytes, more: bytes | None) -> bytes:
            return self._right.decrypt(nonce, changed(data), more)

    def keyed(work: Callable[[bytes, bytes], bytes]) -> Callable[[bytes, bytes], bytes]:
        return lambda key, data: changed(work(key, data))

    return dataclasses.replace(
        suite, aead=Wrong, digest=lambda data: changed(suite.digest(data)),
        mac=keyed(suite.mac), keyed_digest=keyed(suite.keyed_digest),
    )  # fmt: skip


def test_what_is_wrong_in_one_bit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, suite in (("INTERNATIONAL", INTERNATIONAL), ("GM", GM)):
        monkeypatch.setattr(openssl_oracle, name, with_wrong(suite))
    assert failed() == {
        "SHA-256", "HMAC-SHA256", "BLAKE2b", "AES-256-GCM", "SM3", "HMAC-SM3", "SM4-GCM",
    }  # fmt: skip
    # Another signer's ID than the standard's is what others would not take.
    monkeypatch.setattr(sm2.Sm2PrivateKey.sign, "__defaults__", (b"",))
    assert "SM2" in failed()


def test_without_the_openssl_command_there_is_nothing_to_compare_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SelfTestFailed, match="openssl"):
        openssl_oracle.beside_openssl()
