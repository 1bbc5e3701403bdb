"""A gateway worker that has no use for an upstream of a certain name: what it refuses is refused
for no other reason, by the same code, as any configuration that its parts cannot be built by.

Run as `python -m tests.security.picky_gateway`: a gateway's worker 0.
"""

from __future__ import annotations

import subprocess
import sys

from tests.stack import Stack
from tokenschain.core.snapshot import Snapshot
from tokenschain.infra import config
from tokenschain.wiring import gateway

UNUSABLE = "unusable"
WHY = "it is of no use here"


class PickyWorker(gateway.GatewayWorker):
    """A worker that looks at names."""

    def _check_configuration(self, snapshot: Snapshot) -> None:
        super()._check_configuration(snapshot)
        if UNUSABLE in snapshot.upstreams:
            raise ValueError(WHY)


class PickyStack(Stack):
    """Control and such a gateway."""

    def spawn(self, name: str) -> None:
        if name != "gateway":
            super().spawn(name)
            return
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", PickyWorker.__module__],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )


def main() -> None:
    gateway.GatewayWorker = PickyWorker  # type: ignore[misc]
    gateway.run(config.load(), 0)


if __name__ == "__main__":
    main()
