"""Every scenario of the simulation runs."""

from __future__ import annotations

import pytest

from tokenschain.simulation import scenarios, traces
from tokenschain.simulation.world import simulate


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_every_scenario_runs(name: str) -> None:
    runs = scenarios.setups(name, traces.synthetic(400, 1), ["balanced"], 120, 1, None, 2)
    seen = simulate(runs["balanced"][0])
    assert len(seen) >= 100
