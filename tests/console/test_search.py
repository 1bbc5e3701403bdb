"""Search and a model's page: what is found, by whom, and what was measured."""

from __future__ import annotations

import pytest

from tests.console.visitors import House, Page

SPEC = {"base_url": "https://models.example/v1", "models": ["m-1"]}
HOSTILE = "<img/src=x/onerror=alert(1)>findme"


def _found(house: House, tenant: str, role: str, text: str) -> set[tuple[str, str]]:
    person = house.platform.person(tenant, role)
    reply = person("GET", f"/me/search?text={text}")
    assert reply.status_code == 200, reply.text
    return {(one["kind"], one["name"]) for one in reply.json()["data"]}


def test_each_finds_what_may_be_seen_and_nothing_else(house: House) -> None:
    for tenant in ("alpha", "beta"):
        path = f"/upstreams/sought-{tenant}?tenant={tenant}"
        assert house.platform.operator("PUT", path, {"spec": SPEC}).status_code == 200
        body = {"tenant": tenant, "project": "p1", "name": f"sought key of {tenant}"}
        assert house.platform.operator("POST", "/keys", body).status_code == 201
    own = {("upstream", "sought-alpha"), ("key", "sought key of alpha")}
    assert _found(house, "alpha", "owner", "SOUGHT") == own
    everything = _found(house, "*", "owner", "sought")
    assert own < everything and ("key", "sought key of beta") in everything
    assert _found(house, "alpha", "finance", "sought-") == set(), "configuration is not theirs"
    assert ("unit", "alpha") in _found(house, "alpha", "owner", "alpha")
    assert _found(house, "alpha", "owner", "beta") == set()
    assert _found(house, "alpha", "owner", "s%25t") == set(), "no wildcard"
    assert ("model", "at-cost") in _found(house, "alpha", "developer", "at-")


def test_a_call_is_found_by_its_whole_id_and_opened(house: House) -> None:
    browser = house.browser("alpha", "developer")
    opened = browser.get("/console/search?q=alpha-1")
    assert opened.status_code == 303 and "call=alpha-1" in opened.headers["location"]
    other = browser.get("/console/search?q=beta-1")
    assert other.status_code == 200 and "Nothing was found" in other.text


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_is_found_leads_to_its_page_and_stays_text(house: House, language: str) -> None:
    body = {"tenant": "alpha", "project": "p1", "name": HOSTILE}
    assert house.platform.operator("POST", "/keys", body).status_code == 201
    page = house.browser("alpha", "owner", language).get("/console/search?q=findme").text
    assert "<img" not in page and "&lt;img/src" in page and Page(page).unclosed == []
    found = Page(house.browser("alpha", "owner").get("/console/search?q=sold").text)
    assert "/console/models/model?name=sold" in found.links()
    for short in ("", "a", "+++", "x" * 300):
        assert house.browser("alpha", "owner").get(f"/console/search?q={short}").status_code == 200


def test_a_models_page_says_how_it_answered(house: House) -> None:
    measured = house.platform.app.state.context.ledger.model_latency
    for tenant, wait_ms in (("alpha", 300.0), ("beta", 9_000.0)):
        for n in range(20):
            house.enter(tenant=tenant, project="p1", model_asked="sold", outcome="ok", status=200,
                        cache="miss", first_token_ms=wait_ms, total_ms=2 * wait_ms)  # fmt: skip
            if not n:
                house.enter(tenant=tenant, project="p1", model_asked="sold", status=503,
                            outcome="upstream_failed", cache="miss")  # fmt: skip
    assert measured.since_s > 0
    browser = house.browser("alpha", "developer")
    words = Page(browser.get("/console/models/model?name=sold").text).words
    assert "95.24%" in words and "Failed: 1" in words
    assert "95.24%" in Page(browser.get("/console/models").text).words
    assert browser.get("/console/models/model?name=none").status_code == 404
    reply = house.platform.person("alpha", "developer")("GET", "/insight/latency?model=sold").json()
    (series,) = reply["data"]
    assert series["answered"] == 20 and series["failed"] == 1 and series["steps"]
    assert series["first_token_p50_ms"] == pytest.approx(300, rel=0.11)
    assert series["first_token_p99_ms"] is None
    assert series["total_p95_ms"] < 1_000, "another tenant's calls took longer"
    scoped = house.platform.person("alpha", "developer", project="p1")
    assert scoped("GET", "/insight/latency").status_code == 403
