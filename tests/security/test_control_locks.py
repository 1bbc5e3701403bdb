"""Lock contention at control: readers and strangers wait for no writer."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError
from sqlalchemy import Engine, text

from tests import web
from tests.security.platform import OPERATOR, Platform, platform
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.control import api as api_package
from tokenschain.control.api import app as app_module
from tokenschain.control.api import cache as cache_api
from tokenschain.control.api.context import RequestContext
from tokenschain.control.cache import semantic_client
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.identity import users
from tokenschain.core.cache.semantic_protocol import LabelledPair, PairsTaught
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import ModelRoute, Snapshot
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.upstream_report import UpstreamReport
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.client import HttpClient


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("locks")) as made:
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def test_reading_and_refusing_go_on_while_another_writes(house: Platform) -> None:
    viewer = house.person("acme", "viewer")
    with house.engine.begin():  # nobody else may write meanwhile: whoever tries gets 503
        assert viewer("GET", "/keys").status_code == 200
        assert house.client.get("/readyz").status_code == 200
        for method, path in (("POST", "/keys"), ("DELETE", "/tokens/x"), ("PATCH", "/users/x")):
            unknown = house.client.request(method, f"/api/v1{path}", json={})
            assert unknown.status_code == 401, (method, path)
        denied = {"email": "a@b.example", "tenant": "acme", "name": "A"}
        assert viewer("POST", "/users", denied).status_code == 403


def test_passwords_are_compared_while_others_may_write(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(row: object, password: str) -> bool:
        with house.engine.begin():  # refused with 503 where the sign-in holds the lock
            compared.append(password)
        return False

    monkeypatch.setattr(users, "password_right", compare)
    login = {"email": "a@acme.example", "password": "wrong wrong wrong"}
    assert house.client.post("/api/v1/sessions", json=login).status_code == 401
    change = {"old": "wrong wrong wrong", "new": "a longer and better password"}
    member = house.person("acme", "viewer", password="right right right")
    assert member("POST", "/me/password", change).status_code == 401
    assert len(compared) == 2


NOTED = {"/api/v1/calls/export", "/api/v1/cache/query-clusters"}
"""What reads and is written down for the audit, once it has read."""


def test_no_route_that_reads_waits_for_a_writer(house: Platform) -> None:
    owner = house.person("acme", "owner")
    asked = 0
    with house.engine.begin():
        for subject in app_module.ADMIN_SUBJECTS:
            for route in subject.router.routes:
                assert isinstance(route, APIRoute)
                if route.methods != {"GET"} or route.path in NOTED or "oidc" in route.path:
                    continue
                path = route.path.removeprefix("/api/v1").replace("{revision}", "1")
                path = re.sub(r"\{\w+\}", "acme", path)
                queries = {
                    field.alias: field.field_info.examples[0]
                    for field in route.dependant.query_params
                    if field.field_info.examples
                }
                reply = owner("GET", path, params=queries)
                assert reply.status_code in (200, 403, 404), (path, reply.text)
                asked += 1
    assert asked > 20


def test_what_reading_writes_down_is_written_when_it_has_read(house: Platform) -> None:
    finance = house.person("acme", "finance")
    export = "/calls/export?from_s=1764000000&until_s=1764000001"
    assert finance("GET", export).status_code == 200
    assert house.rows(f"select action, tenant from audit_events where actor = '{finance.id}'") == [
        ("usage:export", "acme")
    ]
    assert house.person("acme", "viewer")("GET", export).status_code == 403
    assert house.rows("select count(*) from audit_events where action = 'usage:export'") == [(1,)]


def test_writers_that_come_together_all_get_their_turn(house: Platform) -> None:
    owner = house.person("acme", "owner")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: owner("POST", "/keys", {"tenant": "acme", "name": f"k{n}"}),
                             range(24)))  # fmt: skip
    assert {reply.status_code for reply in made} == {201}


def test_a_token_that_ends_before_the_change_begins_changes_nothing(house: Platform) -> None:
    owner = house.person("acme", "owner")
    with ThreadPoolExecutor(1) as pool, house.engine.begin() as connection:
        waiting = pool.submit(owner, "POST", "/keys", {"tenant": "acme", "name": "late"})
        while not waiting.running():
            pass
        connection.exec_driver_sql("DELETE FROM tokens WHERE user_id = ?", (owner.id,))
    assert waiting.result().status_code == 401
    assert house.rows("select count(*) from api_keys where name = 'late'") == [(0,)]


# --- those who wait for other processes -----------------------------------------------------


class Slow:
    """In place of the semantic processes and of upstreams: others write while it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[str] = []

    def _write(self, what: str) -> None:
        with self._engine.begin() as connection:  # it raises where another writes for long
            connection.execute(text("update meta set value = value"))
        self.asked.append(what)

    async def teach(self, *_: Any) -> list[PairsTaught]:
        self._write("teach")
        return [PairsTaught(1, 0, 1, 150, None)]

    async def test(self, *_: Any) -> UpstreamReport:
        self._write("test")
        return UpstreamReport(())


