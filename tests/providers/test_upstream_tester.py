"""Tests of upstreams: every vendor's dialect, and each way in which a step fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from tests.ports import free_port
from tests.small_server import JsonHandler, serving
from tests.vendors.simulators import PROFILES, Simulator
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Offer, Upstream
from tokenschain.core.upstream_report import StepResult, Trial, UpstreamReport
from tokenschain.infra.egress import PublicResolver
from tokenschain.providers import upstream_tester
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.upstream_tester import HttpUpstreamTester
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import HttpClient

KEY = "sk-a-secret-of-the-vendor"


class Handler(JsonHandler):
    """A vendor that lists its models and says again what it was sent."""

    seen: ClassVar[list[str]] = []
    hangs: ClassVar[bool] = False
    answers: ClassVar[tuple[int, Any]] = (200, {})

    def do_GET(self) -> None:
        Handler.seen.append(self.path)
        key = str(self.headers["authorization"])
        self._send(200, {"data": [{"id": "alpha"}, {"id": "beta"}, {"id": key}]})

    def do_POST(self) -> None:
        Handler.seen.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        if Handler.hangs:
            time.sleep(3)
        self._send(*Handler.answers)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    whole = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "alpha",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": "OK"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }  # fmt: skip
    for name, value in {"seen": [], "hangs": False, "answers": (200, whole)}.items():
        monkeypatch.setattr(Handler, name, value)
    with serving(Handler) as address:
        yield f"{address}/v1"


def report_of(
    base_url: str, *, model: str = "alpha", kind: str = "chat", secret: str = KEY, **fields: Any
) -> UpstreamReport:
    """The report of one upstream with a stored credential."""
    fields = {"credentials": ("stored:/k",)} | fields
    upstream = Upstream("up", base_url=base_url, **fields)
    trial = Trial(kind, Offer("up", model))

    async def run() -> UpstreamReport:
        client, outside = HttpClient(), HttpClient(resolver=PublicResolver())
        tester = HttpUpstreamTester(
            client, outside, lambda _: None, vendor_of, ImageFetcher(outside)
        )
        try:
            return await tester.test(upstream, trial, {"stored:/k": secret})
        finally:
            client.close()
            outside.close()

    return asyncio.run(run())


def step(report: UpstreamReport, name: str) -> StepResult:
    return next(one for one in report.steps if one.step == name)


def outcomes(report: UpstreamReport) -> list[str]:
    return [one.outcome for one in report.steps]


VENDORS = [name for name, one in PROFILES.items() if one.chats]


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, Simulator]]:
    made = {name: Simulator(name, PROFILES[name]) for name in VENDORS}
    yield made
    with ThreadPoolExecutor(len(made)) as pool:  # each takes half a second
        list(pool.map(Simulator.close, made.values()))


@pytest.mark.parametrize("provider", VENDORS)
def test_one_small_call_works_in_each_vendors_dialect(
    simulators: dict[str, Simulator], provider: str
) -> None:
    simulator = simulators[provider]
    found = report_of(
        simulator.base_url, model="sim-model", secret=simulator.credential, provider=provider
    )
    assert step(found, "call").outcome == "ok", found
    assert len(simulator.requests) == 1
    wrong = report_of(simulator.base_url, model="sim-model", secret="no:key", provider=provider)
    failed = step(wrong, "call")
    # Xunfei says the same of a wrong key and of a model that an account may not use.
    mend = "let the account use" if provider == "xfyun-spark" else "upstream-credentials set"
    assert failed.outcome == "failed" and mend in failed.remedy, failed
    assert "CANARY" not in str(wrong)


def test_every_step_is_told_and_nothing_of_the_key(server: str) -> None:
    found = report_of(server)
    assert outcomes(found) == ["ok", "ok", "ok", "ok"]
    assert found.models == ("alpha", "beta"), "a name that is the key is left out"
    assert step(found, "call").message == "`alpha` answers: 9 + 1 tokens"
    assert step(found, "call").took_ms is not None
    Handler.answers = (400, {"error": {"message": f"bad header Bearer {KEY}"}})
    refused = report_of(server)
    assert outcomes(refused) == ["ok", "ok", "ok", "failed"]
    assert KEY not in str(refused) and "bad header" in str(refused)


def test_embeddings_are_called_as_such(server: str) -> None:
    Handler.answers = (
        200, {"object": "list", "model": "alpha", "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3}},
    )  # fmt: skip
    assert step(report_of(server, kind="embedding"), "call").outcome == "ok"
    assert Handler.seen[-1] == "/v1/embeddings"


def test_a_credential_that_is_not_there_is_named_and_nothing_is_called(server: str) -> None:
    found = report_of(server, secret="")
    assert outcomes(found) == ["failed", "ok", "ok", "skipped"]
    assert "`stored:k`" in step(found, "credential").message
    assert Handler.seen == ["/v1/models"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_nobody_listens_the_rest_is_left_out(scheme: str) -> None:
    found = report_of(f"{scheme}://127.0.0.1:{free_port()}/v1")
    assert outcomes(found) == ["ok", "failed", "skipped", "skipped"]
    assert "base_url" in step(found, "connection").remedy


def test_tls_that_is_none_is_a_matter_of_the_connection(server: str) -> None:
    found = report_of(server.replace("http://", "https://"))
    assert outcomes(found) == ["ok", "failed", "skipped", "skipped"]


def test_an_upstream_that_hangs_is_waited_for_within_a_bound(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_tester, "TEST_MAX_S", 1.0)
    Handler.hangs = True
    found = report_of(server)
    assert step(found, "call").outcome == "failed"
    assert "first_byte_max_s" in step(found, "call").remedy


def test_a_tenants_upstream_is_asked_at_public_addresses_only(server: str) -> None:
    port = server.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        found = report_of(f"http://{host}:{port}", tenant="acme")
        assert "no public address" in step(found, "connection").message
        assert outcomes(found)[1:] == ["failed", "skipped", "skipped"]
    assert Handler.seen == []


def test_only_so_many_are_tested_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_tester, "TESTS_MAX", 0)
    with pytest.raises(ApiError, match="Other upstreams are being tested"):
        report_of("http://127.0.0.1:1/v1")


def test_a_tenant_tests_one_at_a_time_and_leaves_one_to_the_platform() -> None:
    async def run() -> list[str]:
        client = HttpClient(resolver=PublicResolver())
        tester = HttpUpstreamTester(client, client, lambda _: None, vendor_of, ImageFetcher(client))
        url = "http://localhost:1/v1"  # no public address
        asked = [
            tester.test(Upstream("up", base_url=url, tenant=tenant), None, {})
            for tenant in ("a", "a", "b", "c", "d", "")
        ]
        found = await asyncio.gather(*asked, return_exceptions=True)
        client.close()
        return [one.code if isinstance(one, ApiError) else type(one).__name__ for one in found]

    done, busy = UpstreamReport.__name__, "server_busy"
    assert asyncio.run(run()) == [done, busy, done, done, busy, done]
