"""Witness commands: the process over a socket, killed and started again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cli.shell import shell
from tokenschain.core.audit import checkpoint, witnessing
from tokenschain.core.audit.checkpoint import Checkpoint
from tokenschain.core.audit.witnessing import CosigningRequest
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

LOG = NoteSecret(INTERNATIONAL, "l" * 43)


def asked(size: int) -> bytes:
    root = INTERNATIONAL.digest(bytes([size]))
    note = checkpoint.signed(Checkpoint("log", size, root), LOG.signer("log"))
    return witnessing.encode(CosigningRequest(0, [], note))


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A witness' process, and where it answers."""
    command = [sys.executable, "-m", "tokenschain", "witness", "run", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"port=(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", line))
    assert found, line + process.stdout.read()
    return process, f"http://127.0.0.1:{found[1]}"


def test_a_witness_that_was_killed_remembers_what_it_cosigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "witness"
    with shell(monkeypatch, capsys) as run:
        made = run("witness", "create", str(folder), "--name", "w.example")
        assert made.code == 0 and made.out.startswith("w.example+")
        assert run("witness", "create", str(folder), "--name", "w.example").code
        assert run("witness", "key", str(folder)).out == made.out
        assert run("witness", "follow", str(folder), made.out.strip()).code, "no log's key"
        assert run("witness", "follow", str(folder), LOG.public_key("log")).code == 0
        process, address = started(folder)
        try:
            reply = httpx.post(f"{address}/add-checkpoint", content=asked(5))
            assert reply.status_code == 200 and reply.text.startswith("\u2014 w.example ")
            assert httpx.get(f"{address}/add-checkpoint").status_code == 405
            assert httpx.post(f"{address}/other").status_code == 404
            assert httpx.post(f"{address}/add-checkpoint", content=b"x").status_code == 400
            assert run("witness", "run", str(folder)).code, "it is in use"
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process, address = started(folder)
        try:
            reply = httpx.post(f"{address}/add-checkpoint", content=asked(7))
            assert (reply.status_code, reply.text) == (409, "5\n")
            assert reply.headers["content-type"] == "text/x.tlog.size"
            assert httpx.get(f"{address}/livez").text == "ok\n"
        finally:
            process.terminate()
            process.communicate()
        assert process.returncode == 0
        assert run("witness", "checkpoints", str(folder)).out.startswith("log\n5\n")
