"""SSRF: what others name is fetched from public addresses only, and nothing else goes on unread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests import web
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.control.configuration import checks
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.snapshot import Upstream
from tokenschain.infra.egress import PublicResolver, is_local, outside_client
from tokenschain.providers.images import CALL_BYTES_MAX, IMAGES_MAX, ImageFetcher, MediaUrls
from tokenschain.providers.openai_compat.targets import target_of
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import ClientError, HttpClient

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


def test_a_name_that_is_not_known_is_refused_in_the_same_words() -> None:
    said = set()
    for name in ("127.0.0.1", "localhost", "no-such-name.invalid"):
        with pytest.raises(OSError) as refused:
            resolved(name)
        said.add((type(refused.value), str(refused.value)))
    assert len(said) == 1


LOCAL = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "%31%32%37.0.0.1",
    "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "0", "10.0.0.1", "169.254.169.254",
    "[::1]", "::1", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]", "localhost",
    "LOCALHOST.", "a.localhost", "db", "printer.local", "metadata.google.internal", "",
    "api.default.svc",
]  # fmt: skip


@pytest.mark.parametrize("host", LOCAL)
def test_a_host_inside_is_known_in_any_spelling(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "example.com", "[2606:4700::1111]", "a.b.cn.", "1.to"])
def test_a_host_of_the_world_is_none_of_them(host: str) -> None:
    assert not is_local(host)


UPSTREAMS: list[dict[str, Any]] = [
    {"id": "of-nobody"},
    {"id": "in-the-country", "zone": "cn"},
    {"id": "passing", "media_urls": "pass"},
    {"id": "passing-abroad", "media_urls": "pass", "zone": "abroad"},
    {"id": "cloud", "provider": "moonshot"},
    {"id": "native", "provider": "anthropic"},
    {"id": "engine", "provider": "vllm"},
    {"id": "ours", "zone": "own"},
]
URLS = [
    "http://127.0.0.1:1/a.png", "https://LOCALHOST/a.png", "http://169.254.169.254/latest",
    "http://[::1]/a", " http://10.0.0.1/a", "http:127.0.0.1/a", "http:/127.0.0.1/a",
    "http://8.8.8.8\\@127.0.0.1/a", "http://127.1/a", "ftp://127.0.0.1/a",
]  # fmt: skip


def parts_of(url: str) -> list[dict[str, Any]]:
    return [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": {"detail": "low", "url": url}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "video", "video": [url]},
        {"type": "file", "file": {"file_url": url, "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "image", "image": url},
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, UpstreamSimulator]]:
    simulator = UpstreamSimulator()
    entries = [
        {"base_url": simulator.base_url, "models": {entry["id"]: "m"}, "prices": {"m": PRICES},
         "kinds": {"m": "chat"}} | entry
        for entry in [*UPSTREAMS, {"id": "trusting", "zone": "own", "media_urls": "pass"}]
    ]  # fmt: skip
    made = Stack(tmp_path_factory.mktemp("media"), simulator.base_url, upstreams=entries).start()
    yield made, simulator
    made.close()
    simulator.close()


@pytest.mark.parametrize("upstream", [entry["id"] for entry in UPSTREAMS])
def test_no_upstream_is_given_an_address_inside(
    stack: tuple[Stack, UpstreamSimulator], upstream: str
) -> None:
    gateway, simulator = stack
    simulator.reset()
    for url in URLS:
        for part in parts_of(url):
            reply = gateway.chat(
                model=upstream,
                messages=[{"role": "user", "content": [{"type": "text", "text": "x"}, part]}],
            )
            assert reply.status_code == 400 or url not in str(simulator.requests), (url, part)
            if reply.status_code == 400:
                assert reply.json()["error"]["code"] in ("invalid_value", "invalid_image_url",
                                                         "unsupported_parameter")  # fmt: skip
    source = {"type": "url", "url": URLS[0]}
    for kind in ("image", "document"):
        reply = web.post(
            f"{gateway.url}/v1/messages", headers=gateway.headers,
            json={"model": upstream, "max_tokens": 5,
                  "messages": [{"role": "user", "content": [{"type": kind, "source": source}]}]},
        )  # fmt: skip
        assert reply.status_code == 400, reply.text
    assert "127.0.0.1" not in str(simulator.requests)
    assert gateway.chat(model=upstream).status_code in (200, 502), "a plain call is served"


def test_who_trusts_callers_says_so_of_an_upstream_of_their_own(
    stack: tuple[Stack, UpstreamSimulator],
) -> None:
    gateway, simulator = stack
    simulator.reset()
    part = {"type": "image_url", "image_url": {"url": URLS[0]}}
    says = [{"role": "user", "content": [part]}]
    assert gateway.chat(model="trusting", messages=says).status_code == 200
    assert URLS[0] in str(simulator.requests)


def test_a_tenant_does_not_open_the_network_to_its_own_upstream() -> None:
    def media_of(tenant: str) -> MediaUrls:
        upstream = Upstream(
            "u", base_url="http://8.8.8.8/v1", zone="own", media_urls="pass", tenant=tenant
        )
        return target_of(upstream, vendor_of("custom"), Api.CHAT, None, None, None).media_urls

    assert (media_of(""), media_of("acme")) == (MediaUrls.PASSED, MediaUrls.RESOLVED)


@pytest.mark.parametrize("tenant", ["", "acme"])
def test_what_a_tenant_names_is_not_asked_where_its_name_leads_inside(tenant: str) -> None:
    """Whether it is there, for an answer, or for a token: a name may lead anywhere, and change."""
    simulator = UpstreamSimulator()
    address = simulator.base_url.replace("127.0.0.1", "localhost")
    named = Upstream(
        "u", "baidu-qianfan", address, ("env:A",), auth="token", token_url=address, tenant=tenant,
        probe_path="/",
    )  # fmt: skip

    async def run() -> list[str]:
        client, outside = HttpClient(), outside_client(None, None)
        clouds = HttpUpstreams(
            client, {"env:A": "a:b"}.get, vendor_of, lambda *_: None, ImageFetcher(client),
            outside=outside,
        )  # fmt: skip
        target = clouds._target(named, Api.CHAT, False)
        assert target.tokens is not None
        said = []
        for asked in (
            clouds.probe(named),
            clouds._exchange(target, target.keyless_head, b"", b"{}"),
            target.tokens.token_of("a:b", "m"),
        ):
            try:
                await asked
                said.append("")
            except (ApiError, ClientError) as error:
                said.append(f"{error} {getattr(error, 'detail', '')}")
        client.close()
        outside.close()
        return said

    said = asyncio.run(run())
    simulator.close()
    assert len(said) == 3
    assert all(("no public address" in one) == bool(tenant) for one in said), said


@pytest.mark.parametrize("host", [host for host in LOCAL if "%" not in host])
def test_no_upstream_of_a_tenant_is_set_to_an_address_inside(host: str) -> None:
    authority = f"[{host}]" if ":" in host and not host.startswith("[") else host
    assert not checks._is_public(f"https://{authority}/v1")


def test_an_address_of_a_cloud_passes_without_being_looked_up(
    stack: tuple[Stack, UpstreamSimulator],
) -> None:
    """The gateway of an air-gapped network knows no names of the world."""
    gateway, simulator = stack
    simulator.reset()
    for url in ("https://no-such-name.invalid/a.png", "ms://file-id", "https://8.8.8.8/a.png"):
        part = {"type": "image_url", "image_url": {"url": url}}
        reply = gateway.chat(model="cloud", messages=[{"role": "user", "content": [part]}])
        assert reply.status_code == 200, reply.text
        assert url in str(simulator.requests)


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
        {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}},
        {"type": "document", "source": {"type": "url", "url": "http://8.8.8.8/x"}},
        {
            "type": "tool_result",
            "content": [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}],
        },
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
        {"type": "document", "source": {"type": "text", "data": "see: http://127.0.0.1/"}},
        {"type": "image", "source": {"type": "base64", "data": "/9j/" + "A" * 400}},
    ]
    raw = msgspec.json.encode([{"role": "user", "content": parts}])
    assert bytes(fetched(raw)["messages"]) == raw


@pytest.mark.parametrize(("count", "image_bytes"), [(IMAGES_MAX + 1, 1), (2, CALL_BYTES_MAX)])
def test_images_of_one_call_are_bounded_in_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch, count: int, image_bytes: int
) -> None:
    async def fetch(*_: object) -> str:
        return "data:image/png;base64," + "A" * (image_bytes // 2 + 1)

    monkeypatch.setattr(ImageFetcher, "_fetch", fetch)
    parts = [
        {"type": "image_url", "image_url": {"url": f"http://8.8.8.8/{n}"}} for n in range(count)
    ]
    assert fetched(msgspec.json.encode([{"role": "user", "content": parts[:-1]}]))
    with pytest.raises(ApiError) as refused:
        fetched(msgspec.json.encode([{"role": "user", "content": parts}]))
    assert refused.value.code == "invalid_value"
    assert str(refused.value.param).startswith(f"messages[0].content[{count - 1}]")


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mcp_servers", [{"type": "url", "url": "http://127.0.0.1/mcp", "name": "x"}]),
        ("tools", [{"type": "mcp", "server_url": "http://127.0.0.1/mcp"}]),
    ],
)
def test_no_address_of_a_tool_is_left_to_an_engine(field: str, value: Any) -> None:
    async def run(media: MediaUrls) -> None:
        images = ImageFetcher(HttpClient(resolver=PublicResolver()))
        asked = {field: Raw(msgspec.json.encode(value))}
        if media is MediaUrls.INLINED:
            async with images.inlined(asked):
                pass
        else:
            await images.check(asked, media)

    for media in (MediaUrls.INLINED, MediaUrls.READ, MediaUrls.RESOLVED):
        with pytest.raises(ApiError) as refused:
            asyncio.run(run(media))
        assert refused.value.code == "invalid_value"


def test_words_in_the_schema_of_a_tool_are_no_addresses() -> None:
    schema = {"type": "object", "properties": {"image": {"enum": ["http://127.0.0.1/"]}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    raw = Raw(msgspec.json.encode(tools))

    async def run() -> dict[str, Raw]:
        async with ImageFetcher(HttpClient(resolver=PublicResolver())).inlined({"tools": raw}) as f:
            return f

    assert asyncio.run(run()) == {"tools": raw}


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