@pytest.fixture
def slow(house: Platform) -> Iterator[Slow]:
    state, found = house.app.state, Slow(house.engine)
    before = state.context
    publisher = before.publisher
    served, publisher.snapshot = publisher.snapshot, Snapshot(
        "v", {}, {"m": ModelRoute("m", "chat", ())}, cache=CacheRules(mode="semantic")
    )  # fmt: skip
    state.context = before._replace(semantic=found, upstream_tester=found)
    yield found
    state.context, publisher.snapshot = before, served


PAIRS = {"tenant": "acme", "project": "faq", "model": "m", "pairs": [{"a": "x", "b": "y", "y": 1}]}
SPEC = {"spec": {"provider": "custom", "base_url": "https://a.example/v1", "models": ["m"],
                 "prices": {"m": {"currency": "CNY", "input": "1", "output": "1"}}}}  # fmt: skip
ASKING: dict[str, tuple[str, dict[str, Any]]] = {
    "POST /api/v1/cache/pairs": ("/cache/pairs", PAIRS),
    "POST /api/v1/upstreams/{resource_name:path}/test": ("/upstreams/one/test", SPEC),
}
"""Routes that change something and ask another process, or the network."""


def test_others_write_while_a_route_waits_for_another_process(house: Platform, slow: Slow) -> None:
    unit = {"kind": "project", "tenant": "acme", "name": "faq"}
    assert house.operator("POST", "/organization/units", unit).status_code in (201, 409)
    for number, (path, body) in enumerate(ASKING.values(), 1):
        headers = {"authorization": f"Bearer {OPERATOR}", "idempotency-key": f"once {path}"}
        replies = [
            house.client.post(f"/api/v1{path}", json=body, headers=headers) for _ in range(2)
        ]
        assert [reply.status_code for reply in replies] == [200, 200], replies[0].text
        assert replies[1].headers["idempotent-replay"] == "true"
        assert len(slow.asked) == number, "what was done before asks nobody again"


def test_every_route_that_waits_is_among_them() -> None:
    waits = re.compile(r"wait_for\(|_from_processes\(")
    found = {
        f"{method} {route.path}"
        for subject in app_module.ADMIN_SUBJECTS
        for route in subject.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
        if method != "GET" and waits.search(inspect.getsource(route.endpoint))
    }
    assert found == set(ASKING)
    folder = Path(api_package.__path__[0])
    threads = {one.name for one in folder.glob("*.py") if "from_thread" in one.read_text("utf-8")}
    assert threads == {"context.py"}, "other routes wait through it"


def test_who_waits_with_a_transaction_begun_is_told_so() -> None:
    nothing: Any = None
    asked = RequestContext(
        nothing, nothing, nothing, None, lambda: nothing, lambda: None, reads=False
    )
    asked._db = nothing = object()
    with pytest.raises(RuntimeError, match="others would wait"):
        asked.wait_for(asyncio.sleep, 0)


