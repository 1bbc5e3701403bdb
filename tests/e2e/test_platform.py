"""The whole platform with its real engine, used through the official SDK."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import web
from tests.stack import free_port
from tests.waiting import until

MODEL = "smollm2-135m-instruct"
CACHE = Path(os.environ.get("TEST_MODEL_CACHE", Path.home() / ".cache" / "tokenschain"))
TOOL_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
# A prompt that is partly in the engine's cache is computed in other batches, and floats differ.
SAME_EACH_TIME = {"cache_prompt": False}
ASK = [{"role": "user", "content": "Name three colours."}]


class Platform:
    """`tokenschain up` as a person runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(4)]
        names = (
            "SERVER__PORT", "CONTROL__PORT", "ENGINE__PORT", "ENGINE__EMBEDDER_PORT",
        )  # fmt: skip
        self.environment = {k: v for k, v in os.environ.items() if "TOKENSCHAIN" not in k} | {
            "TOKENSCHAIN_DATA_DIR": str(folder),
            "TOKENSCHAIN_JOURNAL__SHIP_INTERVAL_S": "0.05",
            **{f"TOKENSCHAIN_{n}": str(p) for n, p in zip(names, self.ports, strict=True)},
        }
        models = folder / "models"
        models.mkdir(parents=True, exist_ok=True)
        source = CACHE / "models" / f"{MODEL}.gguf"
        assert source.is_file(), "`make test` fetches the model first"
        if not (models / source.name).exists():
            shutil.copyfile(source, models / source.name)
        if (CACHE / "browser").is_dir():
            shutil.copytree(CACHE / "browser", folder / "browser", dirs_exist_ok=True)
            for file in (folder / "browser").iterdir():
                file.chmod(0o600)
        self.output = ""

    def start(self) -> float:
        """Returns how long it took until it greeted."""
        began = time.monotonic()
        (self.folder / "log").touch(mode=0o600)  # `doctor` looks at all that others may read
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tokenschain", "up"],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        while "Ctrl-C" not in self.output:
            line = self.process.stdout.readline()
            assert line, (self.folder / "log").read_text()
            self.output += line
        kept = re.search(r"^Credentials +(\S+first-credentials)", self.output, re.MULTILINE)
        if kept is not None:
            # Standard output is no terminal here: nothing secret is in it.
            assert not re.search(r"tc[a]?-[\w-]{20}", self.output)
            path = Path(kept[1])
            assert path.stat().st_mode & 0o777 == 0o600
            text = path.read_text()
            key = re.search(r"tc-[\w-]{43}", text)
            assert key is not None and "tca-" in text
            self.output = self.output.replace("YOUR_KEY", key[0]) + text
            path.unlink()
        return time.monotonic() - began

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=45) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tokenschain", *arguments],
            env=self.environment | more,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def pids(self, what: str) -> list[int]:
        found = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        return [int(line.split()[0]) for line in found if f"tokenschain {what}" in line]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("platform"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    found = re.search(r"(tc-[\w-]{43})", platform.output)
    assert found is not None
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{platform.ports[0]}/v1", api_key=found.group(1), max_retries=0
    ) as made:
        yield made


def answers(client: openai.OpenAI, refusal: type[openai.APIStatusError]) -> bool:
    """Whether a call is answered, not refused."""
    try:
        client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=3)
    except refusal:
        return False
    return True


def test_the_printed_lines_work_as_they_are(platform: Platform) -> None:
    curl = next(line for line in platform.output.splitlines() if line.startswith("curl"))
    answer = subprocess.run(
        ["bash", "-c", curl + " -s"], capture_output=True, text=True, timeout=240
    )
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]
    start = platform.output.index("from openai import")
    script = platform.output[start : platform.output.index("\n\nCtrl-C")]
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0 and found.stdout.strip(), found.stderr


def test_sdk_streaming_equals_the_whole_answer(client: openai.OpenAI) -> None:
    fixed = {
        "model": MODEL,
        "messages": ASK,
        "seed": 1,
        "temperature": 0,
        "max_tokens": 24,
        "extra_body": SAME_EACH_TIME,
    }
    whole = client.chat.completions.create(**fixed)
    text, usage = "", None
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(**fixed, stream=True, stream_options=options):
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == whole.choices[0].message.content and text
    assert usage is not None and whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens <= 24


