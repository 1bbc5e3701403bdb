"""The master key in each key store: wrapped, rotated, taken out again, and refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.test_vault import run, settings
from tests.infra.security.sdf import compiled
from tests.vendors.key_management_clouds import KEY, KeyManagementClouds, key_management_clouds
from tests.vendors.moderation_clouds import CREDENTIAL, PROJECT
from tokenschain.infra import config
from tokenschain.infra.security import passphrase_store, rotation, secret_files
from tokenschain.infra.security.secret_files import SecretFileRefused
from tokenschain.infra.security.suite import suite_named
from tokenschain.wiring import key_stores, machine

__all__ = ["settings"]
Given = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def clouds() -> Iterator[KeyManagementClouds]:
    with key_management_clouds() as made:
        yield made


@pytest.fixture(scope="module")
def given(clouds: KeyManagementClouds, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """What is set for each kind."""
    kms = {"CREDENTIAL": "env:KMS_KEYS", "KEY": KEY, "REGION": "cn-test-1", "PROJECT": PROJECT,
           "BASE_URL": clouds.url}  # fmt: skip
    library = compiled(tmp_path_factory.mktemp("sdf"))
    return {
        "passphrase": {"PASSPHRASE": "env:KEY_PASSPHRASE"},
        "alibaba-kms": kms, "tencent-kms": kms, "huawei-kms": kms,
        "sdf": {"LIBRARY": str(library), "KEY_INDEX": "2"},
    }  # fmt: skip


def choose(monkeypatch: pytest.MonkeyPatch, kind: str, given: dict[str, str]) -> config.Settings:
    monkeypatch.setenv("KMS_KEYS", CREDENTIAL)
    monkeypatch.setenv("KEY_PASSPHRASE", "correct horse battery")
    for name, value in {"KIND": kind, **given}.items():
        monkeypatch.setenv(f"TOKENSCHAIN_KEY_STORE__{name}", value)
    return config.load()


@pytest.mark.parametrize("kind", ["passphrase", "alibaba-kms", "tencent-kms", "huawei-kms", "sdf"])
def test_a_platform_moves_into_a_key_store_and_out_again(
    settings: config.Settings, given: Given, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase_store, "_SCRYPT_COST", 16)
    monkeypatch.setattr(rotation, "NOTICED_S", 0.0)
    machine.prepare(settings)
    suite = suite_named("international")
    key_stores.vault(settings, suite).store("cloud", "secret")
    (first,) = secret_files.read(settings.master_key_path)
    moved = choose(monkeypatch, kind, given[kind])
    with pytest.raises(SecretFileRefused, match="crypto wrap"):
        key_stores.vault(moved, suite)
    assert run(monkeypatch, "crypto", "wrap") == 0
    text = settings.master_key_path.read_text()
    assert text.startswith(f"wrapped:{kind}:") and first not in text
    assert settings.master_key_path.stat().st_mode & 0o077 == 0
    assert key_stores.vault(moved, suite).read("cloud") == "secret"
    assert run(monkeypatch, "secrets", "rotate", "master", "--force") == 0
    assert key_stores.master_key(moved)() != (first,)
    assert len(secret_files.read_lines(settings.master_key_path)) == 1
    assert key_stores.vault(moved, suite).read("cloud") == "secret"
    with pytest.raises(SecretFileRefused, match=f"`{kind}` wrapped it"):
        key_stores.master_key(settings)
    assert run(monkeypatch, "crypto", "wrap", "--clear") == 0
    assert key_stores.vault(settings, suite).read("cloud") == "secret"


def test_a_new_platform_makes_its_key_wrapped(
    settings: config.Settings, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = choose(monkeypatch, "sdf", given["sdf"])
    key_stores.vault(moved, suite_named("gm")).store("cloud", "secret")
    assert settings.master_key_path.read_text().startswith("wrapped:sdf:2:")


def test_a_master_key_that_is_of_no_use_any_more_is_reported(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_files, "REREAD_S", 0.0)
    told: list[str] = []
    vault = key_stores.vault(
        settings, suite_named("international"), lambda event, *_, **__: told.append(event)
    )
    vault.store("cloud", "secret")
    settings.master_key_path.write_text("wrapped:sdf:1:AAAA\n")
    assert vault.read("cloud") == "secret" and vault.read("cloud") == "secret"
    assert told == ["secret_file_refused"]


@pytest.mark.parametrize(
    ("kind", "missing", "why"),
    [
        ("passphrase", "PASSPHRASE", "key_store.passphrase"),
        ("alibaba-kms", "CREDENTIAL", "key_store.credential"),
        ("tencent-kms", "KEY", "key_store.key"),
        ("huawei-kms", "PROJECT", "key_store.project"),
        ("sdf", "LIBRARY", "key_store.library"),
    ],
)
def test_a_setting_that_is_missing_is_named(
    settings: config.Settings, given: Given, kind: str, missing: str, why: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    left = {name: value for name, value in given[kind].items() if name != missing}
    choose(monkeypatch, kind, left)
    assert run(monkeypatch, "crypto", "wrap") == 2
    said = capsys.readouterr().err
    assert why in said and kind in said and CREDENTIAL not in said


def test_the_passphrase_cannot_be_sealed_with_what_it_opens(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = choose(monkeypatch, "passphrase", {"PASSPHRASE": "sealed:word"})
    with pytest.raises(SecretFileRefused, match="cannot be sealed"):
        key_stores.store_of(moved)
    moved = choose(monkeypatch, "passphrase", {"PASSPHRASE": "env:NOT_THERE"})
    with pytest.raises(SecretFileRefused, match="env:NOT_THERE holds no secret"):
        key_stores.store_of(moved)
