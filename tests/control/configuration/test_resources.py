"""Resources of the configuration, as the settings give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenschain.control.configuration.resources import Kind, Owned, Problem, of_settings
from tokenschain.infra import config

FILE = """
upstreams:
- {id: one, provider: alibaba}
- {id: two, provider: deepseek}
routing:
  policy: cost-first
  models: {writer: [{model: qwen3-max}]}
cache: {mode: exact}
"""


def test_upstreams_routing_and_cache_are_read_off_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokenschain.yaml"
    file.write_text(FILE, "utf-8")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    found = of_settings(config.load())
    assert [name for _, name in found.upstreams] == ["one", "two"], "in the file's order"
    assert found.virtual_models[Owned("", "writer")][0].model == "qwen3-max"
    assert found.virtual_names == {"writer"}
    assert found.routing.policy == "cost-first" and not found.routing.models
    assert found.cache.mode == "exact"


def test_a_problem_names_the_resource_and_whose_it_is() -> None:
    of_tenant = Problem(Kind.VIRTUAL_MODEL, "acme", "faq", "entries[0].model", "no upstream")
    assert str(of_tenant) == "virtual-model faq of tenant acme: no upstream"
    assert str(Problem(Kind.UPSTREAM, "", "a", "", "set base_url")) == "upstream a: set base_url"
