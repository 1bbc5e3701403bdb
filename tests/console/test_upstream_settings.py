"""An upstream's place, zone, limit and keys changed through its page, after a preview."""

from __future__ import annotations

import html

from tests.console.test_routing import HOSTILE, SPEC, form_fields, put
from tests.console.visitors import House, Page, inline_code

EDIT = "/console/routing/upstream/edit"
KEY = "/console/routing/upstream/key"


def test_fields_are_previewed_and_the_same_ones_applied(house: House) -> None:
    put(house, "/upstreams/placed", SPEC)
    put(house, "/virtual-models/split",
        {"entries": [{"model": "m-1", "upstream": "placed", "weight": 30}, {"model": "m-2"}]})  # fmt: skip
    browser = house.browser("*", "owner")
    page = browser.get(f"{EDIT}?name=placed").text
    assert "split" in page and ">30<" in page, "weights of the rules that name it"
    form = form_fields(page) | {"zone": "mlps3", "preference": "7", "concurrency_max": "many"}
    wrong = browser.post(EDIT, form | {"step": "preview"})
    assert wrong.status_code == 400 and "concurrency_max" in wrong.text
    form |= {"concurrency_max": "40"}
    hasty = browser.post(EDIT, form | {"step": "apply"})
    assert hasty.status_code == 200, "it is seen first"
    spec = house.platform.operator("GET", "/upstreams/placed").json()["spec"]
    assert spec["zone"] == "cn" and "preference" not in spec
    seen = form_fields(hasty.text) | {"zone": "mlps3", "reason": "certified", "step": "apply"}
    other = browser.post(EDIT, seen | {"preference": "8"})
    assert other.status_code == 200, "other fields than those that were seen"
    done = browser.post(EDIT, seen)
    assert done.status_code == 303, Page(done.text).words
    spec = house.platform.operator("GET", "/upstreams/placed").json()["spec"]
    assert (spec["zone"], spec["preference"], spec["concurrency_max"]) == ("mlps3", 7, 40)
    assert spec["models"] == SPEC["models"], "the other fields stay"
    assert "certified" in browser.get(html.unescape(done.headers["location"])).text
    # Changed meanwhile: nothing is overwritten, and how it is now is shown beside what was typed.
    stale = browser.post(EDIT, form | {"step": "preview", "preference": "9"})
    assert stale.status_code == 412 and "changed since" in stale.text
    assert 'value="9"' in stale.text and "mlps3" in stale.text
    # An empty field goes back to its default.
    form = form_fields(browser.get(f"{EDIT}?name=placed").text) | {"zone": "", "preference": ""}
    seen = form_fields(browser.post(EDIT, form).text) | {"zone": "", "step": "apply"}
    assert browser.post(EDIT, seen).status_code == 303
    spec = house.platform.operator("GET", "/upstreams/placed").json()["spec"]
    assert "zone" not in spec and "preference" not in spec


def test_another_key_is_stored_sealed_and_used_beside_the_first(house: House) -> None:
    put(house, "/upstreams/keyed", SPEC | {"credential": "env:FIRST_KEY"})
    browser = house.browser("*", "owner")
    form = form_fields(browser.get(f"{EDIT}?name=keyed").text)
    assert form["key_name"] == "keyed-2"
    done = browser.post(KEY, form | {"key": "sk-second-key"})
    assert done.status_code == 303, Page(done.text).words
    spec = house.platform.operator("GET", "/upstreams/keyed").json()["spec"]
    assert spec["credential"] == ["env:FIRST_KEY", "stored:keyed-2"]
    assert "sk-second-key" not in house.platform.operator("GET", "/credentials/keyed-2").text
    assert "sk-second-key" not in browser.get(f"{EDIT}?name=keyed").text
    # A stale page stores nothing: the key is as if it had not been sent.
    stale = browser.post(KEY, form | {"key_name": "keyed-3", "key": "sk-third-key"})
    assert stale.status_code == 412 and "sk-third-key" not in stale.text
    assert house.platform.operator("GET", "/credentials/keyed-3").status_code == 404
    taken = browser.post(KEY, form | {"key": "sk-other-key"})
    assert taken.status_code == 409, "a key of that name is not written over"


def test_who_may_not_and_what_the_file_keeps_change_nothing(house: House) -> None:
    put(house, "/upstreams/own-c", SPEC, tenant="alpha")
    put(house, "/upstreams/own-c", SPEC, tenant="beta")
    form = {"name": "own-c", "of": "alpha", "zone": "abroad", "key_name": "k", "key": "sk-x"}
    for role in ("auditor", "viewer"):
        browser = house.browser("alpha", role)
        for path in (EDIT, KEY):
            assert browser.post(path, form | {"step": "apply"}).status_code in (403, 404)
    stranger = house.browser("alpha", "owner")
    for path in (EDIT, KEY):
        assert stranger.post(path, form | {"of": "beta"}).status_code in (403, 404)
    assert stranger.get(f"{EDIT}?name=own-c&of=beta").status_code in (403, 404)
    for tenant in ("alpha", "beta"):
        found = house.platform.operator("GET", "/upstreams/own-c", params={"tenant": tenant})
        assert found.json()["spec"]["zone"] == "cn" and "credential" not in found.json()["spec"]
    put(house, "/upstreams/filed", SPEC)
    with house.platform.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE resources SET managed_by = 'file' WHERE name = 'filed'")
    text = house.browser("*", "owner").get(f"{EDIT}?name=filed").text
    assert "tokenschain.yaml" in text and 'value="preview"' not in text and KEY not in text


def test_what_is_typed_stays_text(house: House) -> None:
    put(house, "/upstreams/plain", SPEC)
    browser = house.browser("*", "owner", "zh")
    form = form_fields(browser.get(f"{EDIT}?name=plain").text)
    reply = browser.post(EDIT, form | {"preference": HOSTILE, "reason": HOSTILE, "zone": HOSTILE})
    assert reply.status_code == 400 and "<img" not in reply.text
    page = Page(reply.text)
    assert not inline_code(reply.text.replace("/onerror=", "")) and page.unclosed == []
    assert len(page.all("h1")) == 1
