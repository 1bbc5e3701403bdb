"""Silences: added, shown beside the alerts that they hold, and ended on the alerts page."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from tests.console.visitors import House, Page, inline_code
from tokenschain.console.silences import AlertSilence, upstream_silence
from tokenschain.core.presentation import SHANGHAI
from tokenschain.infra.database.tables import alerts

HOSTILE = "<img src=x onerror=alert(1)>\u202e长🙂"
NEW, END = "/console/alerts/silence/new", "/console/alerts/silence/end"


def _typed(ahead: timedelta) -> str:
    return (datetime.now(SHANGHAI) + ahead).strftime("%Y-%m-%dT%H:%M")


def _form(**fields: str) -> dict[str, str]:
    return {"of": "alpha", "kind": "budget_forecast", "upstream": "", "from": "", "once": "",
            "until": _typed(timedelta(hours=4)), "reason": "load test"} | fields  # fmt: skip


def test_a_silence_is_added_shown_and_ended(house: House) -> None:
    person = house.platform.person("alpha", "finance")
    browser = house.as_person(person.token)
    page = Page(browser.get(NEW).text)
    (until,) = [one for one in page.all("input") if one.get("name") == "until"]
    assert datetime.fromisoformat(str(until["value"])) > datetime.now(SHANGHAI).replace(tzinfo=None)
    done = browser.post(NEW, _form(reason=HOSTILE, once="s-1"))
    assert done.status_code == 303, Page(done.text).words
    text = browser.get(done.headers["location"]).text
    assert "&lt;img" in text and "<img" not in text and "In force" in text and person.id in text
    assert not inline_code(text.replace(" onerror=", ""))
    ((silence, ends_s),) = house.platform.rows(
        "SELECT id, expires_at_s FROM alert_silences WHERE tenant = 'alpha'"
    )
    assert 3.9 * 3_600 < ends_s - time.time() < 4.1 * 3_600, "typed in China's time"
    assert silence not in house.browser("beta", "owner").get("/console/alerts").text
    assert f'value="{silence}"' not in house.browser("alpha", "auditor").get("/console/alerts").text
    for tenant, role in (("alpha", "auditor"), ("beta", "owner")):
        refused = house.browser(tenant, role).post(END, {"silence": silence})
        assert refused.status_code in (403, 404)
    assert browser.post(END, {"silence": silence}).status_code == 303
    assert "Ended early" in browser.get("/console/alerts").text


def test_what_cannot_be_silenced_is_said_and_nothing_typed_is_lost(house: House) -> None:
    browser = house.browser("alpha", "owner")
    for wrong in ({"until": _typed(timedelta(days=31))}, {"until": "soon"}, {"from": "never"},
                  {"until": _typed(timedelta(hours=-1))}, {"kind": "second_factor_reset"}):  # fmt: skip
        reply = browser.post(NEW, _form(**wrong))
        assert reply.status_code == 400 and 'role="alert"' in reply.text, wrong
        assert 'value="load test"' in reply.text
    assert browser.post(NEW, _form(of="beta")).status_code == 403
    assert house.browser("alpha", "auditor").post(NEW, _form()).status_code == 403


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_silenced_alert_is_listed_as_such_and_not_counted_at_night(
    house: House, language: str
) -> None:
    row = {"id": f"held-{language}", "tenant": "alpha", "at_s": int(time.time()), "detail": "{}",
           "kind": "records_rejected", "next_try_s": 1, "sent_at_s": 1, "targets_left": "[]",
           "silenced_by": "sil_1"}  # fmt: skip
    with house.platform.engine.begin() as connection:
        connection.execute(alerts.insert().values(**row))
    text = house.browser("alpha", "owner", language).get("/console/alerts").text
    shown = text.partition(f'id="held-{language}"')[2].partition("</tr>")[0]
    assert {"zh": "已静默", "en": "Silenced"}[language] in shown
    night = house.browser("*", "owner", language).get("/console/night").text
    assert {"zh": "未能入账", "en": "could not be entered"}[language] not in night


def test_a_silence_of_an_upstream_is_the_platforms_of_every_kind() -> None:
    def silence(**fields: object) -> AlertSilence:
        given: dict[str, object] = {"tenant": "", "kind": "", "upstream": "cloud", "from_s": 10,
                                    "expires_at_s": 20} | fields  # fmt: skip
        return AlertSilence("s", reason="r", created_by="u", **given)  # type: ignore[arg-type]

    assert upstream_silence([silence()], "cloud", 15) is not None
    assert upstream_silence([silence()], "other", 15) is None
    assert upstream_silence([silence()], "cloud", 20) is None
    for other in ({"tenant": "alpha"}, {"kind": "budget_reached"}, {"upstream": ""}):
        assert upstream_silence([silence(**other)], "cloud", 15) is None
