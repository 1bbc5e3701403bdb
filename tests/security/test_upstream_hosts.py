"""Hosts, paths and keys that cannot be sent fail their own calls, and end no process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from tokenschain.control import maintenance
from tokenschain.control.maintenance import Maintenance
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.snapshot import Upstream
from tokenschain.gateway.dispatch import health_probes
from tokenschain.gateway.dispatch.health_probes import Probes
from tokenschain.infra.control_channel import response_store
from tokenschain.infra.control_channel.response_store import ResponseStore
from tokenschain.infra.control_channel.signed_client import SignedClient
from tokenschain.infra.egress import exchange, outside_client
from tokenschain.providers.access_tokens import TokenKeeper
from tokenschain.providers.auth import EXCHANGES
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.upstream_tester import HttpUpstreamTester
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import ConnectFailed, HttpClient, Origin, Waits
from tokenschain.wire.resolver import Resolver

NO_HOSTS = ["a..com", "例..com", "a" * 64 + ".com", ".com", "a\0b.com"]
NO_URLS = [
    *(f"https://{host}/v1" for host in NO_HOSTS),
    "https://a.com/v1\n", "https://a.com/v1\r\nx: y", "https://a.com/v1 HTTP/1.1", "https://a b/",
    "https://a.com/模型", "https://a.com/v1\x7f", "\nhttps://a.com/v1",
]  # fmt: skip
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
WAITS = Waits(connect_max_s=10.0)


def upstreams_with(client: HttpClient, secrets: dict[str, str] | None = None) -> HttpUpstreams:
    return HttpUpstreams(
        client, (secrets or {}).get, vendor_of, lambda *_: None, ImageFetcher(client)
    )


@pytest.mark.parametrize("host", NO_HOSTS)
@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_host_that_is_no_name_is_a_failed_connection(
    host: str, runner: Callable[[Any], Any]
) -> None:
    async def run() -> None:
        with pytest.raises(OSError):
            await Resolver().resolve(host, 80)
        for client in (HttpClient(), outside_client(None, None)):
            with pytest.raises(ConnectFailed):
                await client.open(Origin(True, host, 443), GET, WAITS)
            client.close()

    runner(run())


@pytest.mark.parametrize("url", NO_URLS)
def test_a_url_that_cannot_be_asked_as_it_is_written_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError):
        Origin.of(url)


def test_an_internationalised_host_is_asked_by_the_name_that_dns_knows() -> None:
    assert Origin.of("https://例子.com:8443/v1") == Origin(True, "xn--fsqu00a.com", 8443)
    assert Origin.of("https://[::1]/").host == "::1"


@pytest.mark.parametrize("url", NO_URLS)
def test_an_upstream_of_a_tenant_that_cannot_be_asked_fails_its_own_calls(url: str) -> None:
    named = Upstream("u", "custom", url, tenant="acme", probe_path="/h")

    async def run() -> None:
        client = HttpClient()
        clouds = upstreams_with(client)
        clouds.check(named)
        with pytest.raises(ApiError) as refused:
            await clouds.probe(named)
        assert refused.value.code == "upstream_unreachable"
        with pytest.raises(ApiError) as refused:
            clouds._target(named, Api.CHAT, False)
        assert refused.value.code == "upstream_unreachable"
        images = ImageFetcher(client)
        tester = HttpUpstreamTester(client, client, lambda _: None, vendor_of, images)
        report = await tester.test(named, None, {})
        assert ("connection", "failed") in [one[:2] for one in report.steps]
        client.close()

    uvloop.run(run())


@pytest.mark.parametrize("path", ["/h\n", "/h\r\nx: y", "/健康"])
def test_a_path_of_a_health_check_stays_one_line(path: str) -> None:
    async def run() -> None:
        client = HttpClient()
        with pytest.raises(ApiError):
            await upstreams_with(client).probe(Upstream("u", base_url="http://a/", probe_path=path))

    uvloop.run(run())


def test_a_probe_that_fails_in_a_way_nobody_foresaw_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_probes, "PROBE_S", 0.0)
    said: list[str] = []

    async def run() -> None:
        asked_again = asyncio.Event()
        asked: list[str] = []

        async def ask(upstream: Upstream) -> None:
            asked.append(upstream.id)
            if upstream.id == "hostile":
                raise UnicodeError("label empty or too long")
            if asked.count("good") > 2:
                asked_again.set()

        def endpoint(name: str) -> SimpleNamespace:
            upstream = Upstream(name, base_url="http://x", probe_path="/h")
            health = SimpleNamespace(
                tries=0, is_open=False, heard_at=-100.0, present=lambda _: None
            )
            candidate = SimpleNamespace(upstream=upstream)
            return SimpleNamespace(name=name, candidate=candidate, health=health)

        router = SimpleNamespace(known=[endpoint("hostile"), endpoint("good")])
        events = SimpleNamespace(end_rests=lambda: None, failed=None)

        def report(event: str, /, why: str = "", **fields: object) -> None:
            said.append(f"{event} {fields['upstream']}")

        probes = Probes(cast(Any, router), cast(Any, events), lambda: 0.0, ask, report)
        task = asyncio.create_task(probes.run())
        async with asyncio.timeout(10):
            await asked_again.wait()
        task.cancel()

    uvloop.run(run())
    assert set(said) == {"background_failed hostile"}


def test_a_chore_of_control_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance.alerts, "LOOK_S", 0.0)
    for chore in ("look", "look_at_records", "look_at_cache"):
        monkeypatch.setattr(maintenance.alerts, chore, lambda *_: 1 // 0)
    said: list[str] = []

    def report(event: str, /, why: str = "", **fields: object) -> None:
        said.append(event)

    async def run() -> None:
        done: list[str] = []
        reported = asyncio.Event()

        async def chore(name: str, *_: object) -> list[Any]:
            done.append(name)
            if name == "reports":
                reported.set()
            raise KeyError(name)

        def fails(name: str, *_: object) -> Any:
            done.append(name)
            raise ValueError(name)

        named = {
            "archive": SimpleNamespace(sweep=partial(fails, "archive")),
            "lease_manager": SimpleNamespace(sweep=partial(fails, "leases")),
            "ledger": SimpleNamespace(take_uses=partial(fails, "uses")),
            "sender": SimpleNamespace(send_due=partial(chore, "sender")),
            "outbox": SimpleNamespace(send_due=partial(chore, "outbox")),
            "semantic": SimpleNamespace(reports=partial(chore, "reports")),
            "upstreams_down": partial(fails, "upstreams"),
        }
        parts = cast(dict[str, Any], named)
        task = asyncio.create_task(
            Maintenance(cast(Any, None), ledger_days=1, report=report, **parts).run()
        )
        async with asyncio.timeout(20):
            await reported.wait()
        task.cancel()
        assert {"archive", "leases", "uses", "sender", "outbox", "reports"} <= set(done)

    uvloop.run(run())
    assert set(said) == {"background_failed"}


Script = Callable[[bytes], bytes]


async def served(answer: Script) -> tuple[asyncio.Server, int]:
    """A server that answers each head with what `answer` says, and its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def through_proxy(body: Callable[[str, int, list[bytes]], Awaitable[None]]) -> None:
    """Run `body` with a proxy's URL, its port, and what it was asked."""
    asked: list[bytes] = []

    def answer(head: bytes) -> bytes:
        asked.append(head.split(b"\r\n", 1)[0])
        if head.startswith(b"CONNECT"):
            return b"HTTP/1.1 200 Go\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def run() -> None:
        server, port = await served(answer)
        try:
            await body(f"http://127.0.0.1:{port}", port, asked)
        finally:
            server.close()

    uvloop.run(run())


