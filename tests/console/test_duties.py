"""Duties pages: clocks and deadlines, incidents from opening to report, requests, the register."""

from __future__ import annotations

import html
import time
from typing import Any, get_args

import pytest

from tests.console.visitors import House, inline_code
from tokenschain.console.duties import FILINGS, INCIDENT, INCIDENTS, PATH, REQUESTS
from tokenschain.core.snapshot.filings import FilingKind

DEADLINES = "/compliance/deadlines"


def opened(house: House, **more: Any) -> str:
    body = {"tenant": "alpha", "title": "key leaked", "severity": "larger"} | more
    made = house.platform.operator("POST", "/incidents", body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_is_due_is_shown_with_the_time_that_is_left(house: House, language: str) -> None:
    late = opened(house, detected_at_s=int(time.time()) - 6 * 3_600)
    due = opened(house, detected_at_s=int(time.time()) - 3_600)
    browser = house.browser("alpha", "admin", language)
    for path in (PATH, INCIDENTS):
        page = html.unescape(browser.get(path).text)
        assert late in page and due in page and not inline_code(page)
        for words in ({"zh": "已逾期", "en": "Overdue"}[language],
                      {"zh": "已超过 2 小时 0 分", "en": "2 h 0 min over"}[language],
                      {"zh": "剩余 2 小时 59 分", "en": "2 h 59 min left"}[language]):  # fmt: skip
            assert words in page, (path, words)
    assert late not in house.browser("beta", "admin").get(INCIDENTS).text


def test_rules_are_named_in_the_readers_language(house: House) -> None:
    incident = opened(house)
    asked = {"tenant": "alpha", "kind": "copy", "end_user": "u", "note": ""}
    assert house.platform.operator("POST", "/subject-requests", asked).status_code == 201
    for kind in get_args(FilingKind):
        spec = {"kind": kind, "number": "1", "models": ["m"], "source": "s",
                "launched_on": "2026-01-01", "ended_on": "2026-02-01"}  # fmt: skip
        put = house.platform.operator("PUT", f"/filings/rule-{kind}", {"spec": spec})
        assert put.status_code == 200, put.text
    rules = {one["rule"] for one in house.platform.operator("GET", DEADLINES).json()["data"]}
    assert len(rules) == 4
    for language in ("zh", "en"):
        browser = house.browser("*", "auditor", language)
        for path in (PATH, f"{INCIDENT}?incident={incident}"):
            page = html.unescape(browser.get(path).text)
            assert any(rule in page for rule in rules) is (language == "en"), path
            assert "《" not in page or language == "zh"
    for name in get_args(FilingKind):
        house.platform.operator("DELETE", f"/filings/rule-{name}")


def test_an_incident_is_opened_noted_reported_and_ended_by_forms(house: House) -> None:
    browser = house.browser("alpha", "admin")
    form = {"of": "alpha", "title": "<b>down</b>", "kind": "availability", "severity": "major",
            "operator": "operator", "model": "m", "description": "", "once": "a"}  # fmt: skip
    made = browser.post(f"{INCIDENTS}/new", form)
    assert made.status_code == 303
    where = made.headers["location"]
    name = where.partition("incident=")[2].partition("&")[0]
    page = browser.get(where).text
    assert "&lt;b&gt;down&lt;/b&gt;" in page and "First report" in page
    assert "freezes/new?model=m&amp;of=alpha" in page
    change = f"{INCIDENT}/change"
    for act, fields in (
        ("change", {"measures": "restarted", "note": ""}),
        ("report", {"reported_to": "the office", "reference": "17"}),
        ("end", {"measures": "", "note": "it is over"}),
    ):
        sent = {"incident": name, "act": act} | fields
        assert browser.post(change, sent).status_code == 303, act
    found = house.platform.operator("GET", f"/incidents/{name}").json()
    assert found["measures"] == "restarted" and found["reference"] == "17"
    assert found["ended_at_s"] is not None and found["reported_at_s"] is not None
    again = browser.post(change, {"incident": name, "act": "report", "reported_to": "x"})
    assert again.status_code == 409 and 'role="alert"' in again.text
    draft = browser.get(f"{INCIDENT}/draft?incident={name}")
    assert "attachment" in draft.headers["content-disposition"] and "restarted" in draft.text
    empty = browser.post(f"{INCIDENTS}/new", form | {"title": ""})
    assert empty.status_code == 400 and 'role="alert"' in empty.text


def test_who_may_only_read_gets_no_forms_and_a_stranger_nothing(house: House) -> None:
    name = opened(house)
    page = house.browser("alpha", "auditor").get(f"{INCIDENT}?incident={name}").text
    assert "key leaked" in page and "incident/change" not in page
    assert house.browser("alpha", "auditor").get(f"{INCIDENTS}/new").status_code == 403
    assert house.browser("beta", "owner").get(f"{INCIDENT}?incident={name}").status_code == 404
    assert house.browser("alpha", "owner").get(INCIDENT).status_code == 404
    assert house.browser("alpha", "developer").get(PATH).text.count("compliance:read") == 1


def test_a_request_is_taken_and_decided_by_forms(house: House) -> None:
    browser = house.browser("alpha", "admin")
    form = {"of": "alpha", "kind": "access", "end_user": "user-17", "note": "by mail", "once": "b"}
    assert browser.post(f"{REQUESTS}/new", form).status_code == 303
    ((name,),) = house.platform.rows("SELECT id FROM subject_requests WHERE note = 'by mail'")
    page = browser.get(REQUESTS).text
    assert name in page and "29 days left" in page and "user-17" not in page
    decided = {"request": name, "decision": "done", "reason": "sent"}
    assert browser.post(f"{REQUESTS}/decide", decided).status_code == 303
    ((state,),) = house.platform.rows(f"SELECT state FROM subject_requests WHERE id = '{name}'")
    assert state == "done"
    again = browser.post(f"{REQUESTS}/decide", decided)
    assert again.status_code == 409 and "sent" in again.text


def test_the_register_shows_what_holds_and_who_asks_for_it(house: House) -> None:
    empty = house.browser("*", "auditor").get(FILINGS).text
    assert "<code>tokenschain filings set</code>" in empty and "`" not in empty
    for name, more in (
        ("held", {"filed_on": "2026-01-01"}),
        ("over", {"ended_on": "2026-01-01"}),
        ("trained", {"kind": "registration", "modified": True, "filed_on": "2999-01-01"}),
    ):
        spec = {"number": f"N-{name}", "models": ["m"], "source": "notice"} | more
        put = house.platform.operator("PUT", f"/filings/{name}", {"spec": spec})
        assert put.status_code == 200, put.text
    spec = {"state": "active", "audience": "public", "directions": ["input"]}
    put = house.platform.operator("PUT", "/moderation-policies/open", {"spec": spec})
    assert put.status_code == 200, put.text
    page = house.browser("*", "auditor").get(FILINGS).text
    for words in (
        "N-held",
        "In force",
        "Ended",
        "To come",
        "is to be filed itself",
        "The public",
        "Not asked for",
    ):
        assert words in page, words
    assert "configuration:read" in house.browser("alpha", "admin").get(FILINGS).text
