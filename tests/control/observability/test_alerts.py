"""Alerts: found once, sent until they arrive, signed as each receiver checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import Engine, select

from tests import web
from tests.ports import free_port
from tests.small_server import JsonHandler, serving
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.control.observability import alerts
from tokenschain.core.cache.semantic_protocol import Report
from tokenschain.core.gateway_status import GatewayStatus, PackStatus
from tokenschain.infra.database.tables import alerts as alerts_table

SECRET = "SEC-of-the-receiver"


@contextmanager
def receivers() -> Iterator[tuple[str, list[Any]]]:
    """One server that checks what DingTalk, Feishu, WeCom and a webhook's owner check."""
    got: list[Any] = []
    failing = {"webhook": 1}  # it is down for the first try

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            body, parts = json.loads(raw), urlsplit(self.path)
            query = parse_qs(parts.query)
            kind = parts.path.strip("/")
            if kind == "dingtalk":
                stamp, sign = query["timestamp"][0], query["sign"][0]
                right = hmac.new(SECRET.encode(), f"{stamp}\n{SECRET}".encode(), hashlib.sha256)
                fresh = abs(time.time() * 1e3 - int(stamp)) < 3_600_000
                ok = fresh and base64.b64decode(sign) == right.digest()
                text = body["text"]["content"]
                answer = {"errcode": 0 if ok and body["msgtype"] == "text" else 310000}
            elif kind == "feishu":
                key = f"{body['timestamp']}\n{SECRET}".encode()
                right = hmac.new(key, b"", hashlib.sha256)
                ok = base64.b64decode(body["sign"]) == right.digest()
                text = body["content"]["text"]
                answer = {"code": 0 if ok else 19021}
            elif kind == "wecom":
                ok, text = query["key"] == ["k"], body["text"]["content"]
                answer = {"errcode": 0}
            else:
                if failing["webhook"] > 0:
                    failing["webhook"] -= 1
                    self._send(503, {})
                    return
                fields = dict(f.split("=", 1) for f in self.headers["x-tc-signature"].split(","))
                signed = f"{fields['t']}.".encode() + raw
                right = hmac.new(SECRET.encode(), signed, hashlib.sha256)
                ok = hmac.compare_digest(right.hexdigest(), fields["v1"])
                text, answer = body["text"], {}
            assert ok, kind
            got.append((kind, text, body))
            self._send(200, answer)

    with serving(Handler) as url:
        yield url, got


class Mailbox:
    def __init__(self) -> None:
        self.letters: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.letters.append(envelope)
        return "250 OK"


