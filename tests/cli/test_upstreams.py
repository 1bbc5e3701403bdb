"""Upstreams from the shell: added once they work, tested, drained, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell, shell
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator


@pytest.fixture
def run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Shell]:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with shell(
        monkeypatch, capsys,
        TOKENSCHAIN_CONTROL__URL=f"http://127.0.0.1:{stack.control_port}",
        TOKENSCHAIN_ADMIN_TOKEN=stack.admin_token,
    ) as made:  # fmt: skip
        yield made


def test_an_upstream_is_added_tested_drained_and_removed(
    run: Shell, upstream: UpstreamSimulator
) -> None:
    more: dict[str, Any] = {"prices": {"second-chat": {"input": 1, "output": 2}}, "zone": "cn"}
    given = ("--model", "second-chat", "--spec", json.dumps(more), "--key")
    away = run("upstreams", "add", "second", "--base-url", "http://127.0.0.1:1/v1", *given,
               given="sk-of-the-vendor\n")  # fmt: skip
    assert away.code == 1 and "FAIL connection" in away.out and "not added" in away.err, away
    assert run("upstreams", "show", "second").code == 1
    added = run("upstreams", "add", "second", "--base-url", upstream.base_url, *given,
                given="sk-of-the-vendor\n")  # fmt: skip
    assert added.code == 0 and "+ upstream second" in added.out, added
    assert "call: `second-chat` answers" in added.out
    assert "sk-of-the-vendor" not in away.out + away.err + added.out + added.err
    tested = run("upstreams", "test", "second")
    assert tested.code == 0 and "credential: 1 of 1 are there" in tested.out, tested
    kept = run("upstreams", "remove", "second")
    assert kept.code == 1 and "no other upstream serves second-chat" in kept.err, kept
    assert run("upstreams", "drain", "second", "--reason", "moves").code == 0
    gone = run("upstreams", "remove", "second")
    assert gone.code == 0 and "- upstream second" in gone.out, gone
    assert run("upstream-credentials", "remove", "second").code == 0
