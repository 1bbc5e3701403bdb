"""What the first start tells: a model that can be called at once, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenschain.control.configuration.changes import Change, Configurator
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.core.log_events import silent
from tokenschain.infra import catalog_file, config
from tokenschain.infra.database import engine as db
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wiring import machine
from tokenschain.wiring.machine import OPERATOR

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


MADE = {"provider": "custom", "base_url": "https://models.example/v1", "zone": "cn",
        "models": ["of-the-api"], "prices": {"of-the-api": {"input": 1, "output": 1}}}  # fmt: skip


@pytest.fixture
def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], config.Settings]:
    """Settings of a file, over one folder."""
    file = tmp_path / "tokenschain.yaml"
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))

    def write(values: dict[str, Any]) -> config.Settings:
        file.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), **OFF, **values}))
        return config.load()

    return write


def make(settings: config.Settings, values: dict[str, Any]) -> None:
    """Add an upstream `made`, as the API does."""
    engine = db.connect(settings.database_url)
    made = Configurator(
        settings, catalog_file.load(), secrets.master_sealer(
            SecretFile(settings.master_key_path), INTERNATIONAL), INTERNATIONAL, silent,
    )  # fmt: skip
    with engine.begin() as connection:
        made.change(connection, OPERATOR, [Change(ResourceKey(Kind.UPSTREAM, "", "made"), values)])
    engine.dispose()


def test_a_file_is_checked_beside_what_the_api_made(
    written: Callable[[dict[str, Any]], config.Settings],
) -> None:
    settings = written({})
    assert machine.check(settings), "an empty platform is known whole"
    machine.prepare(settings)
    make(settings, MADE)
    assert machine.chat_model(settings) == "of-the-api"
    of_both = {"routing": {"models": {"guide": [{"model": "of-the-api", "upstream": "made"}]}}}
    assert machine.check(written(of_both))
    wrong = {"routing": {"models": {"guide": [{"model": "of-the-apo"}], "tour": [
        {"model": "of-the-api", "upstream": "mode"}]}}}  # fmt: skip
    with pytest.raises(config.SettingsError) as refused:
        machine.check(written(wrong))
    first, second = str(refused.value).splitlines()
    assert "`of-the-apo`; did you mean `of-the-api`?" in first
    assert "no upstream `mode`; did you mean `made`?" in second


def test_without_its_database_a_file_is_checked_by_itself(
    written: Callable[[dict[str, Any]], config.Settings],
) -> None:
    """What the API may have made is in doubt; what it cannot mend is refused."""
    away = {"database": {"url": "postgresql://u:p@127.0.0.1:1/x"}}
    routing = {"routing": {"models": {"guide": [{"model": "of-the-api"}]}}}
    assert not machine.check(written(away | routing))
    upstreams = {"upstreams": [{"id": "a", "provider": "aliyun"}]}
    with pytest.raises(config.SettingsError, match="did you mean alibaba"):
        machine.check(written(away | routing | upstreams))
