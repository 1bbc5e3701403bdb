"""Settings: from file and environment; a wrong one is named with its remedy."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tokenschain.infra import config
from tokenschain.infra.config import SettingsError
from tokenschain.infra.security import secrets


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_beats_the_file_and_sources_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenschain.yaml").write_text("port: 9001\nworkers: 3\n")
    monkeypatch.setenv("TOKENSCHAIN_PORT", "9002")
    settings = config.load()
    assert (settings.port, settings.workers, settings.control_port) == (9002, 3, 8001)
    origin = config.sources(settings)
    assert origin["port"] == "environment" and origin["control_port"] == "default"
    assert origin["workers"].endswith("tokenschain.yaml")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TOKENSCHAIN_PORT", "70000", "port = '70000'"),
        ("TOKENSCHAIN_PROT", "1", "unknown setting TOKENSCHAIN_PROT"),
        ("TOKENSCHAIN_TRUSTED_PROXIES", "nonsense", "trusted_proxies"),
        ("TOKENSCHAIN_TLS_KEY_FILE", "/x", "belong together"),
        ("TOKENSCHAIN_CONFIG", "/does/not/exist", "which is not a file"),
        ("TOKENSCHAIN_UNPRICED_MODELS", "free", "unpriced_models"),
        ("TOKENSCHAIN_ROUTING", '{"policy": "fastest"}', "no policy `fastest`"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says.split("(", maxsplit=1)[0]):
        config.load()


def test_a_typo_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenschain.yaml").write_text("prot: 9001\n")
    with pytest.raises(SettingsError, match="unknown setting prot"):
        config.load()


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "one"
    made = secrets.read_or_make(path)
    assert secrets.read_or_make(path) == made and len(made) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_secret_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    (tmp_path / "key").write_text(" filed \n")
    assert secrets.resolve("env:SOME_KEY") == "s3cret"
    assert secrets.resolve(f"file:{tmp_path}/key") == "filed"
    for missing in ("env:NOT_THERE", "file:/not/there", "vault:x"):
        with pytest.raises(secrets.SecretMissing):
            secrets.resolve(missing)
