"""Clients that must simply work, each the real package against the running gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.clouds import Clouds
from tests.vendors.simulators import HELLO, PROMPT_TOKENS, WEATHER

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "clients.md"
PASSED: dict[str, set[str]] = {}
"""What each client did, over which providers; `make matrix` publishes it."""
TALKS = "chat, stream, tools"


def passed(package: str, what: str, provider: str) -> None:
    PASSED.setdefault(f"| {package} | {what}", set()).add(provider)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """LangChain leaves its own clients open; this one is closed."""
    with httpx.Client() as client:
        yield client


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Person(BaseModel):
    age: int


@pytest.mark.parametrize("provider", ["openai", "deepseek", "anthropic", "zhipu"])
def test_langchain_talks_streams_calls_tools_and_structures(
    clouds: Clouds, provider: str, http: httpx.Client
) -> None:
    model = ChatOpenAI(
        model=provider,
        base_url=f"{clouds.stack.url}/v1",
        api_key=SecretStr(clouds.stack.key),
        max_retries=0,
        http_client=http,
        stream_usage=True,
    )
    whole = model.invoke("hi")
    assert whole.content == HELLO
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] == PROMPT_TOKENS
    chunks = list(model.stream("hi"))
    assert "".join(str(chunk.content) for chunk in chunks) == HELLO
    with_tools = model.bind_tools([get_weather])
    asked = with_tools.invoke("weather?")
    assert isinstance(asked, AIMessage) and asked.tool_calls[0]["args"] == {"city": "巴黎"}
    history: list[Any] = [
        HumanMessage("weather?"),
        asked,
        ToolMessage("sunny", tool_call_id=asked.tool_calls[0]["id"]),
    ]
    assert with_tools.invoke(history).content == WEATHER
    structured = model.with_structured_output(Person, method="json_schema")
    assert structured.invoke("How old is Ann?") == Person(age=41)
    passed("langchain-openai", f"{TALKS}, tool results, structured output, usage", provider)


@pytest.mark.parametrize("provider", ["openai", "deepseek", "anthropic", "tencent-hunyuan-native"])
def test_langchains_own_standard_tests(clouds: Clouds, provider: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", HERE / "langchain.ini", HERE / "langchain_suite.py",
         "-k", "not stream_time", "--rootdir", HERE, f"--junit-xml={report}"],
        env=os.environ | {
            "SUITE_MODEL": provider,
            "SUITE_BASE_URL": f"{clouds.stack.url}/v1",
            "SUITE_KEY": clouds.stack.key,
        },
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:]
    counts = ElementTree.parse(report).getroot()[0].attrib
    ran = int(counts["tests"]) - int(counts["skipped"])
    assert ran >= 39
    passed("langchain-tests", f"ChatModelIntegrationTests: {ran} pass", provider)


def test_langchain_embeds(clouds: Clouds, http: httpx.Client) -> None:
    embeddings = OpenAIEmbeddings(
        model="openai-embed",
        base_url=f"{clouds.stack.url}/v1",
        api_key=SecretStr(clouds.stack.key),
        check_embedding_ctx_length=False,
        model_kwargs={"encoding_format": "float"},
        http_client=http,
    )
    assert embeddings.embed_documents(["a", "bb"]) == [[0.25, 1.0], [0.25, 2.0]]
    passed("langchain-openai", "embeddings", "openai")


@pytest.mark.parametrize("provider", ["openai", "vllm"])
def test_the_node_sdk(clouds: Clouds, provider: str) -> None:
    node = shutil.which("node")
    assert node is not None, "`make test` installs Node.js"
    assert (HERE / "node_modules" / "openai").is_dir(), "`make test` installs the package"
    done = subprocess.run(
        [node, HERE / "openai.mjs", f"{clouds.stack.url}/v1", clouds.stack.key, provider],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "whole": HELLO,
        "usage": PROMPT_TOKENS,
        "stream": HELLO,
        "call": {"city": "巴黎"},
        "response": HELLO,
        "stored": HELLO,
        "models": True,
        "embedding": 2,
        "error": ["NotFoundError", 404, "model_not_found"],
    }
    passed("openai (Node)", f"{TALKS}, Responses, models, embeddings, errors", provider)


def run_client(clouds: Clouds, script: str, provider: str) -> Any:
    """What a client's own script says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, HERE / script, f"{clouds.stack.url}/v1", clouds.stack.key, provider],
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm_as_a_client(clouds: Clouds, provider: str) -> None:
    said = {"whole": HELLO, "stream": HELLO, "call": {"city": "巴黎"}, "usage": PROMPT_TOKENS}
    assert run_client(clouds, "with_litellm.py", provider) == said
    passed("litellm", f"{TALKS}, usage", provider)


@pytest.mark.parametrize("provider", ["openai", "deepseek"])
def test_llama_index(clouds: Clouds, provider: str) -> None:
    said = {"whole": HELLO, "stream": HELLO, "call": {"city": "巴黎"}}
    assert run_client(clouds, "with_llama_index.py", provider) == said
    passed("llama-index-llms-openai-like", TALKS, provider)


def test_the_published_list_is_what_was_measured() -> None:
    if len(PASSED) < 6:
        pytest.skip("only a part of the list was measured")
    node = json.loads((HERE / "package-lock.json").read_text())["packages"]["node_modules/openai"]
    rows = []
    for line, providers in PASSED.items():
        name = line.split("|")[1].strip()
        known = node["version"] if name == "openai (Node)" else metadata.version(name)
        row = line.replace(f"| {name} |", f"| {name} {known} |", 1)
        rows.append(f"{row} | {', '.join(sorted(providers))} |")
    text = (
        "<!-- Written by tests/clients/test_clients.py (`make matrix`); do not edit. -->\n\n"
        "# Clients\n\nReal packages against the running gateway, with the base URL and the key "
        "changed and nothing else. The `openai` "
        f"{metadata.version('openai')} and `anthropic` {metadata.version('anthropic')} Python SDKs "
        "do every cell of [the providers' tables](providers.md). Of LangChain's own standard "
        "tests, those for PDF and audio, images from the network and timing are left out.\n\n"
        "| package | does | over |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    if os.environ.get("WRITE_MATRIX"):
        PAGE.write_text(text, "utf-8")
    assert PAGE.read_text("utf-8") == text, "run `make matrix`"
