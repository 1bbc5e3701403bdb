"""Clients that must simply work, each the real package against the running gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.clouds import Clouds
from tests.vendors.simulators import HELLO, PROMPT_TOKENS, WEATHER

HERE = Path(__file__).parent


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


@pytest.mark.parametrize("provider", ["openai", "deepseek"])
def test_llama_index(clouds: Clouds, provider: str) -> None:
    said = {"whole": HELLO, "stream": HELLO, "call": {"city": "巴黎"}}
    assert run_client(clouds, "with_llama_index.py", provider) == said
