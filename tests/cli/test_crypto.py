"""Commands of cryptography: self test, inventory, sealing anew with the suite of the settings."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_vault import run, settings
from tokenschain.infra import config
from tokenschain.infra.security import self_test
from tokenschain.infra.security.secrets import Vault
from tokenschain.infra.security.suite import GM, INTERNATIONAL
from tokenschain.wiring import machine

__all__ = ["settings"]


def test_the_self_test_is_told_and_one_that_fails_ends_with_1(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "crypto", "selftest", "--oracle", "openssl", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["result"] for row in rows} == {"passed"}
    assert {"SM2", "SM3", "SM4-GCM", "AES-256-GCM"} <= {row["algorithm"] for row in rows}
    monkeypatch.setattr(self_test, "_sm2", lambda: False)
    assert run(monkeypatch, "crypto", "selftest") == 1
    assert "FAILED" in capsys.readouterr().out


def test_what_is_sealed_is_sealed_anew_with_the_suite_of_the_settings(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.prepare(settings)
    vault = Vault(settings.vault_path, settings.master_key_path, INTERNATIONAL)
    vault.store("cloud", "secret")
    for suite in (GM, INTERNATIONAL):
        monkeypatch.setenv("TOKENSCHAIN_CRYPTO__SUITE", suite.name)
        assert run(monkeypatch, "crypto", "reseal") == 0
        sealed = (settings.vault_path / "cloud.sealed").read_bytes()
        assert sealed[:1] == suite.sealed_version and vault.read("cloud") == "secret"
        assert run(monkeypatch, "crypto", "inventory", "-o", "json") == 0
    said = capsys.readouterr().out
    assert "secrets in files" in said and "secret\n" not in said