LIKE_LOOPBACK = ["127.attacker.example", "127.0.0.1.attacker.example", "localhost.example"]


@pytest.mark.parametrize("host", LIKE_LOOPBACK)
@pytest.mark.parametrize("outside", [True, False])
def test_a_name_that_looks_like_this_machine_goes_through_the_proxy(
    host: str, outside: bool
) -> None:
    async def body(proxy: str, port: int, asked: list[bytes]) -> None:
        client = outside_client(None, proxy) if outside else HttpClient(proxy=proxy)
        await client.open(Origin(False, host, 80), GET, WAITS)
        assert asked[0] == f"CONNECT {host}:80 HTTP/1.1".encode()
        client.close()

    through_proxy(body)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "db", "a.svc"],
)
def test_nothing_of_a_tenant_goes_past_the_proxy_or_inside(host: str) -> None:
    async def body(proxy: str, port: int, asked: list[bytes]) -> None:
        client = outside_client(None, proxy)
        with pytest.raises(ConnectFailed, match="no public address"):
            await client.open(Origin(False, host, port), GET, WAITS)
        assert not asked
        client.close()

    through_proxy(body)


def test_this_machine_is_reached_without_the_proxy() -> None:
    async def body(proxy: str, port: int, asked: list[bytes]) -> None:
        client = HttpClient(proxy=proxy)
        for host in ("127.0.0.1", "localhost"):
            await client.open(Origin(False, host, port), GET, WAITS)
        assert asked == [b"GET / HTTP/1.1"] * 2
        client.close()

    through_proxy(body)


