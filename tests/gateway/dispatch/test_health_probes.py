"""Upstreams that nobody calls are asked whether they are there, over real sockets."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from tests.fakes import GRANT, FakeHouse, call_of
from tests.small_server import JsonHandler, serving
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.routing.health import CONSECUTIVE_FAILURES_MAX
from tokenschain.gateway.dispatch import health_probes
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.health_probes import Probes
from tokenschain.gateway.dispatch.router import Router
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import HttpClient

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


class Engine(JsonHandler):
    status = 200
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self._send(self.status, {})


def test_idle_and_open_upstreams_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_probes, "PROBE_S", 0.02)
    monkeypatch.setattr(health_probes, "IDLE_S", 0.0)
    Engine.asked, Engine.status = [], 200
    reported: list[tuple[str, str]] = []

    def report(event: str, /, why: str = "", **fields: object) -> None:
        reported.append((str(fields["upstream"]), event))

    async def run(url: str) -> None:
        served = FakeHouse(engine=["x"], cloud=["x"]).served()
        snapshot = served.get()
        engine = msgspec.structs.replace(
            snapshot.upstreams["engine"], base_url=f"{url}/v1", probe_path="/health"
        )
        upstreams = snapshot.upstreams | {"engine": engine}
        served.replace(msgspec.structs.replace(snapshot, version="2", upstreams=upstreams))
        client = HttpClient()
        clouds = HttpUpstreams(
            client, lambda _: None, vendor_of, lambda *_: None, ImageFetcher(client)
        )
        router = Router(served, time.monotonic, time.time, lambda: 0.5)
        dispatch = Dispatch(router, clouds, time.monotonic, lambda: 0.5, report)
        call = call_of(BODY)
        call.parsed, call.caller = parse(Api.CHAT, BODY), GRANT
        plan = router.plan(call, GRANT)
        found = {e.name: e for e in router.endpoints(plan)}["engine"]
        probes = Probes(
            router,
            dispatch.health,
            time.monotonic,
            clouds.probe,
            report,
        )
        task = asyncio.create_task(probes.run())
        await asyncio.sleep(0.3)
        assert set(Engine.asked) == {"/health"} and not found.health.is_open
        # It dies while nobody calls: the next caller is not the one who finds out.
        Engine.status = 503
        await asyncio.sleep(0.2 + CONSECUTIVE_FAILURES_MAX * 0.05)
        assert found.health.is_open and reported == [("engine", "breaker_open")]
        # It comes back: whoever calls next is let through at once.
        found.health.reopens_at = time.monotonic() + 60
        Engine.status = 200
        await asyncio.sleep(0.2)
        assert ("engine", "breaker_answers_probe") in reported
        assert found.health.allows(time.monotonic())
        task.cancel()
        client.close()

    with serving(Engine) as url:
        asyncio.run(run(url))
