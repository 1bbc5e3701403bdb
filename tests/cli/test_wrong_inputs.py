"""Wrong inputs of the command line: each ends in one plain line that says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from tests.ports import free_port
from tokenschain import cli
from tokenschain.infra import config, folder_lock, hardening

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
    "two upstreams with one id": (
        (CUSTOM + "- {{id: a, provider: alibaba, credential: 'env:Y'}}\n")
        .format(provider="deepseek", more="")
        .encode(),
        "upstreams[1].id = 'a': upstreams[0] has this id already",
    ),
    "a list": (b"- a\n- b\n", "must hold `name: value` lines"),
    "an unknown setting": (b"upstream: []\n", "did you mean `upstreams`?"),
    "a scheme of no web": (
        CUSTOM.format(provider="custom", more=", base_url: 'ftp://h/v1'").encode(),
        "upstreams[0].base_url = 'ftp://h/v1': must be",
    ),
    "a zone of nowhere": (
        CUSTOM.format(provider="deepseek", more=", zone: mars").encode(),
        "upstreams[0].zone = 'mars': must be one of",
    ),
    "a price that is none": (
        CUSTOM.format(
            provider="deepseek", more=", prices: {m: {currency: CNY, input: dear, output: 1}}"
        ).encode(),
        "upstreams[0].prices.m",
    ),
    "half a pair": (b"tls: {certificate_file: /x}\n", "belong together: set both"),
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


PORTS = {
    "server.port": {},
    "control.port": {},
    "engine.port": {"ENGINE__ENABLED": "true"},
    "engine.embedder_port": {"ENGINE__ENABLED": "true"},
    "semantic.port": {"CACHE__MODE": "semantic"},
}


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_is_taken(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variable = config.variable_of(name)
        for one, value in (PORTS[name] | {variable: str(port)}).items():
            monkeypatch.setenv(f"TOKENSCHAIN_{one.removeprefix('TOKENSCHAIN_')}", value)
        heard = said(monkeypatch, capsys, "up")
    assert f"port {port} on " in heard
    assert f"is taken: stop what uses it, or set {variable} to another" in heard


def test_a_second_start_says_which_process_has_the_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "data").mkdir(mode=0o700)
    lock = folder_lock.hold(place / "data")
    try:
        assert f"in use by process {os.getpid()}: end it" in said(monkeypatch, capsys, "up")
    finally:
        os.close(lock)


DISKS = {
    "a full disk": (errno.ENOSPC, "No space left on device; make room on its disk, or set"),
    "no more of a quota": (errno.EDQUOT, "make room on its disk, or set TOKENSCHAIN_DATA_DIR"),
    "a read-only disk": (errno.EROFS, "Read-only file system; make it a folder that this user may"),
}


@pytest.mark.parametrize("name", DISKS)
def test_a_folder_that_cannot_be_written(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number, wanted = DISKS[name]

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert wanted in said(monkeypatch, capsys, "up")
    assert not (place / "data" / "tokenschain.db").exists()


def test_a_disk_that_fills_as_the_tables_are_made(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that may have so few pages says the same as one without room."""

    def few_pages(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=20")

    event.listen(Engine, "connect", few_pages)
    try:
        heard = said(monkeypatch, capsys, "up")
    finally:
        event.remove(Engine, "connect", few_pages)
    assert heard == (
        "error: the database refuses: database or disk is full; `tokenschain doctor` looks at it, "
        "its disk and its rights"
    )


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


MISUSES = {
    "no such command": (["upstraems", "list"], "Did you mean 'upstreams'?"),
    "no such scenario": (["simulate", "reigon"], "no scenario `reigon`; did you mean region?"),
    "no such policy": (["simulate", "--policy", "cost-frist"], "did you mean cost-first?"),
    "no such period": (["usage", "--per", "week"], "--per"),
    "less than nothing": (["wallet", "deposit", "default", "-5"], "-5"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misused_commands(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, wanted = MISUSES[name]
    assert wanted in said(monkeypatch, capsys, *arguments)


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
