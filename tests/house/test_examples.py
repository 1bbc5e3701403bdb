"""The examples of the documents run: YAML is loaded as settings, Python and bash run on a stack.

A block that cannot run says why in a comment right before it: `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.house.tree import ROOT, pages
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.control.configuration import model_routes
from tokenschain.control.observability import alerts
from tokenschain.infra import catalog_file, config

MODELS = ("smollm2-135m-instruct", "qwen3-max")
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+? -->\s*)?^(?P<indent> *)```(?P<kind>yaml|python|bash)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_PRELUDE = f"""
curl() {{ command curl -sS --fail-with-body "$@"; }}
tokenschain() {{ {sys.executable} -m tokenschain "$@"; }}
"""


class Block(NamedTuple):
    """A block of a page that is run."""

    page: str
    kind: str
    text: str


def blocks(kind: str) -> list[Block]:
    """All blocks of a kind, in the pages' order."""
    return [
        Block(str(page.relative_to(ROOT)), kind, textwrap.dedent(found["text"]))
        for page in pages()
        for found in _BLOCK.finditer(page.read_text("utf-8"))
        if found["kind"] == kind and found["skip"] is None
    ]


def names(found: list[Block]) -> list[str]:
    return [f"{block.page}-{number}" for number, block in enumerate(found)]


YAML, PYTHON, BASH = blocks("yaml"), blocks("python"), blocks("bash")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that serves the models of the examples."""
    simulator = UpstreamSimulator()
    served = {"models": [*MODELS], "prices": dict.fromkeys(MODELS, PRICES), "kinds": {}}
    made = Stack(
        tmp_path_factory.mktemp("examples"), simulator.base_url, limits=served,
        cache={"mode": "exact"},
    ).start()  # fmt: skip
    yield made
    made.close()
    simulator.close()


def test_there_are_examples() -> None:
    assert len(YAML) >= 10 and len(PYTHON) >= 4 and len(BASH) >= 10


@pytest.mark.parametrize("block", YAML, ids=names(YAML))
def test_yaml_is_what_control_starts_with(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in os.environ:
        if variable.startswith("TOKENSCHAIN_"):
            monkeypatch.delenv(variable)
    file = tmp_path / "tokenschain.yaml"
    file.write_text(block.text, "utf-8")
    monkeypatch.setenv("TOKENSCHAIN_CONFIG", str(file))
    settings = config.load()
    routes = model_routes.of_settings(settings, catalog_file.load())
    assert not routes.problems


@pytest.mark.parametrize("block", PYTHON, ids=names(PYTHON))
def test_python_runs(block: Block, platform: Stack) -> None:
    script = _on(platform, block.text).replace("tc-…", platform.key)
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "print(" not in script


@pytest.mark.parametrize("page", sorted({block.page for block in BASH}))
def test_bash_runs(page: str, platform: Stack, tmp_path: Path) -> None:
    script = "\n".join(block.text for block in BASH if block.page == page)
    script = _on(platform, script).replace("/tmp/", f"{tmp_path}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _PRELUDE + script],
        env=platform.environment
        | {"TC_API_KEY": platform.key, "TOKENSCHAIN_ADMIN_TOKEN": platform.admin_token},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_webhook_example_accepts_our_signature_and_no_other() -> None:
    text = next(block.text for block in PYTHON if "is_genuine" in block.text)
    found: dict[str, object] = {}
    exec(text, found)  # the page's own text
    is_genuine = found["is_genuine"]
    assert callable(is_genuine)
    header = alerts.webhook_signature("secret", int(time.time()), b"{}")
    assert is_genuine(header, b"{}", "secret")
    assert not is_genuine(header, b"{ }", "secret")
    assert not is_genuine(alerts.webhook_signature("secret", 1, b"{}"), b"{}", "secret")


def _on(stack: Stack, text: str) -> str:
    """The example's addresses as the stack's."""
    control = f"http://127.0.0.1:{stack.control_port}"
    return text.replace("http://127.0.0.1:8000", stack.url).replace(
        "http://127.0.0.1:8001", control
    )
