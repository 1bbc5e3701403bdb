"""Turns: what one address or tenant asks for, however often, keeps no other waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from fastapi import Request
from sqlalchemy import Connection, insert

from tests.security.platform import Platform, platform
from tokenschain.control.api import sessions, usage, wrong_tokens
from tokenschain.control.api.sessions import SignIns
from tokenschain.control.identity import oidc, shares, tokens
from tokenschain.control.identity.roles import bind
from tokenschain.control.observability import alert_targets, alerts
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.core.log_events import silent
from tokenschain.infra.database.tables import alerts as alerts_table

NOBODY: Any = None
FEW = 10


def test_who_signs_in_from_a_new_address_is_let_in_while_others_fill_the_queue() -> None:
    async def run() -> None:
        sign_ins, release, order = SignIns(), threading.Event(), []

        async def sign_in(place: str) -> str:
            def work() -> None:
                release.wait()
                order.append(place)

            try:
                await sign_ins.run(place, work)
            except ApiError:
                return "refused"
            return "let in"

        attackers = 9
        flood = [
            asyncio.create_task(sign_in(f"a{number % attackers}"))
            for number in range(attackers * sessions.WAITING_OF_PLACE_MAX)
        ]
        await asyncio.sleep(0.05)
        other = asyncio.create_task(sign_in("somebody"))
        gone = asyncio.create_task(sign_in("who leaves"))
        await asyncio.sleep(0.05)
        gone.cancel()
        release.set()
        assert await other == "let in"
        at = order.index("somebody")
        assert at <= sessions.AT_ONCE_MAX + 2 * attackers, "addresses take turns"
        results = await asyncio.gather(*flood)
        assert "refused" in results and results.count("let in") >= sessions.WAITING_MAX - 2
        assert not sign_ins._waiting and not sign_ins._running
        assert await sign_in("later") == "let in"

    asyncio.run(run())


def test_wrong_tokens_of_an_address_have_a_rate_and_right_ones_none(tmp_path: Path) -> None:
    with platform(tmp_path) as over:
        assert over.operator("GET", "/me").status_code == 200
        wrong = over.with_token("tcs-wrong", "nobody")
        assert wrong_tokens.PER_MINUTE_MAX <= 1_000
        over.app.state.wrong_tokens._rates = KeyedRates(FEW)
        tries = [wrong("GET", "/me").status_code for _ in range(FEW + 3)]
        assert set(tries) == {401, 429} and tries.index(429) >= FEW - 1
        limited = wrong("GET", "/me")
        assert limited.json()["error"]["code"] == "rate_limit_exceeded"
        assert over.operator("GET", "/me").status_code == 200, "who was right before is asked for"


def test_new_sessions_are_let_in_at_an_address_of_which_another_sends_wrong_tokens(
    tmp_path: Path,
) -> None:
    with platform(tmp_path) as over:
        older = over.person("default", "viewer")
        counts = over.app.state.wrong_tokens
        counts._rates = KeyedRates(FEW)
        wrong = over.with_token("tcs-wrong", "nobody")
        while wrong("GET", "/me").status_code != 429:
            pass
        # None of them was shown here before: they are as if another control had let them in.
        newer = [over.person("default", "viewer") for _ in range(3)]
        program = over.person("default", "viewer", token_kind="api")
        assert [one("GET", "/me").status_code for one in (*newer, program, older)] == [200] * 5
        assert wrong("GET", "/me").status_code == 429
        assert over.client.delete(
            "/api/v1/sessions", headers={"authorization": f"bearer {older.token}"}
        ).status_code == 200  # fmt: skip
        assert older("GET", "/me").status_code in (401, 429)


def test_a_flood_of_wrong_tokens_costs_one_look_for_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    issued_since = tokens.issued_since

    def counted(*given: Any) -> list[tuple[str, int]]:
        looks.append(given[-1])
        return issued_since(*given)

    monkeypatch.setattr(tokens, "issued_since", counted)
    with platform(tmp_path) as over:
        person = over.person("default", "viewer")
        counts = over.app.state.wrong_tokens
        counts._rates = KeyedRates(FEW)

        async def ask(token: str) -> str:
            head = (b"authorization", f"Bearer {token}".encode())
            request = Request({"type": "http", "client": ("1.2.3.4", 1), "headers": [head]})
            try:
                await counts.check(request)
            except ApiError as refused:
                return refused.code
            counts.note(request, right=False)
            return "asked for"

        async def flood() -> None:
            assert [await ask(f"tcs-{n}") for n in range(FEW)] == ["asked for"] * FEW
            begun = [ask(f"tcs-wrong-{n}") for n in range(300)]
            found = await asyncio.gather(*begun, ask(person.token))
            assert set(found[:-1]) == {"rate_limit_exceeded"} and found[-1] == "asked for"

        asyncio.run(flood())
        assert looks == [wrong_tokens.RIGHT_MAX]


def _alert(db: Connection, name: str, tenant: str, at_s: int) -> None:
    db.execute(
        insert(alerts_table).values(
            id=name, tenant=tenant, at_s=at_s, kind="test", detail="{}", next_try_s=at_s, tries=0
        )
    )


def test_a_tenant_whose_targets_never_answer_keeps_no_other_tenants_alerts(tmp_path: Path) -> None:
    now_s = int(time.time())
    with platform(tmp_path) as over:
        context = over.app.state.context
        with over.engine.begin() as db:
            for tenant in ("evil", "good"):
                alert_targets.add(
                    db, context.sealer, context.suite, tenant=tenant, kind="webhook", name="x",
                    address=f"https://{tenant}.example", secret="",
                )  # fmt: skip
            for number in range(4 * alerts.BATCH_MAX):
                _alert(db, f"e{number}", "evil", now_s - 1_000 + number)
            _alert(db, "g", "good", now_s)
        sender, asked = _Sender(over), []

        async def send(target: Any, alert: Any) -> str | None:
            asked.append(target["tenant"])
            if target["tenant"] == "evil":
                await sender.hang.wait()
                return "no answer"
            sender.hang.set()  # they are asked side by side, or this would never come
            return None

        sender._send = send  # type: ignore[method-assign]
        assert asyncio.run(asyncio.wait_for(sender.send_due(now_s), 30)) == 1
        assert asked.count("good") == 1
        before = len(asked)
        assert asyncio.run(asyncio.wait_for(sender.send_due(now_s), 30)) == 0
        assert len(asked) == before, "a target that failed so often is let rest"


class _Sender(alerts.Sender):
    def __init__(self, over: Platform) -> None:
        sealer = over.app.state.context.sealer
        super().__init__(over.engine, sealer, NOBODY, NOBODY, silent, Mock())
        self.hang = asyncio.Event()


def test_tests_and_targets_of_a_tenant_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with platform(tmp_path) as over:
        over.operator("POST", "/organization/units", {"kind": "tenant", "tenant": "a", "name": "a"})
        owner = over.person("a", "owner")
        body = {"tenant": "a", "kind": "webhook", "name": "n", "address": "https://y.example"}
        made = [owner("POST", "/alert-targets", body) for _ in range(shares.ALERT_TARGETS.most + 1)]
        assert [one.status_code for one in made[-2:]] == [201, 409]
        ids = [one.json()["id"] for one in made[:-1]]
        said = [owner("POST", f"/alert-targets/{ids[0]}/test").status_code for _ in range(2)]
        assert said == [201, 429], "a target is tested once a minute"
        tests = [owner("POST", f"/alert-targets/{one}/test").status_code for one in ids[1:]]
        assert tests.count(201) == alerts.TESTS_PER_MINUTE_MAX - 1, "and new targets change nothing"
        over.rows("update alerts set at_s = at_s - 3600 where kind = 'test' returning id")
        alerts_a_day = alerts.TESTS_PER_DAY_MAX
        monkeypatch.setattr(alerts, "TESTS_PER_DAY_MAX", tests.count(201) + 1)
        late = owner("POST", f"/alert-targets/{ids[1]}/test")
        assert late.status_code == 429 and alerts_a_day <= 50, "nor does patience"


@pytest.mark.parametrize("share", ["KEYS", "USERS", "ROLES", "UNITS", "LIMITS"])
def test_what_a_tenant_makes_is_bounded_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str
) -> None:
    with platform(tmp_path) as over:
        for tenant in ("a", "b"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert over.operator("POST", "/organization/units", unit).status_code == 201
        monkeypatch.setattr(shares, share, getattr(shares, share)._replace(most=6))

        def make(tenant: str, number: int) -> int:
            limit = {"kind": "rate", "measure": "requests", "amount": 1, "window_s": 60,
                     "match": {"tenant": tenant}}  # fmt: skip
            method, path, body = {
                "KEYS": ("POST", "/keys", {"tenant": tenant}),
                "USERS": ("POST", "/users", {
                    "tenant": tenant, "name": "n", "email": f"u{number}@x.example"}),
                "ROLES": ("PUT", f"/roles/{tenant}/r{number}", {"permissions": ["keys:read"]}),
                "UNITS": ("POST", "/organization/units", {
                    "kind": "project", "tenant": tenant, "name": f"p{number}"}),
                "LIMITS": ("PUT", f"/limits/l{number}", limit),
            }[share]  # fmt: skip
            return over.operator(method, path, body).status_code

        made = [make("a", number) for number in range(9)]
        assert made[0] < 300 and made[-1] == 409 and made.count(409) <= 4, made
        assert make("b", 0) < 300
        if share in ("ROLES", "LIMITS"):
            assert make("a", 0) < 300, "what is there may change"


def test_names_of_a_key_and_of_a_role_are_bounded(tmp_path: Path) -> None:
    with platform(tmp_path) as over:
        person = over.person("default", None)
        long, many = ["x" * 257], [f"model-{n:03}" for n in range(999)]
        for models in (long, many, ["x" * 200] * 50):
            for path, body in (
                ("/keys", {"models": models}),
                ("/playground/keys", {"models": models}),
                (f"/users/{person.id}/bindings", {"role": "developer", "tenant": "default",
                                                  "models": models}),
            ):  # fmt: skip
                refused = over.operator("POST", path, body)
                assert refused.status_code == 400, (path, refused.text)
                assert "models" in refused.json()["error"]["param"]
        network = ["1.2.3.4/32" + " " * 100]
        assert over.operator("POST", "/keys", {"networks": network}).status_code == 400
        assert over.operator("POST", "/keys", {"models": many[:400]}).status_code == 201
        # Nor does one get more by naming none: then it is what all the own roles are for.
        few = over.person("default", "developer", models=many[:400])
        assert few("POST", "/playground/keys", {}).status_code == 201
        with over.engine.begin() as db:
            bind(db, few.id, "developer", tenant="default", models=many[400:])
        assert few("POST", "/playground/keys", {}).status_code == 400
        assert few("POST", "/playground/keys", {"models": many[400:401]}).status_code == 201


def test_an_address_in_another_tenant_keeps_nobody_out_of_single_sign_on(tmp_path: Path) -> None:
    roles = {"g": "developer@b", "h": "developer@a"}
    with platform(tmp_path) as over:
        for tenant in ("a", "b"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            over.operator("POST", "/organization/units", unit)
        body = {"tenant": "a", "email": "bob@b.example", "name": "B",
                "password": "correct horse battery"}  # fmt: skip
        squatter = over.operator("POST", "/users", body).json()["id"]
        with over.engine.begin() as db:
            bob = oidc.Person("https://idp", "1", "bob@b.example", "Bob", ("g",), True)
            newcomer = oidc.Person("https://idp", "2", "new@b.example", "New", ("g",), True)
            entered = [oidc.enter(db, person, roles) for person in (bob, newcomer, bob)]
            assert all(one.user_id not in (None, squatter) for one in entered)
            assert entered[0].user_id == entered[2].user_id
            of_a = oidc.Person("https://idp", "3", "bob@b.example", "Bob", ("h",), True)
            assert oidc.enter(db, of_a, roles).user_id is None, "a local account is not joined"


def test_usage_of_many_rows_is_written_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"tenant": "a", "charge_currency": "CNY", "calls": 1, "prompt_tokens": 2,
           "completion_tokens": 3, "charge_pico": 4}  # fmt: skip
    monkeypatch.setattr(usage.ledger, "usage", lambda *_, **__: [row] * 2_500)
    with platform(tmp_path) as over:
        found = over.operator("GET", "/usage").json()["data"]
    assert found == [row] * 2_500
    pieces = list(usage._json([row] * 2_500, 7))
    assert max(map(len, pieces)) < len(b"".join(pieces)) / 2
    assert [msgspec.json.decode(b"".join(usage._json(rows, 7))) for rows in ([], [row])] == [
        {"data": [], "complete_to_s": 7}, {"data": [row], "complete_to_s": 7}
    ]  # fmt: skip
