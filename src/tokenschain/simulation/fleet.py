"""Simulated fleet: own engines that are paid by the hour and scaled by how busy they are."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenschain.simulation.engines import Engine, Machine

LOOKS_S = 15.0
"""As the horizontal pod autoscaler of Kubernetes looks by default."""
TARGET = 0.6
"""Calls in a batch over those that fit."""
STABLE_S = 300.0
"""How long fewer nodes must do before one goes: the autoscaler's default, too."""


class Fleet(NamedTuple):
    """Own engines, all of one kind."""

    node: Machine
    yuan_per_hour: float
    nodes: int
    """That run from the beginning, and at least."""
    nodes_max: int
    starts_s: float = 120.0
    """From the decision to the first call: the node is there, the weights are loaded; an
    assumption."""

    def machine(self, number: int) -> Machine:
        """One node by its number."""
        return self.node._replace(name=f"{self.node.name}-{number}")


class Scaler:
    """Starts and stops nodes as the horizontal pod autoscaler does: as many as bring the fleet to
    its target, at most twice as many at once, fewer only after they did for a while."""

    def __init__(
        self, fleet: Fleet, engines: Sequence[Engine], changed: Callable[[int], None]
    ) -> None:
        self._fleet = fleet
        self._engines = engines
        self._changed = changed
        self.ready = fleet.nodes
        self._asked = fleet.nodes
        self._wants: list[tuple[float, int]] = []
        self.billed: list[tuple[float, int]] = [(0.0, fleet.nodes)]
        """From when on so many nodes are paid."""

    async def run(self) -> None:
        """Look now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOKS_S)
            self._look(asyncio.get_running_loop().time())

    def _look(self, now: float) -> None:
        busy = sum(e.calls / e.machine.curve.calls_max for e in self._engines[: self.ready])
        wanted = max(self._fleet.nodes, min(self._fleet.nodes_max, math.ceil(busy / TARGET)))
        self._wants = [(at, w) for at, w in self._wants if at > now - STABLE_S] + [(now, wanted)]
        if wanted > self._asked:
            self._ask(min(wanted, 2 * self._asked), now)
            asyncio.get_running_loop().call_later(self._fleet.starts_s, self._start, self._asked)
        elif (most := max(w for _, w in self._wants)) < self._asked and self.ready == self._asked:
            self._ask(most, now)
            self._start(most)

    def _ask(self, nodes: int, now: float) -> None:
        self._asked = nodes
        self.billed.append((now, nodes))

    def _start(self, nodes: int) -> None:
        self.ready = min(nodes, self._asked)
        self._changed(self.ready)

    def yuan(self, begins_s: float, ends_s: float) -> float:
        """What the nodes cost between two times."""
        times = [*self.billed, (math.inf, 0)]
        node_s = sum(
            nodes * max(0.0, min(ends_s, end) - max(begins_s, start))
            for (start, nodes), (end, _) in itertools.pairwise(times)
        )
        return node_s / 3600 * self._fleet.yuan_per_hour