@pytest.mark.timeout(90)
def test_a_budget_half_used_is_said_once_to_everyone(
    own_stack: Any, upstream: UpstreamSimulator
) -> None:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    with receivers() as (url, got):
        stack = own_stack(
            alerts={"networks": "127.0.0.0/8"},
            smtp={"host": "127.0.0.1", "port": controller.port, "tls": False},
        ).start()  # fmt: skip
        for kind, address in (
            ("webhook", f"{url}/webhook"),
            ("dingtalk", f"{url}/dingtalk?access_token=t"),
            ("feishu", f"{url}/feishu"),
            ("wecom", f"{url}/wecom?key=k"),
            ("email", "ops@example.com"),
        ):
            made = stack.admin(
                "POST", "/api/v1/alert-targets",
                json={"kind": kind, "name": kind, "address": address, "secret": SECRET},
            )  # fmt: skip
            assert made.status_code == 201, made.text
        asked = {"tenant": "default", "kind": "email", "name": "n", "address": "new@example.com"}
        waiting = stack.admin("POST", "/api/v1/alert-targets", json=asked).json()
        assert waiting["confirmed_at_s"] is None
        listed = stack.admin("GET", "/api/v1/alert-targets").text
        assert SECRET not in listed and "access_token" not in listed
        budget = {"kind": "budget", "measure": "requests", "amount": 10, "period": "total",
                  "match": {"tenant": "default"}, "alerts": [50, 100]}  # fmt: skip
        assert stack.admin("PUT", "/api/v1/limits/calls", json=budget).status_code == 200
        stack.until_served()
        for _ in range(6):
            assert stack.chat().status_code == 200
        until(lambda: len(got) >= 4 and len(mailbox.letters) >= 2, 60)
        time.sleep(1.5 * alerts.LOOK_S)  # another look finds nothing new to say
        to = sorted(one.rcpt_tos[0] for one in mailbox.letters)
        assert to == ["new@example.com", "ops@example.com"], "who did not confirm gets no alert"
        path = f"/api/v1/alert-targets/{waiting['id']}/test"
        assert stack.admin("POST", path).status_code == 409
        letter = next(one for one in mailbox.letters if one.rcpt_tos == ["new@example.com"])
        text = message_from_bytes(letter.content).get_payload(decode=True).decode()
        code = text.partition("?code=")[2].split()[0]
        base = f"http://127.0.0.1:{stack.control_port}"
        assert web.get(f"{base}/console/confirm-alerts?code={code}", timeout=10).status_code == 200
        confirm = partial(web.post, f"{base}/api/v1/alert-targets/confirm", timeout=10)
        statuses = [confirm(json={"code": code}).status_code for _ in range(2)]
        assert statuses == [200, 401], "a link works once"
        assert stack.admin("POST", path).status_code == 201
        until(lambda: len(mailbox.letters) >= 3, 60)
    controller.stop()
    assert sorted(kind for kind, _, _ in got) == ["dingtalk", "feishu", "webhook", "wecom"]
    for kind, text, _ in got:
        assert "50 %" in text and ("预算" in text or kind == "webhook"), text
    event = next(body for kind, _, body in got if kind == "webhook")
    assert event["type"] == "budget_reached" and event["detail"]["percent"] == 50
    assert mailbox.letters[2].rcpt_tos == ["new@example.com"]
    data = stack.admin("GET", "/api/v1/alerts").json()["data"]
    seen = [one for one in data if one["kind"] != "test"]
    assert len(seen) == 1 and seen[0]["sent_at_s"] and seen[0]["tries"] == 2


def test_a_test_message_reaches_just_its_target(own_stack: Any) -> None:
    with receivers() as (url, got):
        stack = own_stack(alerts={"networks": "127.0.0.0/8"}).start("control")
        robots = [("feishu", f"{url}/feishu"), ("wecom", f"{url}/wecom?key=k")]
        made = [
            stack.admin("POST", "/api/v1/alert-targets",
                        json={"kind": kind, "name": kind, "address": address,
                              "secret": SECRET if kind == "feishu" else ""}).json()["id"]
            for kind, address in robots
        ]  # fmt: skip
        said = stack.admin("POST", f"/api/v1/alert-targets/{made[1]}/test").json()

        def arrived() -> Any:
            (seen,) = stack.admin("GET", "/api/v1/alerts").json()["data"]
            return seen if seen["sent_at_s"] else None

        seen = until(arrived, 60)
    assert (seen["id"], seen["targets_left"]) == (said["id"], "[]")
    assert [(kind, "测试消息" in text) for kind, text, _ in got] == [("wecom", True)]
    assert stack.admin("POST", "/api/v1/alert-targets/tgt_none/test").status_code == 404


def test_a_name_that_points_into_the_house_is_not_reached(own_stack: Any) -> None:
    """`localhost` passes as a name and is refused when it is resolved."""
    hits: list[str] = []

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            hits.append(self.path)
            self._send(200, {})

    with serving(Handler) as url:
        stack = own_stack().start("control")
        made = stack.admin(
            "POST", "/api/v1/alert-targets",
            json={"kind": "webhook", "name": "inside",
                  "address": url.replace("127.0.0.1", "localhost")},
        )  # fmt: skip
        assert made.status_code == 201
        budget = {"kind": "budget", "measure": "requests", "amount": 0, "period": "total",
                  "alerts": [100], "match": {"tenant": "default"}}  # fmt: skip
        stack.admin("PUT", "/api/v1/limits/none", json=budget)
        engine_rows = "insert into budget_counts values ('default/none', '', 0, '', 0, 1, 0)"
        import sqlite3

        with sqlite3.connect(stack.folder / "data" / "tokenschain.db") as connection:
            connection.execute(engine_rows)

        def tried() -> Any:
            found = stack.admin("GET", "/api/v1/alerts").json()["data"]
            return found if found and found[0]["tries"] else None

        seen = until(tried, 60)
    assert seen[0]["tries"] >= 1 and seen[0]["sent_at_s"] is None
    assert not hits