@pytest.mark.parametrize("value", ["sk\n", "sk\r\nx: y", "sk\0", "密钥", "sk\udc80"])
def test_a_key_that_no_header_can_carry_is_as_none(value: str) -> None:
    upstream = Upstream("u", "custom", "http://a/v1", ("env:A",))

    async def run() -> None:
        client = HttpClient()
        clouds = upstreams_with(client, {"env:A": value})
        assert clouds.without_key([upstream]) == {"u"}
        assert not clouds.credentials()
        images = ImageFetcher(client)
        tester = HttpUpstreamTester(client, client, lambda _: None, vendor_of, images)
        report = await tester.test(upstream, None, {"env:A": value})
        assert report.steps[0][:2] == ("credential", "failed")

    uvloop.run(run())


@pytest.mark.parametrize(
    "said",
    [
        '{"token": "t\\r\\nx: y", "expireTime": "2100-01-01T00:00:00Z"}',
        '{"token": "密", "expireTime": "2100-01-01T00:00:00Z"}',
        '{"token": "t", "expireTime": "0001-01-01T00:00:00"}',
        '{"token": "t", "expireTime": "9999-12-31T23:59:59"}',
        "[" * 20_000,
    ],
)
def test_a_token_service_that_answers_nonsense_fails_the_call_alone(said: str) -> None:
    body = said.encode()

    async def run() -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        server, port = await served(lambda _: head + body)
        client = HttpClient()
        keeper = TokenKeeper(client, EXCHANGES["baidu"], f"http://127.0.0.1:{port}")
        try:
            await keeper.token_of("a:b", "m")
        except ApiError as error:
            assert error.code == "upstream_invalid_reply"
        else:
            assert "9999" in said, "a time that this machine knows"
        client.close()
        server.close()

    uvloop.run(run())


@pytest.mark.parametrize("name", ["x y", "x HTTP/1.1\r\nhost: y\r\n\r\nGET /", "../calls", "x?a=b"])
def test_the_name_of_a_response_that_a_caller_gives_stays_one_part_of_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(response_store, "READ_YOUR_WRITES_WAIT_MAX_S", 0.0)
    asked: list[str] = []

    class Channel:
        async def exchange(self, method: str, path: str, *_: object) -> Any:
            asked.append(path)
            return SimpleNamespace(status=404), b""

    async def run() -> None:
        store = ResponseStore(cast(Any, Channel()), tmp_path)
        with pytest.raises(ApiError):
            await store.find("acme", name)

    uvloop.run(run())
    assert asked
    for path in asked:
        part = path.partition("?")[0]
        assert part.count("/") == "/internal/v1/responses/x".count("/"), path
        assert path.isprintable() and " " not in path and path.count("?") == 1


def test_heads_of_all_clients_refuse_a_line_that_would_be_two() -> None:
    async def run() -> None:
        client = HttpClient()
        with pytest.raises(ValueError):
            await exchange(client, "GET", "http://a/", {"x": "a\r\nb: c"}, b"", WAITS, 10)
        signatures = SimpleNamespace(sign=lambda *_: SimpleNamespace(header="s"))
        signed = SignedClient("http://a/", cast(Any, signatures), client)
        with pytest.raises(ValueError):
            await signed.exchange("GET", "/a HTTP/1.1\r\nx: y", b"", WAITS, 10)

    uvloop.run(run())
