"""Process supervisor: starts, restarts with back-off, and stops child processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 10.0
STEADY_S = 30.0
"""A child that lived this long counts as healthy: its back-off starts anew."""
STOP_GRACE_S = 5.0
"""On top of the drain limit, before a child that ignores SIGTERM is killed."""
PROBE_INTERVAL_S = 5.0
PROBE_FAILURES_MAX = 6
"""One after the other, before a child is restarted: it is given half a minute, and as much to
start in."""
WANTED_LOOK_S = 0.5
"""How often a child that is not always wanted is asked about."""
UNWANTED_S = 600.0
"""A child that nobody has wanted for so long is ended: it may be switched on again soon."""
_PR_SET_PDEATHSIG = 1


class Child(NamedTuple):
    """One process to keep running."""

    name: str
    arguments: Sequence[str]
    """What follows `python -m tokenschain`."""
    probe: Callable[[], Awaitable[bool]] | None = None
    """Whether it is healthy; a child that fails it for long is restarted."""
    serves: Sequence[str] = ()
    """Children that need this one: it is ended after them."""
    environment: Mapping[str, str] | None = None
    """All that it gets of it; ours by default."""
    reloads: bool = False
    """Whether SIGHUP is passed on to it."""
    wanted: Callable[[], bool] | None = None
    """Whether it is to run; it is started when it is, and ended `UNWANTED_S` after it is not."""


class Supervisor:
    """Keeps children running until told to stop."""

    def __init__(
        self,
        children: Sequence[Child],
        report: Callable[..., None],
        stop_max_s: float,
        started: asyncio.Event | None = None,
    ) -> None:
        """
        Args:
            report: told `(event, **details)` when a child starts, crashes or is killed.
            stop_max_s: how long children may take to end after SIGTERM.
            started: set when all are ready; a child that ends before ends everything. Without it
                every child is started again.
        """
        self._started = started
        self.failed: str | None = None
        """The child whose end ended the start."""
        self._children = children
        self._report = report
        self._stop_max_s = stop_max_s
        self._stopping = asyncio.Event()
        self._ended = {child.name: asyncio.Event() for child in children}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._had_terminal = _has_terminal()

    def stop(self) -> None:
        """Ask everything to end; `run` then returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`, or SIGINT or SIGTERM arrives, or the terminal is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._run_child(child))

    def _hang_up(self) -> None:
        """SIGHUP asks daemons to read their settings again; a terminal that is closed sends it,
        too."""
        if self._had_terminal and not _has_terminal():
            self.stop()
            return
        for child in self._children:
            process = self._running.get(child.name)
            if child.reloads and process is not None and process.returncode is None:
                process.send_signal(signal.SIGHUP)

    async def _run_child(self, child: Child) -> None:
        try:
            await self._keep(child)
        finally:
            self._ended[child.name].set()

    async def _keep(self, child: Child) -> None:
        backoff_s = BACKOFF_MIN_S
        while await self._is_wanted(child):
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tokenschain",
                *child.arguments,
                stdin=subprocess.DEVNULL,
                env=child.environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
            self._running[child.name] = process
            status, unwanted = await self._watch(child, process)
            if self._stopping.is_set():
                return
            if unwanted:
                self._report("child_not_wanted", name=child.name)
                continue
            if self._started is not None and not self._started.is_set():
                self.failed = child.name
                self.stop()
                return
            if time.monotonic() - began > STEADY_S:
                backoff_s = BACKOFF_MIN_S
            self._report(
                "child_ended", name=child.name, status=status, restart_in_s=round(backoff_s, 1)
            )
            await self._wait(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _is_wanted(self, child: Child) -> bool:
        """Wait until a child is wanted; false where everything ends before."""
        while not self._stopping.is_set():
            if child.wanted is None or child.wanted():
                return True
            await self._wait(WANTED_LOOK_S)
        return False

    async def _wait(self, wait_s: float) -> None:
        """Wait for so long, or until everything ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()

    async def _watch(self, child: Child, process: asyncio.subprocess.Process) -> tuple[int, bool]:
        """Wait for the end of a child, of its health, of its use, or of everything.

        Returns:
            How it ended, and whether that is because nobody wants it.
        """
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        probing = asyncio.ensure_future(self._probe(child))
        unwanted = asyncio.ensure_future(self._unwanted(child))
        try:
            await asyncio.wait(
                {ended, stopping, probing, unwanted}, return_when=asyncio.FIRST_COMPLETED
            )
            given_up = unwanted.done() and not ended.done()
            if not ended.done():
                if probing.done():
                    self._report("child_unhealthy", name=child.name)
                    process.kill()
                else:
                    # Those who need it are bounded themselves, so this wait is too.
                    for other in child.serves:
                        await self._ended[other].wait()
                    process.terminate()
                try:
                    async with asyncio.timeout(self._stop_max_s + STOP_GRACE_S):
                        await asyncio.shield(ended)
                except TimeoutError:
                    self._report("child_killed", name=child.name)
                    process.kill()
            return await ended, given_up
        finally:
            stopping.cancel()
            probing.cancel()
            unwanted.cancel()

    async def _unwanted(self, child: Child) -> None:
        """Returns when nobody has wanted the child for long."""
        if child.wanted is None:
            await asyncio.Event().wait()
            return
        since: float | None = None
        while since is None or time.monotonic() - since < UNWANTED_S:
            await asyncio.sleep(WANTED_LOOK_S)
            if child.wanted():
                since = None
            elif since is None:
                since = time.monotonic()

    async def _probe(self, child: Child) -> None:
        """Returns when the child has been unhealthy for too long."""
        failures = 0
        while child.probe is not None and failures < PROBE_FAILURES_MAX:
            await asyncio.sleep(PROBE_INTERVAL_S)
            failures = 0 if await child.probe() else failures + 1
        if child.probe is None:
            await asyncio.Event().wait()


def _has_terminal() -> bool:
    """Whether there is a terminal that controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _die_with_parent() -> None:
    """Linux: be told to end when the supervisor is gone, however it went; SIGHUP does not end
    what has not yet said what it means there."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(0)
