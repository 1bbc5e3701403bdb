"""Keys are made, shown once, and revoked by typing their name."""

from __future__ import annotations

import re
from typing import Any

from tests.console.visitors import Browser, House, Page


def _field(text: str, name: str) -> str:
    (value,) = {str(one["value"]) for one in Page(text).all("input") if one.get("name") == name}
    return value


def _make(browser: Browser, name: str, **fields: str) -> Any:
    form = {"name": name, "tenant": "alpha", "project": "p1", "environment": "default", **fields}
    form["once"] = _field(browser.get("/console/keys/new").text, "once")
    return browser.post("/console/keys/new", form), form


def test_a_new_key_is_shown_once_and_calls_of_the_form_again_make_no_second(house: House) -> None:
    browser = house.browser("alpha", "developer")
    reply, form = _make(browser, "once shown", models="a b", networks="10.0.0.0/8")
    assert reply.status_code == 200 and reply.headers["cache-control"] == "no-store"
    assert "content-encoding" not in reply.headers
    (key,) = set(re.findall(r"tc-[\w-]{20,}", reply.text))
    assert 'model="a"' in reply.text and 'data-copy-of="#try-key"' in reply.text
    again = browser.post("/console/keys/new", form)
    assert key in again.text, "the same answer"
    listed = browser.get("/console/keys").text
    assert listed.count("once shown") == 3 and key not in listed, "row, its title, and the action"
    assert "models: 2" in listed and "networks: 1" in listed


def test_what_is_wrong_with_a_new_key_is_said_and_nothing_typed_is_lost(house: House) -> None:
    browser = house.browser("alpha", "developer")
    for fields in ({"networks": "nowhere"}, {"expires": "tomorrow"}, {"project": "no such name!"}):
        reply, _ = _make(browser, "keeps its name", **fields)
        assert 400 <= reply.status_code < 500 and 'role="alert"' in reply.text
        assert 'value="keeps its name"' in reply.text
    assert "keeps its name" not in browser.get("/console/keys").text


def test_a_key_is_revoked_by_typing_its_name(house: House) -> None:
    browser = house.browser("alpha", "developer")
    _make(browser, "to be revoked")
    link = next(
        one for one in re.findall(r'href="(/console/keys/revoke\?key=[^"]+)"',
                                  browser.get("/console/keys").text.split("to be revoked")[2])
    )  # fmt: skip
    page = browser.get(link).text
    form = {"key": _field(page, "key"), "revision": _field(page, "revision")}
    wrong = browser.post("/console/keys/revoke", form | {"typed": "To be revoked"})
    assert wrong.status_code == 400 and "nothing was changed" in wrong.text
    body = {"name": "changed meanwhile"}
    assert house.platform.operator("PATCH", f"/keys/{form['key']}", body).status_code == 200
    stale = browser.post("/console/keys/revoke", form | {"typed": "changed meanwhile"})
    assert stale.status_code == 412 and "changed since" in stale.text
    form["revision"] = _field(stale.text, "revision")
    done = browser.post("/console/keys/revoke", form | {"typed": "changed meanwhile"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/keys")
    key = house.platform.operator("GET", f"/keys/{form['key']}").json()
    assert key["revoked_at_s"] is not None


def test_who_may_only_look_is_offered_nothing_and_may_do_nothing(house: House) -> None:
    viewer = house.browser("alpha", "viewer")
    text = viewer.get("/console/keys").text
    assert "/console/keys/new" not in text and "/console/keys/revoke" not in text
    form = {"name": "viewers", "tenant": "alpha", "project": "p1", "environment": "default"}
    assert viewer.post("/console/keys/new", form).status_code == 403
    key = {"key": house.key_of("alpha"), "revision": "1", "typed": "alpha key"}
    assert viewer.post("/console/keys/revoke", key).status_code == 403


def test_another_tenants_key_is_not_there(house: House) -> None:
    browser = house.browser("alpha", "owner")
    key = house.key_of("beta")
    assert browser.get(f"/console/keys/revoke?key={key}").status_code == 404
    form = {"key": key, "revision": "1", "typed": "beta key"}
    assert browser.post("/console/keys/revoke", form).status_code == 404
    for wrong in ("", "../users", "a/b", "..%2f", "?x", "%00"):
        form["key"] = wrong
        assert browser.post("/console/keys/revoke", form).status_code in (400, 404, 405, 422)
