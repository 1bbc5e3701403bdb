"""Wrong inputs of the command line: each ends in one plain line that says what to do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tokenschain import cli
from tokenschain.infra import config, hardening

KEY = "sk-1234567890abcdef"
CUSTOM = "upstreams:\n- {{id: a, provider: {provider}, credential: 'env:X'{more}}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings of its own, nothing of this machine's."""
    for name in [name for name in os.environ if name.startswith("TOKENSCHAIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # Of processes of their own: here it would harden the tests, too.
    monkeypatch.setattr(hardening, "harden", lambda: None)
    for name, value in {
        "DATA_DIR": str(tmp_path / "data"),
        "ENGINE__ENABLED": "false",
        "SERVER__PORT": str(free_port()),
        "CONTROL__PORT": str(free_port()),
        "DATABASE__START_WAIT_S": "0",
    }.items():
        monkeypatch.setenv(f"TOKENSCHAIN_{name}", value)
    return tmp_path


def said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    code: int = 2,
) -> str:
    """What a command says as it refuses."""
    monkeypatch.setattr(sys, "argv", ["tokenschain", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    found = capsys.readouterr()
    assert ended.value.code == code, found
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert errors, found
    assert "Traceback" not in found.err
    assert KEY not in found.out + found.err
    assert "s3cret" not in found.out + found.err
    return "\n".join(errors)


FILES = {
    "a tab": (b"upstreams:\n\t- id: a\n", "tokenschain.yaml line 2: a tab; indent with spaces"),
    "no YAML": (b"log_format: json\nupstreams: [\n", "tokenschain.yaml line 3"),
    "not UTF-8": (b"log_format: json\na: \xff\n", "tokenschain.yaml line 2: not UTF-8"),
    "a bad id": (b"upstreams:\n- {id: My Upstream, provider: deepseek}\n", "lower case letters"),
    "a key": (
        f"upstreams:\n- {{id: a, provider: deepseek, credential: {KEY}}}\n".encode(),
        "secrets set",
    ),
    "an unknown provider": (
        CUSTOM.format(provider="aliyun", more="").encode(),
        "no provider aliyun; did you mean alibaba",
    ),
    "no address": (CUSTOM.format(provider="custom", more="").encode(), "upstream a: set base_url"),
    "no host": (
        CUSTOM.format(provider="custom", more=", base_url: 'http://'").encode(),
        "an address with a host",
    ),
    "a model that nobody serves": (
        (
            CUSTOM.format(provider="deepseek", more="")
            + "routing:\n  models: {w: [{model: deepseek-flas}]}\n"
        ).encode(),
        "no upstream serves the model `deepseek-flas`; did you mean `deepseek-flash`?",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_wrong_files(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, wanted = FILES[name]
    (place / "tokenschain.yaml").write_bytes(text)
    assert wanted in said(monkeypatch, capsys, "up")
    assert not (place / "data").exists(), "something was made before the settings were checked"


def test_every_problem_is_said_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tokenschain.yaml").write_text(
        "upstreams:\n- {id: a, provider: aliyun}\n- {id: b, provider: custom}\n"
    )
    found = said(monkeypatch, capsys, "up").splitlines()
    assert len(found) == 2
    assert "upstream a" in found[0]
    assert "upstream b" in found[1]


def test_control_alone_checks_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tokenschain.yaml").write_text("upstreams:\n- {id: a, provider: aliyun}\n")
    assert "did you mean alibaba" in said(monkeypatch, capsys, "control")
    assert not (place / "data").exists()


VARIABLES = {
    "no JSON": ({"UPSTREAMS": "id: a"}, "TOKENSCHAIN_UPSTREAMS must be JSON: a list"),
    "a database of no kind": ({"DATABASE__URL": "postgres://u:s3cret@h/x"}, "postgresql://"),
    "a Redis without scheme": ({"REDIS__URL": ":s3cret@localhost:6379"}, "redis://"),
    "PostgreSQL down": (
        {"DATABASE__URL": "postgresql://u:s3cret@127.0.0.1:1/x"},
        "127.0.0.1:1 cannot be used: ",
    ),
    "a folder that cannot be": ({"DATA_DIR": "/proc/nothing"}, "data_dir /proc/nothing cannot"),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_wrong_variables(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values, wanted = VARIABLES[name]
    for variable, value in values.items():
        monkeypatch.setenv(f"TOKENSCHAIN_{variable}", value)
    assert wanted in said(monkeypatch, capsys, "up")


def test_a_data_folder_that_is_a_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "data").touch()
    assert "data_dir" in said(monkeypatch, capsys, "up")


COMMANDS = {
    "a backup to nowhere": (["backup", "/nowhere/x.db"], "there is no database at"),
    "a move from nothing": (
        ["migrate", "--from", "nowhere.db", "--to", "x.db"],
        "there is no database at nowhere.db",
    ),
    "models of nobody": (["model", "list", "--provider", "aliyun"], "near: alibaba"),
    "pairs of nowhere": (["cache", "evaluate", "--data", "/nowhere"], "no pairs at /nowhere"),
}
"""What is well said, of something that is not there."""


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_commands(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, wanted = COMMANDS[name]
    assert wanted in said(monkeypatch, capsys, *arguments, code=1)
    assert not (place / "x.db").exists(), "a refused move left a file behind"


def test_off_is_a_mode_of_the_cache(place: Path) -> None:
    """YAML 1.1 reads `off` as false."""
    (place / "tokenschain.yaml").write_text("cache:\n  mode: off\n")
    assert config.load().cache.mode == "off"


def test_a_process_that_does_not_start_ends_the_start(place: Path) -> None:
    """The journal belongs to another process: `up` ends, and says whose it is."""
    environment = os.environ | {"TOKENSCHAIN_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "tokenschain", "up"]
    folder = place / "data" / "gateway" / "journal" / "0"
    folder.mkdir(parents=True, mode=0o700)
    (place / "data").chmod(0o700)
    with (folder / "lock").open("w") as lock:
        lock.write("4242")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "in use by process 4242" in done.stderr
    assert "gateway-0 did not start" in done.stderr
    assert "TokensChain is up" not in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_finds_what_would_stop_a_start(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "tokenschain.yaml").write_text(CUSTOM.format(provider="aliyun", more=""))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys, "argv", ["tokenschain", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "no provider aliyun; did you mean alibaba" in " ".join(capsys.readouterr().out.split())
