"""What the first start tells: a model that can be called at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenschain.infra import config
from tokenschain.wiring import machine

OFF = {"engine": {"enabled": False}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "smollm2-135m-instruct"),
        (OFF, None),
        (OFF | {"upstreams": [{"id": "bailian", "provider": "alibaba", "models": ["qwen-plus"]}]},
         "qwen-plus"),
        (OFF | {"upstreams": [{"id": "a", "provider": "alibaba", "models": ["qwen-plus"]}],
                "routing": {"models": {"helper": [{"model": "qwen-plus"}]}}}, "helper"),
        (OFF | {"upstreams": [{"id": "a", "provider": "alibaba", "models": [
            "text-embedding-v4", "qwen3-max"]}]}, "qwen3-max"),
        ({"engine": {"url": "http://gpu-box:8000/v1"}}, None),
    ],
)  # fmt: skip
def test_the_greeting_names_a_model_that_is_served(
    values: dict[str, Any], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the embedded one where the engine is off."""
    file = tmp_path / "tokenschain.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(tmp_path), **values}))
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    assert machine.chat_model(config.load()) == expected