def test_too_many_wrong_answers_from_the_cache_are_said_once_a_day(engine: Engine) -> None:
    def report(group: str, low: float) -> Report:
        return Report(group, 0.01, 0.03, low, 0.06, 400, 2_000, 0.9, [])

    noon = 20_000 * 86_400 + 43_200.0
    wrong = [report("a/p/m", 0.015), report("b/p/m", 0.02), report("c/p/m", 0.009)]
    assert [alerts.look_at_cache(engine, wrong, noon + s) for s in (0, 600, 86_400)] == [2, 0, 2]
    with engine.connect() as connection:
        rows = connection.execute(
            select(alerts_table).order_by(alerts_table.c.at_s, alerts_table.c.tenant)
        ).all()
    assert [(row.tenant, row.kind) for row in rows] == [
        ("a", "cache_false_hits"),
        ("b", "cache_false_hits"),
    ] * 2
    zh, en = alerts.words("cache_false_hits", "a", json.loads(rows[0].detail))
    assert "a/p/m" in zh and "3.00%" in zh and "1.00%" in zh
    assert "a/p/m" in en and "1.50% to 6.00%" in en and "400 checked" in en


def test_a_pack_that_nobody_renews_is_said_once_a_week(engine: Engine) -> None:
    monday = 3_000 * 7 * 86_400.0

    def gateway(*packs: PackStatus) -> GatewayStatus:
        return GatewayStatus(
            "g", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0, packs=packs, words_missing=9_000
        )

    fresh = PackStatus("fresh", "1", monday - 6 * 86_400, 10, 0)
    old = PackStatus("old", "1", monday - 8 * 86_400, 10, 0)
    expired = PackStatus("expired", "2", monday, 10, 3)
    seen = [gateway(fresh, old, expired), gateway(old)]
    assert [alerts.look_at_packs(engine, seen, monday + s) for s in (0, 600, 7 * 86_400)] == [
        2, 0, 3,
    ]  # fmt: skip
    with engine.connect() as connection:
        rows = connection.execute(
            select(alerts_table).where(
                alerts_table.c.kind == "moderation_packs_stale", alerts_table.c.at_s == monday
            )
        ).all()
    said = {json.loads(row.detail)["subject"][0]: json.loads(row.detail) for row in rows}
    assert said.keys() == {"old", "expired"}
    zh, en = alerts.words("moderation_packs_stale", "", said["old"])
    assert "old 1" in zh and "8" in zh and "9000" in zh
    assert "8 days ago" in en and "9000 words" in en
    assert not alerts.look_at_packs(engine, [], monday), "no pack is installed: nothing is said"


def test_what_would_not_last_is_foretold() -> None:
    from tokenschain.control.billing.limits import period_of
    from tokenschain.control.observability.alerts import _findings
    from tokenschain.core.limits import Budget

    begins, ends = period_of("month", 1_764_000_000)
    middle = (begins + ends) / 2
    budget = Budget("b", "tokens", 1_000)
    assert [kind for kind, _ in _findings(budget, "", 600, [], middle)] == ["budget_forecast"]
    assert not _findings(budget, "", 400, [], middle)
    assert not _findings(budget, "", 99, [50], begins + 60), "too early to foretell"
    reached = _findings(budget, "", 1_200, [50, 80, 100], middle)
    assert [detail["percent"] for _, detail in reached] == [50, 80, 100]