def test_pairs_at_once_are_few_and_short() -> None:
    def taken(*pairs: tuple[str, str]) -> bool:
        rows = [{"a": a, "b": b, "y": 1} for a, b in pairs]
        with contextlib.suppress(ValidationError):
            return bool(cache_api.PairsToLearn.model_validate(PAIRS | {"pairs": rows}))
        return False

    assert taken(*[("x", "y")] * 20) and not taken(*[("x", "y")] * 21)
    assert taken(("😀" * 2_000, "😀" * 2_000)), "one of the longest"
    assert not taken(("长" * 2_000, "长" * 2_000), ("长" * 1_000, "长" * 1_000))


def test_a_process_that_hangs_ends_a_lesson_in_time_and_takes_one_slot_of_a_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert semantic_client.TEACH_MAX_S < app_module.REQUEST_MAX_S / 1.5
    monkeypatch.setattr(semantic_client, "TEACH_MAX_S", 0.5)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def lessons() -> list[Any]:
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            client = HttpClient()
            processes = SemanticProcesses(
                [url], Signatures(INTERNATIONAL, lambda: ["s" * 32], time.time), client
            )
            pairs = [LabelledPair("a", "b", same=True)]
            asked = [
                processes.teach(tenant, "g", pairs, 0.05)
                for tenant in ("acme", "acme", "beta", "gamma", "*")
            ]
            found = await asyncio.gather(*asked, return_exceptions=True)
            client.close()
            return found

    said = asyncio.run(lessons())
    assert [one.code if isinstance(one, ApiError) else one for one in said] == [
        [], "server_busy", [], "server_busy", [],
    ]  # fmt: skip


# --- over sockets ---------------------------------------------------------------------------

SIGN_INS = 40
ANSWERED_MAX_S = 5.0
"""A request of an administrator while so many sign in; it took 7 to 8 s when they held the lock."""


def test_an_administrator_is_answered_while_many_sign_in(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path_factory.mktemp("sign_ins"), upstream.base_url).start("control")
    url = f"http://127.0.0.1:{stack.control_port}/api/v1/sessions"

    def sign_in(number: int) -> int:
        body = {"email": f"u{number}@x.example", "password": "wrong wrong wrong"}
        return web.post(url, json=body, headers={"x-forwarded-for": "6.6.6.6"},
                        timeout=30).status_code  # fmt: skip

    try:
        stack.admin("GET", "/api/v1/keys")
        waits = []
        with ThreadPoolExecutor(SIGN_INS) as pool:
            running = [pool.submit(sign_in, number) for number in range(SIGN_INS)]
            while not waits or not all(one.done() for one in running):
                began = time.monotonic()
                assert stack.admin("GET", "/api/v1/keys").status_code == 200
                made = stack.admin("POST", "/api/v1/keys", json={"name": "k"})
                assert made.status_code == 201
                waits.append(time.monotonic() - began)
        assert {one.result() for one in running} == {401}
        assert max(waits) < ANSWERED_MAX_S, waits
        rows = stack.rows("select distinct address from audit_events where action = 'login:failed'")
        assert [row["address"] for row in rows] == ["127.0.0.1"], "whoever is there says anything"
    finally:
        stack.close()


def test_a_trusted_proxy_is_believed_and_clipped(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator
) -> None:
    stack = Stack(tmp_path_factory.mktemp("proxy"), upstream.base_url,
                  control={"trusted_proxies": ["127.0.0.0/8"]}).start("control")  # fmt: skip
    url = f"http://127.0.0.1:{stack.control_port}/api/v1/sessions"
    body = {"email": "u@x.example", "password": "wrong wrong wrong"}
    try:
        for said in ("6.6.6.6, 203.0.113.5", "203.0.113.6, 127.0.0.2", "x" * 300):
            reply = web.post(url, json=body, headers={"x-forwarded-for": said}, timeout=30)
            assert reply.status_code == 401
        rows = stack.rows("select address from audit_events where action = 'login:failed'")
        assert {row["address"] for row in rows} == {"203.0.113.5", "203.0.113.6", "x" * 64}
    finally:
        stack.close()
