"""Alerts: open and past, and targets that are added, tested and taken away."""

from __future__ import annotations

import time

import pytest

from tests.console.visitors import Browser, House, Page, inline_code
from tests.control.identity.test_sign_ups import code_of, letters
from tokenschain.console.alerts import AlertRow
from tokenschain.control.observability import alerts
from tokenschain.core.cache.semantic_protocol import Report

DAY_S = 86_400
NOW_S = 1_790_000_000
HOSTILE = "<img src=x onerror=alert(1)>\u202e长🙂"


def _alert(kind: str, at_s: int, sent: bool = True, **detail: object) -> AlertRow:
    return AlertRow("a", "", at_s, kind, detail, 1, at_s if sent else None, "[]")


def test_an_alert_is_open_while_it_holds() -> None:
    september_s = 1_788_192_000  # 2026-09-01 00:00 in Shanghai
    month = _alert("budget_reached", september_s, period="month", period_s=september_s)
    assert month.is_open(september_s + 30 * DAY_S - 1)
    assert not month.is_open(september_s + 30 * DAY_S)
    day = _alert("budget_forecast", NOW_S, period="day", period_s=NOW_S)
    assert day.is_open(NOW_S + DAY_S - 1) and not day.is_open(NOW_S + DAY_S)
    assert _alert("budget_reached", 1, period="total", period_s=0).is_open(NOW_S)
    assert _alert("records_rejected", NOW_S).is_open(NOW_S + 10)
    assert not _alert("records_rejected", NOW_S).is_open(NOW_S + DAY_S)
    assert not _alert("test", NOW_S).is_open(NOW_S)
    assert _alert("test", NOW_S, sent=False).is_open(NOW_S + 10 * DAY_S)


def test_alerts_are_told_in_the_readers_language(house: House) -> None:
    report = [Report("alpha/p1/secret-of-alpha", 0.01, 0.031, 0.02, 0.05, 400, 9_000, None, [])]
    assert alerts.look_at_cache(house.platform.engine, report, time.time()) == 1
    words = Page(house.browser("alpha", "finance").get("/console/alerts").text).words
    assert "3.10% are false (95% interval 2.00% to 5.00%, 400 checked)" in words
    words = Page(house.browser("alpha", "auditor", "zh").get("/console/alerts").text).words
    assert "secret-of-alpha 的错误命中率为 3.10%" in words
    assert "secret-of-alpha" not in house.browser("beta", "owner").get("/console/alerts").text
    fragment = house.browser("alpha", "owner").get(
        "/console/alerts", hx_request="true", hx_target="div#alerts"
    )
    assert "secret-of-alpha" in fragment.text and "<html" not in fragment.text


def test_an_upstream_that_is_down_is_told_once_an_hour_to_whose_it_is(house: House) -> None:
    down = {"cloud-x": "the last 3 calls failed (upstream_timeout)", "alpha/own-x": "refused"}
    engine = house.platform.engine
    assert alerts.look_at_upstreams(engine, down, 1.8e9) == 2
    assert alerts.look_at_upstreams(engine, down, 1.8e9 + 60) == 0
    assert alerts.look_at_upstreams(engine, down, 1.8e9 + 3_600) == 2
    words = Page(house.browser("alpha", "owner").get("/console/alerts").text).words
    assert "Upstream alpha/own-x is down: refused" in words and "cloud-x" not in words
    assert "own-x" not in house.browser("beta", "owner").get("/console/alerts").text
    platform = Page(house.as_person("tco-of-the-operator").get("/console/alerts").text).words
    assert "Upstream cloud-x is down: the last 3 calls failed" in platform


def test_an_alert_is_acknowledged_by_one_and_stays_theirs(house: House) -> None:
    report = [Report("alpha/p1/unattended", 0.01, 0.031, 0.02, 0.05, 400, 9_000, None, [])]
    alerts.look_at_cache(house.platform.engine, report, time.time())
    ((alert,),) = house.platform.rows("SELECT id FROM alerts WHERE detail LIKE '%unattended%'")
    form = {"alert": alert}
    for tenant, role, status in (("alpha", "auditor", 403), ("beta", "owner", 404)):
        refused = house.browser(tenant, role).post("/console/alerts/acknowledge", form)
        assert refused.status_code == status, tenant
    by = f"SELECT acknowledged_by FROM alerts WHERE id = '{alert}'"
    assert house.platform.rows(by) == [(None,)]
    assert f'value="{alert}"' not in house.browser("alpha", "auditor").get("/console/alerts").text
    first = house.platform.person("alpha", "finance")
    browser = house.as_person(first.token)
    assert f'value="{alert}"' in browser.get("/console/alerts").text
    assert browser.post("/console/alerts/acknowledge", form).status_code == 303
    again = house.browser("alpha", "owner").post("/console/alerts/acknowledge", form)
    assert again.status_code == 303 and house.platform.rows(by) == [(first.id,)]
    assert first.id in browser.get("/console/alerts").text
    noted = f"SELECT count(*) FROM audit_events WHERE target = '{alert}'"
    assert house.platform.rows(noted) == [(1,)]


