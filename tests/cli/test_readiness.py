"""What is waited for at a start: every process, and that a first call would work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from tests.small_server import JsonHandler, serving
from tokenschain.cli import readiness
from tokenschain.infra import config
from tokenschain.infra.config import Settings

METRICS_TOKEN, ENGINE_KEY = "m" * 43, "e" * 43


class Handler(JsonHandler):
    """Control, gateway, engine and embedder at once."""

    problems: ClassVar[list[str]] = []
    engine_says: ClassVar[tuple[int, Any]] = (200, {"choices": []})
    explained: ClassVar[tuple[int, Any]] = (200, {"chosen": "engine"})
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        told = self.headers["authorization"] == f"Bearer {METRICS_TOKEN}"
        problems = {"problems": Handler.problems} if told else {}
        self._send(503 if told and Handler.problems else 200, problems)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Handler.asked.append((self.path, self.headers["authorization"]))
        assert body["messages"]
        if self.path == "/api/v1/routes/explain":
            self._send(*Handler.explained)
        else:
            assert body["max_tokens"] == 1
            self._send(*Handler.engine_says)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readiness, "READY_MAX_S", 0.5)
    monkeypatch.setattr(readiness, "FIRST_CALL_MAX_S", 0.5)
    monkeypatch.setattr(readiness, "SAID_AFTER_S", 0.0)
    for name, value in (
        ("problems", []), ("engine_says", (200, {})), ("explained", (200, {"chosen": "engine"})),
        ("asked", []),
    ):  # fmt: skip
        monkeypatch.setattr(Handler, name, value)
    with serving(Handler) as address:
        port = int(address.rpartition(":")[2])
        made = config.load({"server.port": port, "control.port": port, "data_dir": tmp_path})
        engine = msgspec.structs.replace(made.engine, port=port, embedder_port=port)
        made = msgspec.structs.replace(made, engine=engine)
        made.metrics_token_path.parent.mkdir(parents=True)
        made.metrics_token_path.write_text(f"{METRICS_TOKEN}\n")
        made.engine_key_path.write_text(f"{ENGINE_KEY}\n")
        yield made


def test_a_gateway_that_is_not_ready_is_named_with_its_reason(settings: Settings) -> None:
    Handler.problems = ["the journal has no room"]
    told: list[str] = []
    with pytest.raises(readiness.NotReady, match=r"the gateway was not ready.*journal has no room"):
        asyncio.run(readiness.wait(settings, told.append))
    assert told == [
        "the gateway is not ready yet: the journal has no room (`tokenschain doctor` says more)"
    ]


def test_a_process_that_does_not_answer_is_named(settings: Settings) -> None:
    away = msgspec.structs.replace(settings.engine, embedder_port=9)
    with pytest.raises(readiness.NotReady, match="the embedder was not ready after"):
        asyncio.run(readiness.wait(msgspec.structs.replace(settings, engine=away), lambda _: None))


def test_a_first_call_is_one_token_of_the_engine_and_a_route(settings: Settings) -> None:
    asyncio.run(readiness.wait(settings, lambda _: None))
    assert not asyncio.run(readiness.first_call(settings, "tc-first", "smollm2"))
    assert Handler.asked == [
        ("/v1/chat/completions", f"Bearer {ENGINE_KEY}"),
        ("/api/v1/routes/explain", "Bearer tc-first"),
    ]


def test_without_a_key_nothing_is_asked_of_the_gateway(settings: Settings) -> None:
    assert not asyncio.run(readiness.first_call(settings, None, "smollm2"))
    assert [path for path, _ in Handler.asked] == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("engine", "route", "says"),
    [
        ((500, {"error": {"message": "out of memory"}}), (200, {"chosen": "engine"}),
         "the engine's model smollm2-135m-instruct: out of memory"),
        ((200, {}), (503, {"error": {"message": "No upstream serves it."}}),
         "calls of qwen: No upstream serves it."),
        ((200, {}), (200, {"chosen": None, "reason": "none"}), "calls of qwen: none"),
    ],
)  # fmt: skip
def test_a_first_call_that_would_be_refused_says_why(
    settings: Settings, engine: tuple[int, Any], route: tuple[int, Any], says: str
) -> None:
    Handler.engine_says, Handler.explained = engine, route
    assert asyncio.run(readiness.first_call(settings, "tc-first", "qwen")) == says
