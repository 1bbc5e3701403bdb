"""All vendors' simulators behind one gateway."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.stack import PRICES, Stack
from tests.vendors.simulators import PROFILES, Simulator


class Clouds:
    """A stack whose upstreams are the simulators; models are named after providers."""

    def __init__(self, stack: Stack, simulators: dict[str, Simulator]) -> None:
        self.stack = stack
        self.simulators = simulators
        self.openai = openai.OpenAI(
            base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=20
        )


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    simulators = {name: Simulator(name, profile) for name, profile in PROFILES.items()}
    upstreams = [
        {
            "id": name,
            "provider": name,
            "base_url": simulator.base_url,
            "credential": f"env:SIM_KEY_{name.upper().replace('-', '_')}",
            "models": {name: "sim-model", f"{name}-embed": "sim-embed"},
            "kinds": {"sim-embed": "embedding"},
            "prices": {"sim-model": PRICES, "sim-embed": PRICES},
        }
        for name, simulator in simulators.items()
    ]
    stack = Stack(tmp_path_factory.mktemp("clouds"), "http://unused", upstreams=upstreams)
    for entry in upstreams:
        variable = entry["credential"].removeprefix("env:")
        stack.environment[variable] = simulators[entry["id"]].credential
    stack.start()
    made = Clouds(stack, simulators)
    yield made
    made.openai.close()
    stack.close()
    for simulator in simulators.values():
        simulator.close()
