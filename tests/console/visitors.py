"""Browsers without a window, for tests: pages as text over HTTP in the same process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.testclient import TestClient

from tests.records import record
from tests.security.platform import Platform
from tokenschain.console.app import Console
from tokenschain.console.gateway import GatewayAnswer, GatewayUnreachable
from tokenschain.core import call_record

BASE = "http://127.0.0.1:8001"
OWN = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Browser:
    """One person's browser."""

    def __init__(self, console: Console, token: str = "", language: str = "en") -> None:
        cookies = {"tc_lang": language}
        if token:
            cookies["tc"] = token
        self._client = TestClient(console, base_url=BASE, cookies=cookies, follow_redirects=False)

    def get(self, path: str, **headers: str) -> httpx.Response:
        found: httpx.Response = self._client.get(path, headers=_lines(headers))
        return found

    def post(self, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
        found: httpx.Response = self._client.post(
            path, content=urlencode(form), headers=OWN | _lines(headers)
        )
        return found

    def send(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """A request of a page's script."""
        json_ = OWN | {"content-type": "application/json"}
        found: httpx.Response = self._client.post(
            path, content=body, headers=json_ | _lines(headers)
        )
        return found

    def cookie(self, name: str) -> str | None:
        found: str | None = self._client.cookies.get(name)
        return found


class ScriptedGateway:
    """In place of a gateway: says what a test has written for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, bool]] = []
        """Key, body, and whether the cache may answer."""
        self.addresses: list[str] = []
        self.bulk: list[bool] = []
        self.says: list[GatewayAnswer | GatewayUnreachable] = []
        """One for each request; after the last, an empty answer."""

    async def ask(
        self, key: str, body: bytes, address: str, *, cache: bool, bulk: bool = False
    ) -> GatewayAnswer:
        self.asked.append((key, body, cache))
        self.addresses.append(address)
        self.bulk.append(bulk)
        said = self.says.pop(0) if self.says else streamed("")
        if isinstance(said, GatewayUnreachable):
            raise said
        return said


def streamed(*words: str, call: str = "alpha-1") -> GatewayAnswer:
    """A streamed answer of these pieces."""
    usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
    events: list[object] = [{"choices": [{"delta": {"content": word}}]} for word in words]
    lines = [json.dumps(one) for one in [*events, {"choices": [], "usage": usage}]] + ["[DONE]"]
    headers = {"content-type": "text/event-stream", "x-request-id": call, "x-tc-upstream": "two"}
    return GatewayAnswer(200, headers, _each([f"data: {line}\n\n".encode() for line in lines]))


def refused(status: int, code: str, message: str) -> GatewayAnswer:
    """A refusal of the gateway's own."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return GatewayAnswer(status, {"content-type": "application/json"}, _each([body]))


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class House:
    """The console, and people of chosen roles before it."""

    def __init__(
        self, platform: Platform, console: Console, folder: Path, gateway: ScriptedGateway
    ) -> None:
        self.gateway = gateway
        self.platform = platform
        self.console = console
        self.folder = folder
        self._calls = 0

    def browser(self, tenant: str, role: str, language: str = "en", **where: Any) -> Browser:
        """Somebody's browser, signed in."""
        person = self.platform.person(tenant, role, **where)
        return Browser(self.console, person.token, language)

    def as_person(self, token: str, language: str = "en") -> Browser:
        """The browser of whom a token signs in."""
        return Browser(self.console, token, language)

    def key_of(self, tenant: str) -> str:
        """The id of a key of a tenant."""
        return str(self.platform.rows(f"SELECT id FROM api_keys WHERE name = '{tenant} key'")[0][0])

    def enter(self, **fields: Any) -> str:
        """Enter one call of now in the ledger; returns its id."""
        self._calls += 1
        now_ms = int(time.time() * 1e3)
        call = record(1_000 + self._calls, **{"started_ms": now_ms, **fields})
        self.platform.app.state.context.ledger.ingest([call_record.encode(call)])
        return call.event_id

    def stranger(self, language: str = "en") -> Browser:
        """A browser in which nobody signed in."""
        return Browser(self.console, language=language)


def _lines(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Page(HTMLParser):
    """What a page has in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each such element."""
        return [attributes for name, attributes in self.tags if name == tag]

    def links(self) -> set[str]:
        """Where the page leads."""
        return {str(one["href"]) for one in self.all("a") if one.get("href")}


def unseen(_path: str, _error: BaseException) -> None:
    """Takes faults that a test made itself."""


def inline_code(text: str) -> list[str]:
    """What a strict policy would refuse."""
    return re.findall(r"""\sstyle=|\son[a-z]+=|<style|javascript:""", text)
