"""Children are restarted with back-off, and end in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tokenschain.infra import supervisor
from tokenschain.infra.supervisor import Child, Supervisor

# Stands in for `python -m tokenschain`: notes when it ends, or fails at once.
SCRIPT = """
import signal, sys, time
name, log, slow = sys.argv[1], sys.argv[2], float(sys.argv[3])
if slow < 0:
    sys.exit(3)
def end(*_):
    time.sleep(slow)
    open(log, "a").write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda *_: open(log, "a").write(name + " reads again\\n"))
open(log + ".up", "a").write(name + "\\n")
while True:
    time.sleep(1)
"""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    real = asyncio.create_subprocess_exec

    async def start(_python: str, _m: str, _module: str, *arguments: str, **more: Any) -> Any:
        return await real(sys.executable, "-c", SCRIPT, *arguments, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    return []


def test_those_who_are_needed_end_last(tmp_path: Path, events: list[Any]) -> None:
    log = tmp_path / "log"
    children = [
        Child("control", ["control", str(log), "0"], serves=["gateway-0", "gateway-1"]),
        Child("gateway-0", ["gateway-0", str(log), "0.4"]),
        Child("gateway-1", ["gateway-1", str(log), "0.2"]),
    ]

    async def run() -> None:
        made = Supervisor(children, lambda event, **more: events.append((event, more)), 5.0)
        running = asyncio.create_task(made.run())
        up = tmp_path / "log.up"
        while not up.exists() or len(up.read_text().split()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        made.stop()
        await asyncio.wait_for(running, 10)

    asyncio.run(run())
    assert log.read_text().split() == ["gateway-1", "gateway-0", "control"]
    assert events == []


def test_sighup_is_passed_on_to_those_who_read_their_settings_again(
    tmp_path: Path, events: list[Any]
) -> None:
    log, up = tmp_path / "log", tmp_path / "log.up"
    children = [
        Child("control", ["control", str(log), "0"], serves=["gateway-0"], reloads=True),
        Child("gateway-0", ["gateway-0", str(log), "0"]),
    ]

    async def run() -> None:
        made = Supervisor(children, lambda event, **more: events.append((event, more)), 5.0)
        running = asyncio.create_task(made.run())
        while not up.exists() or len(up.read_text().split()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGHUP)
        while not log.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        made.stop()
        await asyncio.wait_for(running, 10)

    asyncio.run(run())
    assert log.read_text().splitlines() == ["control reads again", "gateway-0", "control"]
    assert events == []


def test_a_crashing_child_is_restarted_ever_more_slowly(
    tmp_path: Path, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_MIN_S", 0.05)
    at: list[float] = []

    async def run() -> None:
        def report(event: str, **more: Any) -> None:
            events.append((event, more))
            at.append(time.monotonic())
            if len(events) == 4:
                made.stop()

        made = Supervisor([Child("bad", ["bad", "x", "-1"])], report, 1.0)
        await asyncio.wait_for(made.run(), 20)

    asyncio.run(run())
    assert [more["status"] for _, more in events] == [3] * 4
    assert [more["restart_in_s"] for _, more in events] == [0.1, 0.1, 0.2, 0.4]
    assert at[3] - at[2] >= 0.2


def test_a_child_runs_while_it_is_wanted(
    tmp_path: Path, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started when it is wanted first, stays for a while, and comes again."""
    monkeypatch.setattr(supervisor, "WANTED_LOOK_S", 0.02)
    monkeypatch.setattr(supervisor, "UNWANTED_S", 0.3)
    wanted, log, up = tmp_path / "wanted", tmp_path / "log", tmp_path / "log.up"
    children = [
        Child("gateway", ["gateway", str(log), "0"]),
        Child("semantic", ["semantic", str(log), "0"], wanted=wanted.exists),
    ]

    def said(file: Path) -> list[str]:
        return file.read_text().split() if file.exists() else []

    async def until(true: Any) -> None:
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def run() -> None:
        made = Supervisor(children, lambda event, **more: events.append((event, more)), 5.0)
        running = asyncio.create_task(made.run())
        await until(lambda: said(up) == ["gateway"])
        for times in (1, 2):
            wanted.touch()
            await until(lambda times=times: said(up).count("semantic") == times)
            wanted.unlink()
            await until(lambda times=times: len(events) == times)
        made.stop()
        await asyncio.wait_for(running, 30)

    asyncio.run(run())
    assert said(log) == ["semantic", "semantic", "gateway"]
    assert events == [("child_not_wanted", {"name": "semantic"})] * 2
