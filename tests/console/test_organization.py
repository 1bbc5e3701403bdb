"""The organisation as a tree, made and changed; and the audit log, which says who did it."""

from __future__ import annotations

import csv
import io
import re

import pytest

from tests.console.visitors import Browser, House, Page


def _hidden(text: str, name: str) -> str:
    values = {str(one["value"]) for one in Page(text).all("input") if one.get("name") == name}
    (value,) = values
    return value


def _make(browser: Browser, kind: str, name: str, **fields: str) -> None:
    form = {"kind": kind, "tenant": "tree", "name": name, **fields}
    form["once"] = _hidden(browser.get(f"/console/organization/new?kind={kind}").text, "once")
    made = browser.post("/console/organization/new", form)
    assert made.status_code == 303, made.text


@pytest.fixture(scope="module")
def operator(house: House) -> Browser:
    """Somebody of the platform, who has made a tenant with a tree of units."""
    found = house.browser("*", "owner")
    form = {"name": "tree", "title": "<b>Tree</b>", "prepaid": "on", "credit": "12.5"}
    found.post("/console/organization/new", {"kind": "tenant", **form})
    _make(found, "account", "zoo")
    _make(found, "project", "apes", account="zoo")
    _make(found, "environment", "night", project="apes")
    _make(found, "project", "birds")
    return found


def test_units_stand_below_what_they_belong_to(operator: Browser) -> None:
    text = operator.get("/console/organization?tenant=tree").text
    rows = re.findall(r'class="depth-(\d)"><b[^>]*>([^<]+)<', text)
    assert rows == [("0", "tree"), ("1", "zoo"), ("2", "apes"), ("3", "night"), ("1", "birds")]
    assert "&lt;b&gt;Tree" in text and "Prepaid" in text


def test_a_unit_is_renamed_moved_closed_and_opened_by_who_has_seen_it_last(
    operator: Browser,
) -> None:
    listed = operator.get("/console/organization?tenant=tree").text
    link = re.findall(r'/console/organization/edit\?[^"]+', listed.split(">apes<")[2])[0]
    unit = re.findall(r"unit=(\w+)", link)[0]

    def form(**fields: str) -> dict[str, str]:
        page = operator.get(f"/console/organization/edit?unit={unit}").text
        version = re.findall(r'name="version" value="(\d+)"', page)[0]
        return {"unit": unit, "version": version, **fields}

    path = f"/console/organization/edit?unit={unit}"
    before = form(what="title", title="Great apes", account="")
    assert operator.post(path, before).status_code == 303
    stale = operator.post(path, before)
    assert stale.status_code == 412 and "Nothing was changed" in stale.text
    text = operator.get("/console/organization?tenant=tree").text
    assert "Great apes" in text and 'class="depth-1"><b class="clip block" title="apes"' in text
    refused = operator.post(path, form(what="close", typed="apse"))
    assert refused.status_code == 400 and "nothing was closed" in refused.text
    assert operator.post(path, form(what="close", typed="apes")).status_code == 303
    assert operator.get("/console/organization?tenant=tree").text.count(">Closed<") == 1
    assert operator.post(path, form(what="open")).status_code == 303
    assert ">Closed<" not in operator.get("/console/organization?tenant=tree").text


def test_who_may_not_make_units_is_offered_nothing_and_others_see_none(
    house: House, operator: Browser
) -> None:
    viewer = house.browser("alpha", "viewer")
    text = viewer.get("/console/organization").text
    assert "/organization/new" not in text and "/organization/edit" not in text
    assert "tree" not in text
    form = {"kind": "project", "tenant": "alpha", "name": "x"}
    assert viewer.get("/console/organization/new").status_code == 403
    assert viewer.post("/console/organization/new", form).status_code == 403
    owner = house.browser("alpha", "owner")
    assert "kind=tenant" not in owner.get("/console/organization/new").text
    form = {"kind": "project", "tenant": "tree", "name": "x"}
    assert owner.post("/console/organization/new", form).status_code == 403
    unit = house.platform.unit("tenant", "tree", "tree")
    assert owner.get(f"/console/organization/edit?unit={unit}").status_code == 404
    assert operator.get(f"/console/organization/edit?unit={unit}").status_code == 200


def test_the_audit_log_is_filtered_and_exported(house: House, operator: Browser) -> None:
    units = operator.get("/console/audit?tenant=tree&action=org:write").text
    assert units.count("<tr id=") >= 5, "as many were made"
    assert "Change the organisation" in units and "&#34;kind&#34;" in units
    nobody = operator.get("/console/audit?tenant=tree&actor=nobody").text
    assert "No line matches" in nobody
    assert "No line matches" in operator.get("/console/audit?tenant=tree&until=2020-01-01").text
    assert operator.get("/console/audit?since=yesterday").status_code == 400
    reply = operator.get("/console/audit/export?tenant=tree&action=org:write")
    assert "attachment" in reply.headers["content-disposition"]
    lines = list(csv.reader(io.StringIO(reply.text)))
    assert lines[0][:2] == ["at", "actor"] and len(lines) == units.count("<tr id=") + 1
    assert {line[2] for line in lines[1:]} == {"tree"}
    auditor = house.browser("alpha", "auditor")
    assert auditor.get("/console/audit").status_code == 200
    assert "tree" not in auditor.get("/console/audit/export").text
    assert house.browser("alpha", "developer").get("/console/audit").status_code in (200, 403)
