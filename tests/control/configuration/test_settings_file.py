"""The settings file as resources: followed while control runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.control.configuration.conftest import Platform
from tokenschain.control.configuration.resources import Kind, Origin, ResourceKey
from tokenschain.control.configuration.settings_file import SettingsFile
from tokenschain.infra import config
from tokenschain.infra.security.suite import INTERNATIONAL

ONE = "upstreams: [{id: one, provider: deepseek}]\n"
TWO = "upstreams: [{id: one, provider: deepseek}, {id: two, provider: alibaba}]\n"
PATIENCE_S = 30.0


class Followed:
    """A settings file, and what was said of it."""

    def __init__(self, platform: Platform, path: Path) -> None:
        self.path = path
        self.said: list[tuple[str, str]] = []
        self.alerts: list[object] = []
        self.platform = platform
        self.write(ONE)
        self.file = SettingsFile(
            platform.engine, platform.configurator, INTERNATIONAL, config.load, path,
            self.report, self.alerts.append,
        )  # fmt: skip

    def report(self, event: str, /, why: str = "", **fields: object) -> None:
        self.said.append((event, why))

    def write(self, text: str) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(text, "utf-8")
        os.replace(aside, self.path)

    def names(self) -> set[str]:
        return {key.name for key in self.platform.state.resources if key.kind is Kind.UPSTREAM}

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 - of a database
                await asyncio.sleep(0.05)


@pytest.fixture
def followed(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    path = tmp_path / "tokenschain.yaml"
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(path))
    return Followed(platform, path)


def test_a_start_makes_one_revision_and_the_next_one_none(followed: Followed) -> None:
    first, again = followed.file.apply(config.load()), followed.file.apply(config.load())
    assert first is not None and first.revision
    assert again is not None and not again.revision
    found = followed.platform.state.resources[ResourceKey(Kind.UPSTREAM, "", "one")]
    assert found.managed_by is Origin.FILE
    followed.write("{}\n")
    gone = followed.file.apply(config.load())
    assert gone is not None and gone.revision and not followed.names()


def test_a_rule_for_a_tenant_that_is_not_there_is_said(followed: Followed) -> None:
    followed.write(
        "routing: {residency: {tenant/acne: [cn]}, policy_overrides: {tenant/acne: cost-first}}\n"
        "cache: {mode_overrides: {tenant/acne: exact}}\n"
    )
    followed.file.apply(config.load())
    said = [detail for name, detail in followed.said if name == "settings_file_warning"]
    assert len(said) == 3
    assert all("there is no tenant `acne`; did you mean `acme`?" in line for line in said)


def test_a_changed_file_is_in_force_and_a_wrong_one_is_not(followed: Followed) -> None:
    asyncio.run(_follow(followed))


async def _follow(followed: Followed) -> None:
    followed.file.apply(config.load())
    running = asyncio.ensure_future(followed.file.run())
    try:
        followed.write(TWO)
        await followed.until(lambda: followed.names() == {"one", "two"})
        for count, wrong in enumerate(("upstreams: [\n", TWO.replace("alibaba", "aliyun"))):
            followed.write(wrong)
            await followed.until(lambda seen=count: len(followed.alerts) > seen)  # type: ignore[misc]
            assert followed.said[-1][0] == "settings_file_refused"
            assert "\n" not in followed.said[-1][1]
            assert followed.names() == {"one", "two"}
        followed.write(ONE)
        followed.file.hang_up()
        await followed.until(lambda: followed.names() == {"one"})
    finally:
        running.cancel()