def test_sdk_tools_and_json_schema(client: openai.OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    fixed = {
        "model": MODEL,
        # A model this small calls nothing by its own judgement, but it can repeat.
        "messages": [{"role": "user", "content": f"Repeat exactly: {TOOL_CALL}"}],
        "tools": [tool],
        "max_tokens": 100,
        "temperature": 0,
        "extra_body": SAME_EACH_TIME,
    }
    called = client.chat.completions.create(**fixed).choices[0].message.tool_calls
    assert called and called[0].function.name == "get_weather"
    assert set(json.loads(called[0].function.arguments)) == {"city"}
    streamed = ""
    for chunk in client.chat.completions.create(**fixed, stream=True):
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                streamed += (call.function and call.function.arguments) or ""
    assert json.loads(streamed) == json.loads(called[0].function.arguments)
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["age"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How old is Ann?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        max_tokens=60,
    )
    assert 0 <= json.loads(answer.choices[0].message.content or "")["age"] <= 120


def test_sdk_logprobs_stop_and_completions(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=5, logprobs=True, top_logprobs=2, seed=1
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and len(logprobs.content or []) == 5
    stopped = client.completions.create(
        model=MODEL, prompt="1 2 3 4 5 6 7", max_tokens=30, stop=[" 9"], temperature=0
    )
    assert " 9" not in stopped.choices[0].text


def test_sdk_embeddings(client: openai.OpenAI) -> None:
    texts = ["今天天气很好", "the weather is fine today", "quarterly revenue report"]
    as_base64 = client.embeddings.create(model="multilingual-e5-small", input=texts)
    as_floats = client.embeddings.create(
        model="multilingual-e5-small", input=texts, encoding_format="float"
    )
    for left, right in zip(as_base64.data, as_floats.data, strict=True):
        assert len(left.embedding) == 384
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
    zh, en, other = (d.embedding for d in as_floats.data)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert cosine(zh, en) > cosine(zh, other)
    for wrong in ({"dimensions": 10}, {"input": [[1, 2]]}):
        with pytest.raises(openai.BadRequestError) as found:
            body = {"model": "multilingual-e5-small", "input": "x"} | wrong
            client.embeddings.create(**body)
        assert found.value.param == next(iter(wrong))


def test_sdk_errors_have_their_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=ASK)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="tc-wrong").models.list()
    with pytest.raises(openai.BadRequestError) as found:
        client.chat.completions.create(model=MODEL, messages=ASK * 3_000)
    assert found.value.code == "context_length_exceeded"


def test_the_tokens_of_every_prompt_of_a_list_are_counted(client: openai.OpenAI) -> None:
    """llama.cpp, given a list or asked for two choices, says the usage of one."""
    prompts = ["One two three", "A b c d e f", "Red, green and"]
    more: dict[str, Any] = {"model": MODEL, "max_tokens": 4, "temperature": 0, "seed": 1,
                            "extra_body": SAME_EACH_TIME}  # fmt: skip
    alone = [client.completions.create(prompt=prompt, **more) for prompt in prompts]
    usages = [one.usage for one in alone if one.usage is not None]
    expected = (sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages))
    together = client.completions.create(prompt=prompts, **more)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    assert [choice.text for choice in together.choices] == [one.choices[0].text for one in alone]
    assert together.usage is not None
    assert (together.usage.prompt_tokens, together.usage.completion_tokens) == expected
    chunks = list(
        client.completions.create(
            prompt=prompts, stream=True, stream_options={"include_usage": True}, **more
        )
    )
    texts = ["", "", ""]
    for chunk in chunks:
        assert chunk.object == "text_completion"
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in together.choices]
    usage = chunks[-1].usage
    assert usage is not None and (usage.prompt_tokens, usage.completion_tokens) == expected
    twice = client.completions.create(prompt=prompts[0], n=2, **more)
    assert len(twice.choices) == 2 and twice.usage is not None
    assert twice.usage.completion_tokens == 2 * usages[0].completion_tokens
    numbers = client.completions.create(prompt=[9, 12, 40], **more)  # one prompt, as tokens
    assert len(numbers.choices) == 1
    with pytest.raises(openai.BadRequestError, match="one choice each"):
        client.completions.create(prompt=prompts, n=2, **more)
    with pytest.raises(openai.BadRequestError, match="128 at most"):
        client.completions.create(prompt=["x"] * 129, **more)


