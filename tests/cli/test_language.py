"""Language: everything that commands say is said in Chinese, too."""

from __future__ import annotations

import ast
import pkgutil
import string
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from tests.house.tree import SOURCE
from tokenschain import cli
from tokenschain.cli import cache, language, tables
from tokenschain.cli.command_table import COMMANDS, all_commands
from tokenschain.cli.operations import operations
from tokenschain.core import upstream_report


def helps(command: Any) -> Iterator[str]:
    if command.help:
        yield from language.paragraphs(command.help)
    for parameter in command.params:
        if getattr(parameter, "help", None) and not getattr(parameter, "hidden", False):
            yield parameter.help
    for inner in getattr(command, "commands", {}).values():
        yield from helps(inner)


def said() -> Iterator[str]:
    """Constants that are handed to `told` in the source of the commands."""
    for path in sorted((SOURCE / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id == "told":
                assert isinstance(node, ast.Call)
                if isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value)


def headings() -> Iterator[str]:
    """Of all columns that may be shown."""
    for command in all_commands(operations().values()):
        operation = operations().get(command.operation)
        names = (*command.columns.split(), *(operation.columns if operation else ()))
        yield from (english_heading(name) for name in names)
    for info in pkgutil.walk_packages(cli.__path__, "tokenschain.cli."):
        module = sys.modules.get(info.name)
        for name in [name for name in vars(module or cli) if name.endswith("_COLUMNS")]:
            yield from (english_heading(column) for column in vars(module)[name])


def english_heading(name: str) -> str:
    assert language.language() == "en"
    return tables.heading(name)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(language.LANGUAGE_VARIABLE, "en")


def english() -> set[str]:
    states = {"active", "expired", "revoked", "disabled", "closed"}
    words = set(cache._WARMED.values()) | states | set(upstream_report.TEXTS)
    words |= {one.nothing for one in COMMANDS if one.nothing}
    return {*helps(typer.main.get_command(cli.app)), *said(), *headings(), *words}


def test_everything_is_said_in_chinese() -> None:
    texts = english()
    assert len(texts) > 300
    assert not sorted(texts - set(language.chinese())), (
        "add them to src/tokenschain/data/cli.zh.toml"
    )


def test_the_catalogue_has_nothing_that_is_no_longer_said() -> None:
    assert not sorted(set(language.chinese()) - english())


def test_both_languages_name_the_same_values() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    told_with_values = set(said())
    for text, chinese in language.chinese().items():
        assert chinese.strip(), text
        if text in told_with_values:
            assert fields(text) == fields(chinese), text


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN"}, "zh"),
        ({"LC_ALL": "C", "TOKENSCHAIN_LANG": "zh"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "TOKENSCHAIN_LANG": "en"}, "en"),
    ],
)
def test_the_first_variable_that_is_set_decides(
    variables: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKENSCHAIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.language() == wanted
