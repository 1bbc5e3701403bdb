"""A machine's other users and its logs learn nothing: modes, environments, cores, first keys."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.cli import run as run_commands
from tokenschain.control.configuration.changes import Change, Configurator
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.log_events import silent
from tokenschain.infra import catalog_file, config, hardening
from tokenschain.infra.database import engine as db
from tokenschain.infra.gateway_status_files import status_path
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wiring import machine

KEYS = (
    "sk-abcdefghijklmnopqrstuvwx", "tc-" + "a" * 43, "AKIDz8krbsJ5yKBZQpn74WFkmLPx3",
    "LTAI5tAbCdEfGhIjKlMnOpQr", "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp",
    "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl",
)  # fmt: skip


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    mine = {k: v for k, v in os.environ.items() if not k.startswith("TOKENSCHAIN_")}
    return subprocess.run(
        [sys.executable, "-m", "tokenschain", *arguments],
        env=mine | environment, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "where",
    [
        "upstreams:\n- {{id: a, base_url: 'https://a.example/v1', credential: '{}'}}",
        "upstreams:\n- {{id: a, base_url: 'https://a.example/v1', credential: ['env:{}']}}",
        "upstreams:\n- {{id: a, base_url: 'https://a.example/v1?key={}'}}",
        "upstreams:\n- {{id: a, base_url: 'https://user:{}@a.example/v1'}}",
        "upstreams:\n- {{id: a, api_key: '{}', base_url: 'https://a.example/v1'}}",
        "smtp: '{}'",
        "smtp: {{password: '{}'}}",
        "oidc: {{client_secret: '{}'}}",
        "cache: {{judge: {{base_url: 'http://a/v1', model: m, credential: '{}'}}}}",
        "server: {{port: '{}'}}",
        "redis: [{}: {}",
    ],
)
def test_a_raw_key_in_the_settings_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, where: str
) -> None:
    file = tmp_path / "tokenschain.yaml"
    file.write_text(where.format(key, key) + "\n")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    with pytest.raises(config.SettingsError) as refused:
        config.load()
    assert key not in str(refused.value) and key[5:25] not in str(refused.value)


def test_places_of_secrets_and_passwords_of_stores_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokenschain.yaml"
    file.write_text(
        "database: {url: 'postgresql+psycopg://user:pass@host/name'}\n"
        "redis: {url: 'redis://:pass@host:6379/0'}\n"
        "upstreams:\n- {id: a, base_url: 'https://a.example/v1', models: [m],\n"
        "   credential: ['env:A_KEY', 'file:/run/keys/a', 'sealed:cloud.a-1']}\n"
    )
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    assert len(config.load().upstreams[0].credential) == 3


def test_children_get_only_what_they_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "UPSTREAM_KEY": "u", "SMTP_PASSWORD": "s", "OIDC_SECRET": "o", "JUDGE_KEY": "j",
        "AWS_SECRET_ACCESS_KEY": "a", "TOKENSCHAIN_ADMIN_TOKEN": "t",
        "TOKENSCHAIN_DATABASE__URL": "d", "TOKENSCHAIN_REDIS__URL": "r",
        "TOKENSCHAIN_SERVER__PORT": "1", "PATH": "/bin", "LC_ALL": "C",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", given)
    file = tmp_path / "tokenschain.yaml"
    file.write_text(
        "smtp: {password: 'env:SMTP_PASSWORD'}\noidc: {client_secret: 'env:OIDC_SECRET'}\n"
        "cache:\n  mode: semantic\n"
        "  judge: {base_url: 'http://a/v1', model: m, credential: 'env:JUDGE_KEY'}\n"
        "upstreams:\n- {id: a, base_url: 'https://a.example/v1', models: [m],"
        " credential: 'env:UPSTREAM_KEY'}\n"
    )
    everywhere = {"PATH", "LC_ALL", "TOKENSCHAIN_SERVER__PORT"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {"TOKENSCHAIN_CONFIG": str(file), "HOME": str(tmp_path)})
        settings = config.load()
    found = {
        child.name: set(child.environment or ())
        for child in machine.children(settings, everything=True)
    }
    assert found["gateway-0"] - everywhere == {"UPSTREAM_KEY", "TOKENSCHAIN_REDIS__URL"}
    assert found["control"] - everywhere == {
        "SMTP_PASSWORD", "OIDC_SECRET", "UPSTREAM_KEY", "TOKENSCHAIN_DATABASE__URL",
    }  # fmt: skip
    assert found["semantic"] - everywhere == {"JUDGE_KEY", "TOKENSCHAIN_REDIS__URL"}
    assert found["engine"] == everywhere


def test_gateways_get_the_variables_that_resources_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly those, of the database; where that is elsewhere, of what they served last."""
    monkeypatch.setattr(os, "environ", {
        "TOKENSCHAIN_DATA_DIR": str(tmp_path), "TOKENSCHAIN_ENGINE__ENABLED": "false",
        "BY_API": "sk-1", "SERVED_LAST": "sk-2", "OF_OTHERS": "sk-3",
    })  # fmt: skip
    settings = config.load()
    machine.prepare(settings)
    spec = {"provider": "deepseek", "credential": ["env:BY_API", "env:NOT_SET", "stored:k"]}
    sealer = secrets.master_sealer(SecretFile(settings.master_key_path), INTERNATIONAL)
    engine = db.connect(settings.database_url)
    made = Configurator(settings, catalog_file.load(), sealer, INTERNATIONAL, silent)
    with engine.begin() as connection:
        made.change(connection, machine.OPERATOR, [
            Change(ResourceKey(Kind.CREDENTIAL, "", "k"), {"value": "sk-4"}),
            Change(ResourceKey(Kind.UPSTREAM, "", "one"), spec),
        ])  # fmt: skip
    engine.dispose()
    for child in machine.children(settings, everything=True):
        given = {name for name in child.environment or () if not name.startswith("TOKENSCHAIN_")}
        wanted = set() if child.name == "semantic" else {"BY_API"}
        assert given == wanted, child.name
    status = GatewayStatus("g", 0, 1, "0", 0.0, 5, 0.2, 0, 1, 0.0, variables=("SERVED_LAST",))
    path = status_path(tmp_path, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(status))
    (tmp_path / "tokenschain.db").unlink()
    (gateway,) = machine.children(settings, everything=False)
    assert hardening.secret_variables(gateway.environment or {}, "TOKENSCHAIN_") == ("SERVED_LAST",)


