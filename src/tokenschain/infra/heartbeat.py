"""Liveness by heartbeat: a process's event loop touches a file, its supervisor looks at it.

The workers of a gateway share one port, so that a request would ask any of them. Touching takes
no descriptor and no room on the disk: a process that has run out of either lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

BEAT_S = 1.0


def heartbeat_path(data_dir: Path, worker: int) -> Path:
    """What a gateway worker touches while it lives."""
    return data_dir / "gateway" / "heartbeat" / str(worker)


async def beat(path: Path) -> None:
    """Touch the file for as long as the loop turns; runs until cancelled."""
    while True:
        _touch(path)
        await asyncio.sleep(BEAT_S)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        try:
            os.utime(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)


class HeartbeatProbe:
    """Whether the file was touched since it was last looked at; see `infra.supervisor.Child`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._touched()

    async def __call__(self) -> bool:
        """See `infra.supervisor.Child.probe`."""
        before, self._seen = self._seen, self._touched()
        return self._seen != before

    def _touched(self) -> int:
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return 0
