"""Tests that are killed leave none of their processes running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.waiting import until

SCRIPT = """
import pathlib, sys, time
from tests.stack import Stack
stack = Stack(pathlib.Path(sys.argv[1]), "http://unused", upstreams=[])
stack.spawn("control")
stack.spawn("gateway")
print(*(process.pid for process in stack.processes.values()), flush=True)
time.sleep(600)
"""


def test_a_killed_test_run_ends_its_stack(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "stack")],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.stdout is not None
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) == 2
    until(lambda: not any(_comm(pid) == "setpriv" for pid in pids))  # it asks for the signal first
    run.kill()
    run.wait()
    run.stdout.close()
    until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _comm(pid: int) -> str:
    """The name of the program that a process is now."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