def test_no_process_leaves_a_core_or_lets_a_debugger_in(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path, upstream.base_url)
    (tmp_path / "data").chmod(0o755)
    try:
        stack.start()
        assert stack.chat().status_code == 200
        for process in stack.processes.values():
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            core = next(line for line in limits.splitlines() if "core file" in line)
            assert core.split()[4:6] == ["0", "0"]
            # What is not dumpable belongs to root, and none but root reads its environment.
            assert Path(f"/proc/{process.pid}/environ").stat().st_uid == 0
        assert "data_dir_closed" in stack.read_log()
        data = tmp_path / "data"
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert [path for path in hardening.open_to_others(data) if path.name != "tokenschain.db"
                and "wal" not in path.name and "shm" not in path.name] == []  # fmt: skip
    finally:
        stack.close()


def test_a_hardened_process_is_not_dumpable_whoever_runs_it() -> None:
    """Root's files in /proc belong to root either way: asked of the kernel itself."""
    script = (
        "import ctypes; from tokenschain.infra import hardening; dumpable = lambda: "
        "ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "before = dumpable(); hardening.harden(); print(before, dumpable())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0"], done.stderr


def test_a_folder_that_is_not_the_platforms_is_not_closed_but_refused(tmp_path: Path) -> None:
    said: list[Any] = []
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    hardening.make_own(folder, lambda event, **_: said.append(event))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and said == ["data_dir_closed"]
    folder.chmod(0o755)
    (folder / "of-another-program").write_text("")
    with pytest.raises(hardening.FolderRefused, match="chmod 700"):
        hardening.make_own(folder, lambda event, **_: said.append(event))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    hardening.make_own(tmp_path / "not there", lambda event, **_: said.append(event))
    if os.geteuid() == 0:
        os.chown(folder, 12_345, 12_345)
        with pytest.raises(hardening.FolderRefused, match="another user"):
            hardening.make_own(folder, lambda event, **_: said.append(event))


def test_weak_secrets_end_the_start_and_doctor_names_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "secrets").mkdir(parents=True, mode=0o700)
    data.chmod(0o700)
    for name in ("internal", "master"):
        (data / "secrets" / name).write_text("x")
        (data / "secrets" / name).chmod(0o644)
    environment = {"TOKENSCHAIN_DATA_DIR": str(data), "TOKENSCHAIN_ENGINE__ENABLED": "false"}
    told = run(tmp_path, "doctor", **environment)
    for says in ("chmod -R go=", "chmod 600"):
        assert says in told.stdout.replace("\n", "")
    for command in (["gateway", "--worker", "0"], ["control"]):
        refused = run(tmp_path, *command, **environment)
        assert refused.returncode == 2, refused.stderr
        assert "chmod 600" in refused.stderr.replace("\n", "")


class Terminal(io.StringIO):
    """Standard output that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_first_credentials_are_shown_to_a_terminal_and_go_into_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    file = tmp_path / "tokenschain.yaml"
    file.write_text(f"data_dir: '{tmp_path / 'data'}'\nengine: {{enabled: false}}\n")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    settings = config.load()
    first = machine.prepare(settings)
    assert first.api_key is not None and first.admin_token is not None
    path = machine.first_credentials_path(settings)
    output = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    run_commands._greet(settings, first, "a-model", "")
    shown = output.getvalue()
    for credential in (first.api_key, first.admin_token):
        assert (credential in shown) == terminal
    assert path.exists() != terminal, "what was shown once is kept nowhere"
    if not terminal:
        assert path.name in shown and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert first.api_key in path.read_text() and first.admin_token in path.read_text()
