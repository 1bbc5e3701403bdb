"""The commands' HTTP clients: chat, streamed and whole, and the admin API's refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from tests.small_server import JsonHandler, serving
from tokenschain.cli import admin_client, http
from tokenschain.cli.admin_client import AdminError
from tokenschain.cli.chat_client import ChatClient, ChatError, ChatSession
from tokenschain.infra import config
from tokenschain.infra.config import Settings


class Handler(JsonHandler):
    """Both APIs, in a few lines."""

    bodies: ClassVar[list[dict[str, object]]] = []
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Handler.paths.append(self.path)
        if self.path.startswith("/broken"):
            self._send(502, ["no error in OpenAI's shape"])
        else:
            self._send(403, {"error": {"message": "This token may not."}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Handler.bodies.append(body)
        if self.headers["authorization"] != "Bearer right":
            self._send(401, {"error": {"message": "No such key."}})
        elif not body.get("stream"):
            self._send(200, {})
        else:
            self._stream(["Hel", "lo"] if len(body["messages"]) < 5 else ["Hel", None])

    def _stream(self, pieces: list[str | None]) -> None:
        events = [
            {"error": {"message": "broke off"}}
            if piece is None
            else {"choices": [{"delta": {"content": piece}}]}
            for piece in pieces
        ]
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data.encode())


@pytest.fixture
def server() -> Iterator[str]:
    Handler.bodies, Handler.paths = [], []
    with serving(Handler) as address:
        yield address


def test_a_conversation_is_streamed_and_remembered_unless_it_breaks(server: str) -> None:
    with ChatClient(server, "right") as client:
        _talk(ChatSession(client, "m"))


def _talk(talk: ChatSession) -> None:
    assert ["".join(talk.say(text)) for text in ("one", "two")] == ["Hello", "Hello"]
    roles = [message["role"] for message in Handler.bodies[-1]["messages"]]  # type: ignore[attr-defined]
    assert roles == ["user", "assistant", "user"]
    with pytest.raises(ChatError, match="broke off"):
        list(talk.say("three"))
    with pytest.raises(ChatError, match="broke off"):
        list(talk.say("three again"))
    assert len(Handler.bodies[-1]["messages"]) == 5  # type: ignore[arg-type]


def test_a_refusal_is_said_in_the_apis_words(server: str) -> None:
    with ChatClient(server, "wrong") as client:
        with pytest.raises(ChatError, match="No such key"):
            client.ask({"messages": []}, {})
        with pytest.raises(ChatError, match="No such key"):
            list(client.stream({"messages": [], "stream": True}))
    with ChatClient("http://127.0.0.1:9", "right") as client, pytest.raises(ChatError):
        client.ask({}, {})


@pytest.fixture
def settings(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TOKENSCHAIN_CONTROL__URL", server)
    monkeypatch.setenv(config.ADMIN_TOKEN_VARIABLE, "token")
    monkeypatch.chdir(tmp_path)
    return config.load()


def test_the_admin_api_refuses_or_is_away_in_one_line(settings: Settings) -> None:
    with pytest.raises(AdminError, match="This token may not"):
        admin_client.call(settings, "GET", "/api/v1/keys", query={"tenant": "a b"})
    assert Handler.paths == ["/api/v1/keys?tenant=a+b"]
    with pytest.raises(AdminError, match="HTTP 502"):
        admin_client.call(settings, "GET", "/broken")
    away = msgspec.structs.replace(settings.control, url="http://127.0.0.1:9")
    with pytest.raises(AdminError, match="is `tokenschain up` running"):
        admin_client.call(msgspec.structs.replace(settings, control=away), "GET", "/")


def test_certificates_are_read_once() -> None:
    assert http._certificates() is http._certificates()
