"""Images by URL: fetched for vendors that take data, never from where only we can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests.small_server import serving
from tokenschain.core.errors import ApiError
from tokenschain.infra.egress import PublicResolver
from tokenschain.providers import images
from tokenschain.providers.images import ImageFetcher
from tokenschain.wire.client import HttpClient

PIXEL = b"\x89PNG\r\n\x1a\n-pixel"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: dict[str, tuple[int, str, bytes]] = {
            "/pixel.png?x=1": (200, "image/png", PIXEL),
            "/page": (200, "text/html", b"<html>"),
            "/large": (200, "image/png", b"x" * 3_000),
            "/moved": (302, "image/png", b""),
        }
        status, kind, body = answers.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("content-type", kind)
        if status == 302:
            self.send_header("location", "/pixel.png?x=1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving(Handler) as address:
        yield address


def inline(url: str, *networks: str) -> str:
    async def run() -> dict[str, Raw]:
        client = HttpClient(resolver=PublicResolver([ip_network(n) for n in networks]))
        part = {"type": "image_url", "image_url": {"url": url}}
        messages = [{"role": "user", "content": [part]}]
        try:
            asked = {"messages": Raw(msgspec.json.encode(messages))}
            async with ImageFetcher(client).inlined(asked) as fields:
                return fields
        finally:
            client.close()

    messages: Any = msgspec.json.decode(asyncio.run(run())["messages"])
    return str(messages[0]["content"][0]["image_url"]["url"])


def test_an_image_is_written_in_as_data(host: str) -> None:
    assert inline(f"{host}/pixel.png?x=1", "127.0.0.0/8").startswith("data:image/png;base64,iVBOR")
    assert inline("data:image/png;base64,AA==") == "data:image/png;base64,AA=="


def test_a_source_of_anthropics_becomes_one_of_data(host: str) -> None:
    async def run() -> Any:
        client = HttpClient(resolver=PublicResolver([ip_network("127.0.0.0/8")]))
        source = {"type": "url", "url": f"{host}/pixel.png?x=1"}
        messages = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        asked = {"messages": Raw(msgspec.json.encode(messages))}
        async with ImageFetcher(client).inlined(asked) as fields:
            return msgspec.json.decode(fields["messages"])

    (block,) = asyncio.run(run())[0]["content"]
    assert block["source"]["type"] == "base64" and block["source"]["media_type"] == "image/png"
    assert block["source"]["data"].startswith("iVBOR")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/page", "no image"),
        ("/gone", "HTTP 404"),
        ("/moved", "HTTP 302"),
        ("/large", "longer than"),
        ("/a b", "percent-encoded"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    host: str, path: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "IMAGE_BYTES_MAX", 2_000)
    with pytest.raises(ApiError, match=says) as found:
        inline(host + path, "127.0.0.0/8")
    assert found.value.param == "messages[0].content[0].image_url"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
        "100.100.100.200", "0.0.0.0", "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:127.0.0.1]",
        "2130706433", "0x7f.1", "224.0.0.1",
    ],
)  # fmt: skip
def test_what_only_we_can_reach_is_not_reached(address: str) -> None:
    with pytest.raises(ApiError, match="cannot be fetched"):
        inline(f"http://{address}/latest/meta-data")
