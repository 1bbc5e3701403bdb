"""First credentials are not lost, and a data folder has one owner."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tokenschain import cli
from tokenschain.infra import config, folder_lock, hardening
from tokenschain.infra.database import engine as db
from tokenschain.wiring import machine


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    for name in [name for name in os.environ if name.startswith("TOKENSCHAIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardening, "harden", lambda: None)  # it would harden the tests, too
    for name, value in {
        "DATA_DIR": str(tmp_path / "data"),
        "ENGINE__ENABLED": "false",
        "SERVER__PORT": str(free_port()),
        "CONTROL__PORT": str(free_port()),
    }.items():
        monkeypatch.setenv(f"TOKENSCHAIN_{name}", value)
    return config.load()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tokenschain", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_first_credentials_outlive_a_start_that_fails(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = machine.prepare(settings)
    assert made.api_key is not None and made.admin_token is not None
    path = machine.first_credentials_path(settings)
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(monkeypatch, "credentials", "show") == 0
    shown = capsys.readouterr().out
    assert made.api_key in shown and made.admin_token in shown
    path.unlink()
    assert run(monkeypatch, "credentials", "show") == 2
    assert "credentials renew" in capsys.readouterr().err
    assert machine.prepare(settings) == (None, None) and not path.exists()


def test_credentials_are_made_anew_and_that_is_audited(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = machine.prepare(settings)
    assert run(monkeypatch, "credentials", "renew", "admin-token") == 0
    token = capsys.readouterr().out.strip()
    assert re.fullmatch(r"tca-[\w-]{43}", token) and token != before.admin_token
    assert run(monkeypatch, "credentials", "renew", "api-key") == 0
    assert re.fullmatch(r"tc-[\w-]{43}", capsys.readouterr().out.strip())
    engine = db.connect(settings.database_url)
    with engine.connect() as connection:
        noted = connection.exec_driver_sql("SELECT actor, action FROM audit_events").fetchall()
        hashes = connection.exec_driver_sql("SELECT count(*) FROM api_keys").scalar_one()
    engine.dispose()
    assert [tuple(row) for row in noted] == [
        ("operator", "users:write"), ("operator", "keys:create"),
    ]  # fmt: skip
    assert hashes == 2


def test_a_second_start_says_who_has_the_folder(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.open_folder(settings)
    held = folder_lock.hold(settings.data_dir)
    try:
        assert run(monkeypatch, "up") == 2
    finally:
        os.close(held)
    assert f"in use by process {os.getpid()}" in " ".join(capsys.readouterr().err.split())
