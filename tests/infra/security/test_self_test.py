"""The self test passes here, and a wrong algorithm is found and refused."""

from __future__ import annotations

import dataclasses

import pytest

from tokenschain.infra.security import gm, self_test, sm2
from tokenschain.infra.security.self_test import SelfTestFailed
from tokenschain.infra.security.suite import GM, SUITES


def test_both_suites_give_the_right_answers() -> None:
    for suite in SUITES:
        assert self_test.checked(suite) is suite
        assert len(self_test.known_answers(suite)) >= 3


def test_a_wrong_algorithm_is_named_and_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(self_test, "GM", dataclasses.replace(GM, digest=lambda data: b"x" * 32))
        with pytest.raises(SelfTestFailed, match="SM3"):
            self_test.checked(GM)
    with monkeypatch.context() as patched:
        patched.setattr(gm.Sm4Gcm, "decrypt", lambda self, nonce, data, more: data[:-16])
        with pytest.raises(SelfTestFailed, match="SM4-GCM"):
            self_test.checked(GM)
    with monkeypatch.context() as patched:
        patched.setattr(sm2.Sm2PublicKey, "is_signed", lambda *_: True)
        with pytest.raises(SelfTestFailed, match="SM2"):
            self_test.checked(GM)


def test_without_libcrypto_gm_is_refused_and_international_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise sm2.Sm2Missing("none")

    monkeypatch.setattr(sm2, "_library", missing)
    assert self_test.suite_in_force("international") is SUITES[0]
    for name in ("gm", "dual"):
        with pytest.raises(SelfTestFailed, match="the self test of SM2 failed"):
            self_test.suite_in_force(name)
