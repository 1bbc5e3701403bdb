"""Files with the status of each gateway worker of this machine, for `tokenschain doctor`.

The workers of a gateway share one port, so that a request would ask any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tokenschain.core.gateway_status import GatewayStatus

WRITE_S = 1.0
BYTES_MAX = 4_194_304


def status_path(data_dir: Path, worker: int) -> Path:
    """Where a gateway worker leaves its status."""
    return data_dir / "gateway" / "status" / f"{worker}.json"


async def keep_status(path: Path, status: Callable[[], GatewayStatus]) -> None:
    """Leave the status every second; runs until cancelled."""
    partial = path.with_suffix(".part")
    while True:
        with contextlib.suppress(OSError):  # no room or no descriptor: it is as old as it is
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_bytes(msgspec.json.encode(status()))
            os.replace(partial, path)
        await asyncio.sleep(WRITE_S)


def read_statuses(data_dir: Path) -> Iterator[GatewayStatus]:
    """What the workers of this machine said last; what cannot be read is left out."""
    for path in sorted(status_path(data_dir, 0).parent.glob("*.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError), path.open("rb") as file:
            yield msgspec.json.decode(file.read(BYTES_MAX), type=GatewayStatus)
