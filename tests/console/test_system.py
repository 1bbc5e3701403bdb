"""Pages of the platform's people: what is wrong, since when and what to do; tenants; at night."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import pytest

from tests.console.test_routing import SPEC
from tests.console.visitors import House, Page
from tokenschain import __version__
from tokenschain.console.platform_state import Diagnosis, concerns
from tokenschain.console.strings import STRINGS
from tokenschain.control import gateways
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.snapshot import Snapshot, Upstream
from tokenschain.infra.security import self_test

NOW_S = 1_764_000_000.0
HOSTILE = "<img src=x onerror=alert(1)>"
WELL: dict[str, Any] = {
    "version": "1", "unix_time_s": NOW_S, "revision": 5, "published_revision": 5,
    "database": {"kind": "sqlite", "migration": "0042", "migration_latest": "0042"},
    "upstreams": [], "records": {"received": 9, "entered": 9, "rejected": 0}, "semantic": {},
    "mail_warnings": [],
    "gateways": [],
}  # fmt: skip


def _gateway(**fields: Any) -> dict[str, Any]:
    return {
        "name": "gw-0-aa", "worker": 0, "version": "1", "received_s": NOW_S - 1, "revision": 5,
        "snapshot_age_s": 1.0, "journal_backlog_bytes": 0, "journal_bytes_max": 100,
        "journal_lag_s": 0.0, "lost": {}, "rejected_revision": None, "rejected_reason": "",
        "refused_keys": [], **fields,
    }  # fmt: skip


def _upstream(**fields: Any) -> dict[str, Any]:
    return {
        "id": "cloud", "provider": "openai", "zone": "cn", "probe": "", "health": "up",
        "succeeded": 20, "failed": 0, "last_success_s": NOW_S - 90, "last_error": "",
        "unset_variables": {}, **fields,
    }  # fmt: skip


def _keys(**fields: Any) -> list[str]:
    given = WELL | {"gateways": [_gateway()], "upstreams": [_upstream()]} | fields
    return [one.key for one in concerns(msgspec.convert(given, Diagnosis))]


CASES = {
    "migration": {"database": WELL["database"] | {"migration": "0041"}},
    "unpublished": {"revision": 7},
    "rejected": {"records": WELL["records"] | {"rejected": 2}},
    "semantic": {"semantic": {"127.0.0.1:9": False}},
    "no_gateway": {"gateways": []},
    "silent": {"gateways": [_gateway(received_s=NOW_S - 90)]},
    "refused_revision": {"gateways": [_gateway(rejected_revision=6, rejected_reason="{x}")]},
    "version": {"gateways": [_gateway(version="0")]},
    "unheard": {"gateways": [_gateway(snapshot_age_s=90.0)]},
    "journal": {"gateways": [_gateway(journal_backlog_bytes=60)]},
    "lost": {"gateways": [_gateway(lost={"redis": "refused"})]},
    "refused_key": {"gateways": [_gateway(refused_keys=[{"id": "k", "tenant": "", "refused": 3}])]},
    "down": {"upstreams": [_upstream(health="down: 503")]},
    "failing": {"upstreams": [_upstream(succeeded=15, failed=5)]},
    "sign_up_without_mail": {"mail_warnings": ["sign_up_without_mail"]},
    "links_without_public_url": {"mail_warnings": ["links_without_public_url"]},
    "variable": {"upstreams": [_upstream(unset_variables={"KEY": ["gw-0"]})]},
}


def test_nothing_is_said_of_what_is_well() -> None:
    assert _keys() == []
    left = _gateway(received_s=NOW_S - 300), _gateway(name="gw-0-bb")
    assert _keys(gateways=list(left)) == [], "a process that another one took over from"


@pytest.mark.parametrize("key", CASES)
def test_each_trouble_is_found_with_words_for_it_and_for_what_to_do(key: str) -> None:
    given = WELL | {"gateways": [_gateway()], "upstreams": [_upstream()]} | CASES[key]
    (found,) = concerns(msgspec.convert(given, Diagnosis))
    assert found.key == key
    for text in STRINGS[f"concern.{key}"]:
        assert "{" not in text.format(**found.values).replace("{x}", "")
    assert f"concern.do.{key}" in STRINGS


def test_every_trouble_that_has_words_is_tried_here() -> None:
    said = {key.removeprefix("concern.") for key in STRINGS if key.startswith("concern.")}
    assert {key for key in said if not key.startswith("do.")} == CASES.keys()


def test_why_an_upstream_is_down_is_said_once() -> None:
    given = WELL | {"gateways": [_gateway()]}
    for told in ({"health": "down: refused"}, {"probe": "down: refused"}):
        (found,) = concerns(msgspec.convert(given | {"upstreams": [_upstream(**told)]}, Diagnosis))
        assert (
            STRINGS["concern.down"][1].format(**found.values) == "Upstream cloud is down: refused"
        )


def test_the_worst_is_first() -> None:
    assert _keys(records=WELL["records"] | {"rejected": 2}, gateways=[]) == ["no_gateway", "rejected"]  # fmt: skip


def test_the_platforms_people_see_its_state_and_nobody_else(house: House) -> None:
    with house.platform.engine.begin() as connection:  # other tests had gateways report
        connection.exec_driver_sql("DELETE FROM meta WHERE name LIKE 'gw/%'")
    operator = house.browser("*", "owner")
    for path in ("/console/system", "/console/night"):
        text = operator.get(path).text
        assert "No gateway reports" in text and "Start one" in text
        part = operator.get(path, hx_request="true", hx_target="div#night").text
        assert "<html" not in part and "No gateway reports" in part
    night = operator.get("/console/night").text
    assert 'data-theme="dark"' in night and not Page(night).all("nav")
    owner = house.browser("alpha", "owner")
    for path in ("/console/system", "/console/night", "/console/tenants"):
        assert owner.get(path).status_code == 403
    assert not {"/console/system", "/console/night"} & Page(owner.get("/console").text).links()
    assert "/console/system" in Page(operator.get("/console").text).links()


def test_the_cryptography_in_force_is_told_and_a_self_test_that_fails_is_seen(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = house.browser("*", "owner")
    settings = house.platform.app.state.context.settings
    settings.audit_key_path.parent.mkdir(parents=True, exist_ok=True)
    settings.audit_key_path.touch()
    written_s = time.time() - 40 * 86_400 - 60
    os.utime(settings.audit_key_path, (written_s, written_s))
    text = operator.get("/console/system").text.partition(">Cryptography<")[2]
    assert "International" in text and "Passed" in text and "<code>file</code>" in text
    assert "40 d ago" in text
    monkeypatch.setattr(self_test, "failed", lambda suite: ["AES-256-GCM"])
    assert "Failed: AES-256-GCM" in operator.get("/console/system").text
    assert "未通过：AES-256-GCM" in house.browser("*", "owner", "zh").get("/console/system").text


def test_models_that_fail_come_first_at_night_and_names_stay_text(house: House) -> None:
    house.enter(tenant="alpha", model_asked=HOSTILE, outcome="upstream_error", status=502)
    text = house.browser("*", "owner").get("/console/night").text
    assert "<img" not in text and "1 of 1 failed" in text
    assert text.index("&lt;img src=x") < text.index("alpha-model")


def test_tenants_are_listed_with_calls_spend_and_alerts(house: House) -> None:
    house.enter(tenant="epsilon", model_asked="epsilon-model", started_ms=int(time.time() * 1e3))
    made = house.platform.operator(
        "POST", "/organization/units", {"kind": "tenant", "tenant": "epsilon", "name": "epsilon"}
    )
    assert made.status_code == 201
    text = house.browser("*", "owner").get("/console/tenants").text
    row = text.split('href="/console?tenant=epsilon"')[1].split("</tr>")[0]
    assert 'num">1</td>' in row and "Open" in row


def test_who_may_not_read_usage_is_led_to_a_page_that_may_be_read(house: House) -> None:
    boss = house.platform.person("alpha", "owner")
    done = boss("PUT", "/roles/alpha/watcher", {"permissions": ["audit:read"]})
    assert done.status_code == 200, done.text
    reader = house.browser("alpha", "watcher")
    sent = reader.get("/console")
    assert (sent.status_code, sent.headers["location"]) == (303, "/console/audit")


def test_the_night_view_has_waits_queues_and_the_latest_changes_to_roll_back(house: House) -> None:
    now_ms = int(time.time() * 1e3)
    for n in range(200):
        house.enter(tenant="alpha", model_asked="night-model", model_served="night-model",
                    started_ms=now_ms - n, first_token_ms=400.0 + n, cost_pico=0, charge_pico=0)  # fmt: skip
    status = GatewayStatus("night-gw-0-aa", 0, 1, __version__, 0.0, 5, 0.2, 0, 1, 0.0, waiting=7)
    gateways.note(house.platform.engine, status)
    made = house.platform.operator("PUT", "/upstreams/at-night", {"spec": SPEC, "reason": HOSTILE})
    number = made.json()["revision"]
    operator = house.browser("*", "owner")
    text = operator.get("/console/night").text
    row = text.partition(">night-model<")[2].partition("</li>")[0]
    assert "p99 5" in row or "p99 6" in row, row
    assert "for an upstream: 7" in text
    assert "<img" not in text and "at-night" in text
    # Each is rolled back with a look at what that would do first.
    shown = text.partition(f'id="r-{number}"')[2].partition("</li>")[0]
    form = {str(one["name"]): str(one["value"]) for one in Page(shown).all("input")}
    seen = operator.post("/console/routing/revision", form | {"step": "preview"})
    assert seen.status_code == 200 and "Rolling back would" in seen.text
    assert house.platform.operator("GET", "/upstreams/at-night").status_code == 200
    reader = house.browser("*", "viewer").get("/console/night").text
    assert 'value="preview"' not in reader


def test_trouble_with_a_silenced_upstream_is_told_aside(house: House) -> None:
    publisher = house.platform.app.state.context.publisher
    before = publisher.snapshot, publisher.health
    publisher.snapshot = Snapshot(
        "", {"muted": Upstream("muted", base_url="https://m.example")}, {}
    )
    publisher.health = {"muted": "down: refused"}
    operator = house.browser("*", "owner")
    try:
        assert "silence/new?upstream=muted" in operator.get("/console/night").text
        assert "affect calls" in operator.get("/console/night").text
        silence = {"upstream": "muted", "expires_at_s": int(time.time()) + 60, "reason": "moving"}
        made = house.platform.operator("POST", "/alert-silences", silence).json()
        for path in ("/console/night", "/console/system"):
            text = operator.get(path).text
            assert "Silenced until" in text and "Upstream muted is down" in text
            assert "silence/new?upstream=muted" not in text
        house.platform.operator("POST", f"/alert-silences/{made['id']}/end")
        assert "Silenced until" not in operator.get("/console/night").text
    finally:
        publisher.snapshot, publisher.health = before
