"""All vendors' simulators behind one gateway."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.stack import PRICES, Stack
from tests.vendors.simulators import PROFILES, Simulator
from tokenschain.infra import catalog_file


class Clouds:
    """A stack whose upstreams are the simulators; models are named after providers."""

    def __init__(self, stack: Stack, simulators: dict[str, Simulator]) -> None:
        self.stack = stack
        self.simulators = simulators
        self.limited = frozenset(f"{name}-limited" for name in _limited_models())
        """Models of which the catalog knows how much they give."""
        self.openai = openai.OpenAI(
            base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=20
        )


def _limited_models() -> dict[str, str]:
    """One model of each provider of which the catalog has a price and how much it gives."""
    found: dict[str, str] = {}
    for info in catalog_file.load().models:
        if info.kind == "chat" and info.output_tokens_max and info.price is not None:
            found.setdefault(info.provider, info.model)
    return found


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    simulators = {name: Simulator(name, profile) for name, profile in PROFILES.items()}
    limited = _limited_models()
    upstreams = [
        {
            "id": name,
            "provider": name,
            "base_url": simulator.base_url,
            "credential": f"env:SIM_KEY_{name.upper().replace('-', '_')}",
            "models": {name: "sim-model", f"{name}-embed": "sim-embed"}
            | ({f"{name}-limited": limited[name]} if name in limited else {}),
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