def test_a_target_is_added_tested_and_taken_away_by_name(house: House) -> None:
    browser = house.browser("alpha", "finance")
    form = {"of": "alpha", "kind": "webhook", "name": HOSTILE, "secret": "s3cret-of-hook",
            "address": "https://hook.example.com/token-1", "once": "t-1"}  # fmt: skip
    wrong = browser.post("/console/alerts/target/new", form | {"address": "http://10.0.0.1/x"})
    assert wrong.status_code == 400 and "not public" in wrong.text
    assert "s3cret-of-hook" not in wrong.text and "<img" not in wrong.text
    assert browser.post("/console/alerts/target/new", form | {"once": "t-2"}).status_code == 303
    text = browser.get("/console/alerts").text
    assert "&lt;img" in text and "<img" not in text and "token-1" not in text
    assert not inline_code(text.replace(" onerror=", ""))
    (target,) = house.platform.rows("SELECT id FROM alert_targets WHERE tenant = 'alpha'")[0]
    tested = browser.post("/console/alerts/target/test", {"target": target})
    assert tested.status_code == 303
    assert "on its way" in browser.get(tested.headers["location"]).text
    assert house.platform.rows(f"SELECT count(*) FROM alerts WHERE detail LIKE '%{target}%'") == [
        (1,)
    ]
    page = browser.get(f"/console/alerts/target/remove?target={target}")
    assert page.status_code == 200 and "<img" not in page.text
    gone = {"target": target, "typed": "another"}
    assert browser.post("/console/alerts/target/remove", gone).status_code == 400
    done = browser.post("/console/alerts/target/remove", gone | {"typed": HOSTILE})
    assert done.status_code == 303
    assert house.platform.rows("SELECT id FROM alert_targets WHERE tenant = 'alpha'") == []


def test_a_mail_address_is_confirmed_by_a_button_behind_its_link(house: House) -> None:
    browser = house.browser("alpha", "finance")
    form = {"of": "alpha", "kind": "email", "name": "mail", "address": "m@a.example"}
    assert browser.post("/console/alerts/target/new", form).status_code == 303
    assert "Not confirmed" in browser.get("/console/alerts").text
    link = f"/console/confirm-alerts?code={code_of(letters(house.platform)[-1])}"
    reader = Browser(house.console)
    for _ in range(2):
        asked = reader.get(link)  # as what scans mails does
        assert asked.status_code == 200 and not inline_code(asked.text)
    assert "Not confirmed" in browser.get("/console/alerts").text
    code = {"code": link.partition("=")[2]}
    done = reader.post("/console/confirm-alerts", code)
    assert done.status_code == 200 and "Confirmed" in done.text
    assert "set-cookie" not in done.headers
    assert reader.post("/console/confirm-alerts", code).status_code == 401
    assert "Not confirmed" not in browser.get("/console/alerts").text


@pytest.mark.parametrize(("tenant", "role"), [("alpha", "auditor"), ("beta", "owner")])
def test_others_targets_are_left_alone(house: House, tenant: str, role: str) -> None:
    body = {"tenant": "alpha", "kind": "email", "name": "ours", "address": "ops@alpha.example"}
    target = house.platform.operator("POST", "/alert-targets", body).json()["id"]
    browser = house.browser(tenant, role)
    form = {"target": target, "typed": "ours"}
    for path in ("test", "remove"):
        reply = browser.post(f"/console/alerts/target/{path}", form)
        assert reply.status_code in (403, 404), path
    new = {"of": "alpha", "kind": "email", "name": "theirs", "address": "a@b.example"}
    assert browser.post("/console/alerts/target/new", new).status_code == 403
    text = browser.get("/console/alerts").text
    assert (
        ("ours" in text) == (tenant == "alpha") and "/target/test" not in text
    ) or role == "owner"
    assert house.platform.operator("DELETE", f"/alert-targets/{target}").status_code == 200


def test_good_news_says_what_is_watched(house: House) -> None:
    words = Page(house.browser("gamma", "owner").get("/console/alerts").text).words
    assert "All is well" in words and "Budget forecast" in words and "nobody is told" in words
