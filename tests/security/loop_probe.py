"""A gateway worker whose event loop is watched from outside: how long it stood still at most.

Run as `python -m tests.security.loop_probe FILE`: a gateway's worker 0, which writes into the file.
A pause counts by the time that the process was computing meanwhile, whatever thread it was: a
machine that does something else makes it no longer.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.infra import config
from tokenschain.wiring import gateway

PAUSE_MAX_S = 0.05
"""For which the loop may stand still, on a machine that has nothing else to do."""
SLOWNESS = 3
"""By how much a loaded or small machine may be slower at what it computes."""
PAUSE_LIMIT_S = PAUSE_MAX_S * SLOWNESS
TRIES = 3
"""Of which the best counts: what else the machine does makes one pause longer, our code each."""
LOOK_S = 0.002
_LONGEST = struct.Struct("d")


class LoopProbe:
    """The longest pause so far, in a file that two processes look at."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_LONGEST.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _LONGEST.size)

    @property
    def longest_s(self) -> float:
        found: float = _LONGEST.unpack(self._memory)[0]
        return found

    def note(self, pause_s: float) -> None:
        if pause_s > self.longest_s:
            self._memory[:] = _LONGEST.pack(pause_s)

    def reset(self) -> None:
        self._memory[:] = _LONGEST.pack(0.0)

    async def watch(self) -> None:
        """Note how late the loop is; runs until cancelled."""
        while True:
            began, computed = time.perf_counter(), time.process_time()
            await asyncio.sleep(LOOK_S)
            late = time.perf_counter() - began - LOOK_S
            self.note(min(late, time.process_time() - computed))


class WatchedWorker(gateway.GatewayWorker):
    """A worker with the probe among what goes on beside the calls."""

    probe: ClassVar[LoopProbe]

    def _background(self) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
        yield self.probe.watch
        yield from super()._background()


class WatchedStack(Stack):
    """Control and a gateway that is watched."""

    def __init__(self, folder: Path, upstream: UpstreamSimulator, **settings: Any) -> None:
        super().__init__(folder, upstream.base_url, **settings)
        self._probe_path = folder / "pauses"
        self.probe = LoopProbe(self._probe_path)

    def spawn(self, name: str) -> None:
        if name != "gateway":
            super().spawn(name)
            return
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", LoopProbe.__module__, str(self._probe_path)],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )


class LyingUpstream(UpstreamSimulator):
    """Answers byte by byte what a request names in `x_sim.raw`; else as the simulator does."""

    def __init__(self, raw: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.raw = raw
        super().__init__()
        self.remembers = False

    def _answer(self, connection: socket.socket, head: str, request: dict[str, Any]) -> bool:
        raw = self.raw.get((request.get("x_sim") or {}).get("raw", ""))
        if raw is None:
            return super()._answer(connection, head, request)
        connection.sendall(raw)
        return False


def main() -> None:
    WatchedWorker.probe = LoopProbe(Path(sys.argv[1]))
    gateway.GatewayWorker = WatchedWorker  # type: ignore[misc]
    gateway.run(config.load(), 0)


if __name__ == "__main__":
    main()
