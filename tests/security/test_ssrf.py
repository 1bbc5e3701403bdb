"""SSRF: what others name is fetched from public addresses only, and nothing else goes on unread."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.infra.egress import PublicResolver
from tokenschain.providers.images import ImageFetcher
from tokenschain.wire.client import HttpClient

INSIDE = [
    "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "0.0.0.0", "224.0.0.1", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:0:7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::1",
    "2001:0:7f00:1::1", "fec0::1", "fe80::1", "fd00::1", "ff02::1",
]  # fmt: skip


def resolved(address: str, *allowed: str) -> list[str]:
    resolver = PublicResolver([ip_network(network) for network in allowed])
    return asyncio.run(resolver.resolve(address, 80))


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_leads_inside_is_not_reached(address: str) -> None:
    with pytest.raises(OSError, match="public"):
        resolved(address)


def test_public_and_allowed_addresses_are_reached() -> None:
    assert resolved("8.8.8.8") == ["8.8.8.8"]
    assert resolved("64:ff9b::808:808", "64:ff9b::/96") == ["64:ff9b::808:808"]


def inline(image: Any) -> dict[str, Raw]:
    part = {"type": "image_url", "image_url": image}
    messages = [{"role": "user", "content": [part]}]

    async def run() -> dict[str, Raw]:
        client = HttpClient(resolver=PublicResolver())
        return await ImageFetcher(client).inline({"messages": Raw(msgspec.json.encode(messages))})

    return asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "HTTP://127.0.0.1/x", " http://127.0.0.1/x", "//127.0.0.1/x", "file:///etc/passwd",
        "ftp://127.0.0.1/x", "\thttp://127.0.0.1/x", "gopher:x", "/etc/passwd", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("plain", [True, False])
def test_no_image_url_goes_on_to_the_upstream_unread(url: str, plain: bool) -> None:
    with pytest.raises(ApiError) as refused:
        inline(url if plain else {"url": url})
    assert refused.value.code == "invalid_value"


def test_images_as_data_go_on() -> None:
    for image in ("data:image/png;base64,AA==", {"url": "data:image/png;base64,AA=="}):
        assert b"data:image/png;base64,AA==" in bytes(inline(image)["messages"])
