"""The configuration as one value, as settings and resources give it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenschain.control.configuration.configuration import of_settings
from tokenschain.control.configuration.resources import Owned
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