def test_commands(platform: Platform, client: openai.OpenAI) -> None:
    made = platform.run("keys", "create", "--tenant", "acme", "--name", "second")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    caller = client.with_options(api_key=key)
    until(lambda: answers(caller, openai.AuthenticationError))

    def usage() -> str:
        return platform.run("usage", "--by", "tenant", "--tenant", "acme", COLUMNS="200").stdout

    until(lambda: "acme" in usage() and "0 CNY" in usage())
    listed = platform.run("keys", "list", COLUMNS="200")
    assert key[:11] in listed.stdout and key not in listed.stdout
    until(lambda: platform.run("doctor", COLUMNS="200").returncode == 0)  # looks every 5 s
    assert "qwen" in platform.run("model", "list", "--prices", COLUMNS="200").stdout
    assert platform.run("version").stdout.strip()
    wrong = platform.run("usage", TOKENSCHAIN_SERVER__PORT="x")
    assert (
        wrong.returncode == 2 and "server.port" in wrong.stderr and "Traceback" not in wrong.stderr
    )
    taken = platform.run("up")
    assert taken.returncode == 2 and "in use by process" in taken.stderr


def test_limits_people_and_money_from_the_shell(platform: Platform) -> None:
    def said(*arguments: str, **more: str) -> str:
        done = platform.run(*arguments, COLUMNS="200", **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said("limits", "set", "shell-rpm", "5000", "--match", "tenant=acme", "--per", "key_id")
    said("limits", "set", "shell-month", "12.50", "--measure", "spend", "--period", "month",
         "--match", "tenant=acme", "--alert", "80", "--soft")  # fmt: skip
    listed = said("limits", "list")
    assert "5,000" in listed and "12.5 CNY" in listed and "tenant=acme" in listed
    assert "month" in listed and "minute" in listed
    said("limits", "remove", "shell-rpm")
    assert "shell-rpm" not in said("limits", "list")
    wrong = platform.run("limits", "set", "x", "many")
    assert wrong.returncode == 2 and "no number" in wrong.stderr
    user = said("users", "create", "bot@acme.example", "--tenant", "acme", "--service",
                "--role", "viewer").strip()  # fmt: skip
    assert user and "bot@acme.example" in said("users", "list", "--tenant", "acme")
    token = said("tokens", "create", user, "--permission", "keys:read").strip()
    assert token.startswith("tct-") and "keys:read" in said("tokens", "list", user)
    listed = said("tokens", "list", user)
    said("tokens", "revoke", next(word for word in listed.split() if word.startswith("tok_")))
    assert "tok_" not in said("tokens", "list", user)
    paid = said("wallet", "deposit", "acme", "20.00", "--reference", "bank 9").strip()
    twice = platform.run("wallet", "deposit", "acme", "20.00", "--reference", "bank 9")
    assert twice.returncode == 1 and paid in twice.stderr
    assert "20 CNY" in said("wallet", "show", "acme")
    said("wallet", "reverse", paid, "--reason", "of another tenant")
    assert "20 CNY" not in said("wallet", "show", "acme")
    key = said("keys", "create", "--tenant", "acme").strip()
    key_id = next(
        line.split()[0] for line in said("keys", "list", "--tenant", "acme").splitlines()
        if key[:11] in line
    )  # fmt: skip
    rotated = said("keys", "rotate", key_id, "--overlap", "60").strip()
    assert rotated.startswith("tc-") and rotated != key


def test_a_killed_engine_is_restarted_and_said_so(
    platform: Platform, client: openai.OpenAI
) -> None:
    os.kill(platform.pids("engine")[0], signal.SIGKILL)
    with pytest.raises(openai.APIStatusError) as found:
        client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=3)
    assert found.value.status_code == 502
    assert found.value.code in ("upstream_unreachable", "upstream_interrupted")
    until(lambda: answers(client, openai.APIStatusError))
    log = (platform.folder / "log").read_text()
    assert "child_ended" in log and "engine" in log


def test_a_second_start_is_quick_and_keeps_everything(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "again")
    platform.start()
    key = re.search(r"(tc-[\w-]{43})", platform.output).group(1)  # type: ignore[union-attr]
    platform.stop()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout
    assert not left.strip(), "a process outlived the platform"
    platform.output = ""
    assert platform.start() < 15  # 5 s on an idle machine; see the figures in the README
    assert "tc-" not in platform.output
    headers = {"authorization": f"Bearer {key}"}
    reply = web.get(f"http://127.0.0.1:{platform.ports[0]}/v1/models", headers=headers)
    assert reply.status_code == 200
    platform.stop()
