"""Engines and reviews as the settings name them: wrong settings, right ones against a simulator."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.providers.moderation.engines import clock, context
from tests.vendors.moderation_clouds import CREDENTIAL, GRAVE, PROJECT, SECRET, moderation_clouds
from tokenschain.core.moderation.verdict import Direction, EngineFailed, EngineVerdict, Level
from tokenschain.infra.config import SettingsError, load
from tokenschain.infra.config.groups import Settings
from tokenschain.providers.moderation.engine_table import ModerationEngines
from tokenschain.providers.moderation.verdict_cache import VerdictCache
from tokenschain.wire.client import HttpClient

ENGINE = {"vendor": "alibaba-green", "credential": "env:GREEN"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(moderation: dict[str, Any]) -> Settings:
    Path("tokenschain.yaml").write_text(yaml.safe_dump({"moderation": moderation}))
    return load()


@pytest.mark.parametrize(
    ("moderation", "said"),
    [
        ({"engines": {"a": {**ENGINE, "credential": CREDENTIAL}}}, "moderation.engines.a.credential"),
        ({"engines": {"a": {"vendor": "alibaba-green"}}}, "credential"),
        ({"engines": {"a": {**ENGINE, "vendor": "green"}}}, "alibaba-green"),
        ({"engines": {"a": {**ENGINE, "vendor": "huawei-moderation"}}}, "needs the id of its project"),
        ({"engines": {"a": {**ENGINE, "price_cny": -1}}}, "price_cny must be from 0"),
        ({"engines": {"a": {**ENGINE, "region": "cn shanghai"}}}, "moderation.engines.a.region"),
        ({"reviews": {"r": {"engines": ["a"]}}}, "there is no engine `a`"),
        ({"engines": {"a": ENGINE}, "reviews": {"a": {"engines": ["a"]}}}, "an engine and a review"),
        ({"engines": {"a": ENGINE}, "reviews": {"r": {"engines": ["a", "a"], "verdicts": 2}}},
         "different engines"),
        ({"engines": {"a": ENGINE, "b": ENGINE},
          "reviews": {"r": {"engines": ["a", "b"], "arbitration": "third"}}}, "three engines"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_its_place(moderation: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(moderation)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_policies_ask_engines_and_reviews_by_name() -> None:
    told: list[tuple[str, dict[str, object]]] = []
    secrets: dict[str, str | None] = {"env:GREEN": None, "env:TIANYU": CREDENTIAL,
                                      "env:HUAWEI": CREDENTIAL, "env:BAIDU": CREDENTIAL}  # fmt: skip

    async def ask(engines: ModerationEngines, name: str) -> EngineVerdict:
        return await engines[name].screen((GRAVE,), Direction.INPUT, context())

    async def run(url: str) -> None:
        settings = loaded({
            "engines": {
                "green": {**ENGINE, "base_url": url, "price_cny": "7.5"},
                "tianyu": {"vendor": "tencent-tianyu", "credential": "env:TIANYU", "base_url": url,
                           "image_base_url": url, "price_cny": 25},
                "huawei": {"vendor": "huawei-moderation", "credential": "env:HUAWEI",
                           "base_url": url, "project": PROJECT, "strategy": "llm"},
                "baidu": {"vendor": "baidu-censor", "credential": "env:BAIDU", "base_url": url},
            },
            "reviews": {
                "one": {"engines": ["green", "tianyu"]},
                "both": {"engines": ["green", "tianyu"], "verdicts": 2, "arbitration": "agree"},
            },
        })  # fmt: skip
        client = HttpClient()
        engines = ModerationEngines(
            settings.moderation,
            client,
            secrets.get,
            VerdictCache(lambda data: hashlib.sha256(data).digest(), str.lower),
            clock(),
            lambda event, /, why="", **fields: told.append((event, {"why": why, **fields})),
        )
        try:
            assert set(engines) == {"green", "tianyu", "huawei", "baidu", "one", "both"}
            # Without its key, the first fails and the next stands in for it.
            assert (await ask(engines, "one")).engine == "tianyu"
            with pytest.raises(EngineFailed) as caught:
                await ask(engines, "both")
            assert caught.value.closed
            assert told[-1][0] == "moderation_no_verdict"
            assert told[-1][1] == {"why": "refused closed", "engine": "green",
                                   "call": "call-1", "tenant": "bank"}  # fmt: skip
            assert engines.secrets() >= {SECRET}
            secrets["env:GREEN"] = CREDENTIAL
            engines.refresh()
            found = await ask(engines, "both")
            assert found.level is Level.HIGH
            # Tianyu's verdict on the same text is at hand.
            assert [one.cost_pico for one in found.costs] == [750_000_000]
            for name in ("huawei", "baidu"):
                assert (await ask(engines, name)).level is Level.HIGH
        finally:
            client.close()

    with moderation_clouds() as clouds:
        asyncio.run(run(clouds.url))
    assert SECRET not in repr(told) and GRAVE not in repr(told)
