"""System's pages of settings, prices and exchange rates in force."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from tests.console.visitors import House, Page


def test_settings_are_shown_with_their_origin_and_without_secrets(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = house.platform.app.state
    context = state.context
    database = replace(context.settings.database, url="postgresql://me:hush-hush@db.example/x")
    given = replace(context.settings, database=database)
    monkeypatch.setitem(state._state, "context", context._replace(settings=given))
    browser = house.browser("*", "owner")
    text = browser.get("/console/system/settings").text
    assert "routing.usd_cny" in text and "control.port" in text
    settings = house.platform.operator("GET", "/settings").json()["data"]
    (url,) = [one for one in settings if one["name"] == "database.url"]
    assert "db.example" in url["value"] and "db.example" in text
    assert "hush-hush" not in text
    found = Page(browser.get("/console/system/settings?find=USD_CNY").text).words
    assert "routing.usd_cny" in found and "control.port" not in found
    for path in ("settings", "prices"):
        assert house.browser("alpha", "owner").get(f"/console/system/{path}").status_code == 403
    assert house.platform.person("alpha", "owner")("GET", "/settings").status_code == 403


def test_prices_say_since_when_they_hold_and_rates_where_they_are_from(house: House) -> None:
    now_s = int(time.time())
    for ahead_s, price in ((-7_200, "1"), (-3_600, "2"), (86_400, "3")):
        body = {"model": "dated", "input": price, "output": price, "from_s": now_s + ahead_s}
        assert house.platform.operator("POST", "/prices", body).status_code == 201
    browser = house.browser("*", "owner")
    assert "routing.usd_cny" in browser.get("/console/system/prices").text, "no rate was entered"
    rate = {"usd_cny": "7.0805", "source": "<b>CFETS"}
    assert house.platform.operator("PUT", "/fx-rates/2026-11-25", rate).status_code == 200
    text = browser.get("/console/system/prices").text
    assert "7.0805" in text and "&lt;b&gt;CFETS" in text and "2026-11-25" in text
    rows = [Page(row).words for row in text.split("<tr>") if "dated" in row]
    assert ["To come" in rows[0], "In force" in rows[1], "Replaced" in rows[2]] == [True] * 3
    assert "¥2" in rows[1]
