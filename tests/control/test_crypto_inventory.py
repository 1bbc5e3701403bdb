"""The inventory counts what there is by algorithm, of a fresh machine in either suite."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tokenschain.control.crypto_inventory import inventory
from tokenschain.infra.config import Settings
from tokenschain.infra.config.crypto import CryptoSettings
from tokenschain.infra.security import certificates
from tokenschain.infra.security.secrets import Vault
from tokenschain.infra.security.suite import suite_named
from tokenschain.wiring import machine


@pytest.mark.parametrize(
    ("suite", "digest", "code", "sealing"),
    [("international", "SHA-256", "HMAC-SHA256", "AES-256-GCM"),
     ("gm", "SM3", "HMAC-SM3", "SM4-GCM")],
)  # fmt: skip
def test_a_machine_is_counted_by_algorithm(
    tmp_path: Path, suite: str, digest: str, code: str, sealing: str
) -> None:
    settings = Settings(data_dir=tmp_path / "data", crypto=CryptoSettings(suite=suite))
    before = {one.what: one for one in inventory(settings)}
    assert "API keys" not in before and before["requests between processes"].algorithm == code
    machine.prepare(settings)
    vault = Vault(settings.vault_path, settings.master_key_path, suite_named(suite))
    for name in ("one", "two"):
        vault.store(name, "secret")
    found = {one.what: one for one in inventory(settings)}
    assert found["API keys"][1:] == (digest, "", 1)
    assert found["secrets in files"].algorithm == sealing and found["secrets in files"].rows == 2
    assert len(found["secrets in files"].key) == 8
    path = settings.vault_path / "one.sealed"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    of_files = [one for one in inventory(settings) if one.what == "secrets in files"]
    assert [(one.algorithm, one.rows) for one in of_files] == [
        ("of an earlier version", 1), (sealing, 1),
    ]  # fmt: skip
    assert "secret" not in str([one._replace(what="") for one in of_files])


@pytest.mark.parametrize("has", [[], ["TLS_SM4_GCM_SM3"]])
def test_suites_of_rfc_8998_are_told_as_the_linked_openssl_offers_them(
    tmp_path: Path, has: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Linked:
        PROTOCOL_TLS_SERVER = ssl.PROTOCOL_TLS_SERVER

        @staticmethod
        def SSLContext(_: int) -> Any:
            offered = [{"name": name} for name in ["TLS_AES_256_GCM_SHA384", *has]]
            return SimpleNamespace(get_ciphers=lambda: offered)

    monkeypatch.setattr(certificates, "ssl", Linked)
    found = {one.what: one for one in inventory(Settings(data_dir=tmp_path / "data"))}
    said = found["TLS: suites of RFC 8998"].algorithm
    assert said == (", ".join(has) or f"none in {ssl.OPENSSL_VERSION}")
    assert found["audit log: signing key's file"].algorithm == "in clear, by file rights"
