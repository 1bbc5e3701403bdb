"""Every page, for every role, in both languages."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from tests.console.visitors import House, Page, inline_code
from tokenschain.console.admin_api import AdminApi, ApiRefusal
from tokenschain.console.app import PAGES
from tokenschain.console.navigation import NAVIGATION
from tokenschain.console.rendering import TEMPLATES
from tokenschain.core.tenancy import ROLES

ENTRIES = [entry for _, entries in NAVIGATION for entry in entries]
PATHS = sorted(path for method, path in PAGES if method == "GET")
HOSTILE = "<img src=x onerror=alert(1)>\"'\u202e" + "长" * 40 + "🙂"


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("role", [*ROLES, None])
def test_each_page_answers_each_role_in_each_language(
    house: House, role: str | None, language: str
) -> None:
    browser = house.browser("alpha", role or "viewer", language) if role else None
    if browser is None:
        person = house.platform.person("alpha", None)
        browser = house.as_person(person.token, language)
    for entry in ENTRIES:
        reply = browser.get(entry.path)
        if role in ("reviewer", "security-admin") and (entry.path, reply.status_code) == (
            "/console", 303
        ):  # fmt: skip
            continue  # whose first page is another
        assert reply.status_code in (200, 403), (entry.path, reply.text)
        page = Page(reply.text)
        assert len(page.all("h1")) == 1, entry.path
        assert not inline_code(reply.text), entry.path
        assert page.unclosed == [], entry.path
        (root,) = page.all("html")
        assert root["lang"] == {"zh": "zh-CN", "en": "en"}[language]
        assert all(one.get("id") for one in page.all("dialog"))
        ids = [one["id"] for _, one in page.tags if one.get("id")]
        assert len(ids) == len(set(ids)), entry.path


@pytest.mark.parametrize("role", [*ROLES])
def test_the_navigation_shows_what_a_role_may_open(house: House, role: str) -> None:
    browser = house.browser("alpha", role)
    home = browser.get("/console")
    if home.status_code == 303:
        home = browser.get(home.headers["location"])
    links = Page(home.text).links()
    permitted = ROLES[role]
    for entry in ENTRIES:
        kind, _, verb = entry.permission.partition(":")
        may = bool(permitted & {"*", entry.permission, f"{kind}:*", f"*:{verb}"})
        may = may and not entry.of_platform
        assert (entry.path in links) == may or entry.path == "/console", entry.path


def test_a_tenant_sees_nothing_of_another_at_any_address(house: House) -> None:
    browser = house.browser("alpha", "owner")
    extras = ["", "?tenant=beta", "?tenant=*", "?project=p1&tenant=beta", "?call=beta-1",
              "?call=beta-1&tenant=beta", "?key=" + house.key_of("beta")]  # fmt: skip
    for path, extra in itertools.product(PATHS, extras):
        for fragment in ({}, {"hx_request": "true", "hx_target": "div#x"}):
            text = browser.get(path + extra, **fragment).text
            shown = text.replace("tenant=beta", "").replace("beta-1", "", text.count(extra))
            assert "beta-model" not in text and "beta key" not in text, (path, extra)
            assert not re.search("beta-rate|beta-budget|beta bank", text), (path, extra)
            assert "beta-2" not in shown and "beta-3" not in shown, (path, extra)


def test_hostile_names_stay_text_on_every_page(house: House) -> None:
    body = {"tenant": "alpha", "project": "p1", "name": HOSTILE}
    assert house.platform.operator("POST", "/keys", body).status_code == 201
    house.enter(tenant="alpha", project="p1", model_asked=HOSTILE, upstream=HOSTILE)
    for who in (house.browser("alpha", "owner"), house.browser("*", "owner")):
        for path in PATHS:
            reply = who.get(path)
            if reply.status_code == 303:  # it leads elsewhere and shows nothing
                continue
            if "text/html" not in reply.headers["content-type"]:
                is_data = reply.headers["content-type"] == "application/json"
                assert is_data or "attachment" in reply.headers["content-disposition"], path
                continue
            assert "<img" not in reply.text and "onerror=alert" not in reply.text.replace(
                "&lt;img src=x onerror=alert", ""
            ).replace("\\u003cimg src=x onerror=alert", ""), path
            assert not inline_code(reply.text.replace("x onerror=alert", "")), path


def test_what_is_asked_for_in_the_address_stays_text(house: House) -> None:
    browser = house.browser("alpha", "owner")
    for path in PATHS:
        for name in ("tenant", "project", "range", "call", "model", "outcome", "cursor", "key"):
            reply = browser.get(f"{path}?{name}=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
            assert "<script>alert" not in reply.text, (path, name)
            assert reply.status_code < 500


def test_a_part_that_fails_leaves_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no ledger")

    browser = house.browser("alpha", "developer")
    monkeypatch.setattr("tokenschain.control.billing.ledger.calls_page", broken)
    reply = browser.get("/console")
    assert reply.status_code == 200
    assert "This part could not be read" in reply.text and "Cost by model" in reply.text


@pytest.mark.parametrize(
    "path", ["/console/playground", "/console/start", "/console/routing/models/edit"]
)
def test_where_models_cannot_be_read_a_page_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    browser, broken = house.browser("*", "owner"), "This part could not be read"
    assert broken not in browser.get(path).text
    read = AdminApi.get

    async def fails(self: AdminApi, asked: str, *given: Any) -> Any:
        if asked == "/served-models":
            raise ApiRefusal(500, "internal_error", "broken")
        return await read(self, asked, *given)

    monkeypatch.setattr(AdminApi, "get", fails)
    found = browser.get(path)
    assert found.status_code == 200 and broken in found.text and "internal_error" in found.text


def test_pages_are_small(house: House) -> None:
    browser = house.browser("alpha", "owner")
    for path in PATHS:
        packed = browser.get(path, accept_encoding="gzip")
        assert int(packed.headers["content-length"]) <= 40_000, path
        assert packed.text.count("<") <= 2 * 1_500, path


def test_script_and_style_are_small() -> None:
    static = TEMPLATES.parent / "static"
    sizes = {path.name: path.stat().st_size for path in static.glob("*.js")}
    on_one_page = (
        {"console.js", "charts.js"},
        {"console.js", "playground.js", "playground_key.js", "markdown.js"},
        {"console.js", "playground_key.js", "warm.js"},
    )
    assert set().union(*on_one_page) == set(sizes)
    for names in on_one_page:
        assert sum(sizes[name] for name in names) <= 25_000
    assert sum(path.stat().st_size for path in static.glob("*.css")) <= 40_000
