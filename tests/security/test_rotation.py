"""Master key and internal secret are rotated while calls run; the old ones are worthless then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.infra.control_channel.protocol import SIGNATURE_HEADER, SNAPSHOT_PATH
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.security import rotation, secret_files
from tokenschain.infra.security.rotation import Stage
from tokenschain.infra.security.secret_files import SecretFileRefused
from tokenschain.infra.security.suite import INTERNATIONAL


def command(stack: Stack, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tokenschain", *arguments],
        env=os.environ | stack.environment, capture_output=True, text=True, input=given, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def asks(stack: Stack, secret: str) -> int:
    secrets = (secret,)
    signatures = Signatures(INTERNATIONAL, lambda: secrets, time.time)
    header = signatures.sign("GET", SNAPSHOT_PATH, b"").header
    url = f"http://127.0.0.1:{stack.control_port}{SNAPSHOT_PATH}"
    return web.get(url, headers={SIGNATURE_HEADER: header}).status_code


def test_secrets_are_rotated_under_load_and_nothing_is_lost(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path, upstream.base_url)
    folder = stack.settings.data_dir / "secrets"
    over, statuses, calls = threading.Event(), [], []

    def keep_calling() -> None:
        while not over.is_set():
            reply = stack.chat()
            statuses.append(reply.status_code)
            calls.append(reply.headers["x-request-id"])
            time.sleep(0.05)

    def respond(**more: Any) -> Any:
        body = {"model": "sim-chat", "input": "hi"} | more
        return web.post(f"{stack.url}/v1/responses", json=body, headers=stack.headers, timeout=30)

    try:
        stack.start()
        command(stack, "secrets", "set", "cloud", given="s3cret-of-the-cloud")
        kept = respond().json()["id"]
        old = {name: (folder / name).read_text().strip() for name in ("internal", "master")}
        thread = threading.Thread(target=keep_calling)
        thread.start()
        said = command(stack, "secrets", "rotate", "internal")
        assert said.count("done") == 3
        said = command(stack, "secrets", "rotate", "master")
        assert "sealed texts are sealed with the new key" in said
        over.set()
        thread.join()
        assert set(statuses) == {200} and len(statuses) > 20
        new = {name: (folder / name).read_text().strip() for name in old}
        assert all("\n" not in new[name] and new[name] != old[name] for name in old)
        assert (asks(stack, old["internal"]), asks(stack, new["internal"])) == (401, 200)
        got = web.get(f"{stack.url}/v1/responses/{kept}", headers=stack.headers)
        assert got.status_code == 200, got.text
        assert respond(previous_response_id=kept).status_code == 200
        for call in (calls[0], calls[-1]):
            stack.row_of(call)
        assert "control_lost" not in stack.read_log().partition("control_back")[2]
        assert command(stack, "secrets", "list").split() == ["name", "cloud"]
        # Started anew, all of it works with the new ones alone.
        stack.stop("gateway")
        stack.start("gateway")
        assert stack.chat().status_code == 200
        assert "snapshot_ignored" not in stack.read_log() or stack.chat().status_code == 200
    finally:
        over.set()
        stack.close()


def test_the_stages_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "internal"
    (old,) = secret_files.read_or_make(path)

    def go(stage: Stage) -> tuple[str, ...]:
        rotation.go(path, stage)
        return secret_files.read(path)

    for early in (Stage.USE, Stage.FINISH):
        with pytest.raises(SecretFileRefused):
            go(early)
    first, new = go(Stage.ADD)
    assert first == old, "it is accepted everywhere before it signs anywhere"
    for wrong in (Stage.ADD, Stage.FINISH):
        with pytest.raises(SecretFileRefused):
            go(wrong)
    assert go(Stage.USE) == (new, old)
    assert go(Stage.USE) == (new, old), "again, where what is sealed was not all sealed anew"
    with pytest.raises(SecretFileRefused):
        go(Stage.ADD)
    assert go(Stage.FINISH) == (new,)
    assert path.stat().st_mode & 0o777 == 0o600
