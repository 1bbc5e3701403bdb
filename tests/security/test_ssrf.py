"""SSRF: what others name is fetched from public addresses only, and nothing else goes on unread."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.infra.egress import PublicResolver
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.vendor_table import vendor_of
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
        asked = {"messages": Raw(msgspec.json.encode(messages))}
        async with ImageFetcher(client).inlined(asked) as fields:
            return fields

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


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "http://8.8.8.8/x.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "https://8.8.8.8/x"}},
        {"type": "video", "video": ["http://127.0.0.1/1.png"]},
        {"type": "input_image", "image_url": "file:///etc/passwd"},
        {"type": "image", "image": "/proc/self/environ"},
        {"type": "image", "image": {"path": "/etc/passwd"}},
        {"type": "file", "file": {"file_url": "http://127.0.0.1/x.pdf"}},
        {"type": "file", "file": {"file_data": "http://127.0.0.1/x.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "http://127.0.0.1/a.wav"}},
        {"type": "document_url", "document_url": "ftp://127.0.0.1/x"},
        {"type": "image_url", "image_url": {"url": "HTTP://127.0.0.1/x"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("escaped", [False, True])
def test_no_address_in_any_part_is_left_to_an_engine(part: dict[str, Any], escaped: bool) -> None:
    raw = msgspec.json.encode([{"role": "user", "content": [{"type": "text", "text": "x"}, part]}])
    if escaped:
        for name in (b"_url", b"image", b"video", b"file", b"audio"):
            raw = raw.replace(b'"' + name, b'"\\u%04x' % name[0] + name[1:])
        raw = raw.replace(b"_url", b"\\u005furl")
    with pytest.raises(ApiError) as refused:
        fetched(raw)
    assert refused.value.code == "invalid_value"


def fetched(raw: bytes, bytes_max: int = 1_000_000_000) -> dict[str, Raw]:
    async def run() -> dict[str, Raw]:
        fetcher = ImageFetcher(HttpClient(resolver=PublicResolver()), bytes_max)
        async with fetcher.inlined({"messages": Raw(raw)}) as fields:
            return fields

    return asyncio.run(run())


def test_data_and_words_in_parts_go_on_untouched() -> None:
    parts = [
        {"type": "text", "text": "see http://127.0.0.1/ and file:///etc/passwd"},
        {"type": "image", "image": "/9j/" + "A" * 400},
        {"type": "input_audio", "input_audio": {"data": "A" * 400, "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,AA==", "filename": "a:b"}},
    ]
    raw = msgspec.json.encode([{"role": "user", "content": parts}])
    assert bytes(fetched(raw)["messages"]) == raw


def test_images_have_a_budget_of_the_process_that_is_given_back() -> None:
    part = {"type": "image_url", "image_url": {"url": "http://8.8.8.8/x"}}
    raw = msgspec.json.encode([{"role": "user", "content": [part]}])
    with pytest.raises(ApiError) as refused:
        fetched(raw, bytes_max=1_000)
    assert refused.value.code == "overloaded" and refused.value.status == 429

    async def run() -> None:
        fetcher = ImageFetcher(HttpClient(resolver=PublicResolver()))
        with pytest.raises(ApiError):
            async with fetcher.inlined({"messages": Raw(raw.replace(b"8.8.8.8", b"127.0.0.1"))}):
                pass
        assert fetcher._held == 0

    asyncio.run(run())


def test_engines_of_ones_own_get_images_as_data() -> None:
    for name in ("vllm", "sglang", "mindie", "xinference", "ollama"):
        assert vendor_of(name).images_as_data, name


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "file://localhost/etc/passwd", "file:/x"])
def test_no_upstream_is_given_the_name_of_a_file(plain: bool, url: str) -> None:
    part = {"type": "image_url", "image_url": url if plain else {"url": url}}
    body = {"model": "m", "messages": [{"role": "user", "content": [part]}]}
    with pytest.raises(ApiError) as refused:
        parse(Api.CHAT, msgspec.json.encode(body))
    assert refused.value.code == "invalid_image_url"
