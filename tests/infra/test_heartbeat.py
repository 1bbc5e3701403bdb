"""Liveness by heartbeat."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import WAIT_MAX_S
from tokenschain.infra import heartbeat, supervisor
from tokenschain.infra.heartbeat import HeartbeatProbe, beat, heartbeat_path
from tokenschain.infra.supervisor import Child, Supervisor

BEATS = """
import asyncio, pathlib, sys
from tokenschain.infra import heartbeat
heartbeat.BEAT_S = 0.02
asyncio.run(heartbeat.beat(pathlib.Path(sys.argv[1])))
"""


def test_a_loop_that_turns_lives_and_one_that_is_stopped_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    path = heartbeat_path(tmp_path, 3)

    async def run() -> None:
        probe = HeartbeatProbe(path)
        assert not await probe()
        beating = asyncio.create_task(beat(path))
        for _ in range(3):
            async with asyncio.timeout(WAIT_MAX_S):
                while not await probe():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        beating.cancel()
        await asyncio.sleep(0.05)
        await probe()
        assert not await probe()

    asyncio.run(run())


def test_a_stopped_process_is_killed_and_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PROBE_INTERVAL_S", 0.3)
    real, started, told = asyncio.create_subprocess_exec, list[Any](), list[str]()

    async def start(_python: str, _m: str, _module: str, *arguments: str, **more: Any) -> Any:
        started.append(await real(sys.executable, "-c", BEATS, *arguments, **more))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    path = tmp_path / "beat"

    async def run() -> None:
        child = Child("gateway-0", [str(path)], HeartbeatProbe(path))
        made = Supervisor([child], lambda event, **_: told.append(event), 1.0)
        running = asyncio.create_task(made.run())
        async with asyncio.timeout(6 * WAIT_MAX_S):
            while not path.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            os.kill(started[0].pid, signal.SIGSTOP)
            while len(started) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        made.stop()
        await running

    asyncio.run(run())
    assert told[0] == "child_unhealthy" and started[0].returncode == -signal.SIGKILL


FEW = """
import os, sys, pathlib, resource
from tokenschain.infra.journal import Journal, JournalFull, JournalLimits
from tokenschain.infra.telemetry import resident_bytes
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
journal = Journal(pathlib.Path(sys.argv[1]), JournalLimits(segment_bytes=65_536))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
journal.make_room()
try:
    for _ in range(100):
        journal.check_room()
        journal.append(b"x" * 8_000)
except JournalFull:
    print("full")
resident_bytes()
os.close(taken.pop()); os.close(taken.pop())
journal.make_room()
journal.check_room()
print("room again")
"""


def test_a_process_without_descriptors_goes_on_when_it_has_some_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path / "journal")], capture_output=True, text=True
    )
    assert done.stdout.split("\n") == ["full", "room again", ""], done.stderr
