"""Signing in and out of the console, and what keeps it shut."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.visitors import Browser, House, Page, inline_code, unseen
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.session_cookie import own_path
from tokenschain.control.identity import sign_in_links
from tokenschain.infra.security.suite import INTERNATIONAL

PASSWORD = "correct horse battery"


def _email(house: House, user_id: str) -> str:
    return str(house.platform.rows(f"SELECT email FROM users WHERE id = '{user_id}'")[0][0])


def test_nobody_signed_in_is_sent_to_the_sign_in_and_back(house: House) -> None:
    person = house.platform.person("alpha", "developer", password=PASSWORD)
    browser = house.stranger()
    sent = browser.get("/console?range=7d")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/console/sign-in?next=%2Fconsole%3Frange%3D7d"
    shown = browser.get(sent.headers["location"])
    assert shown.status_code == 200 and 'value="/console?range=7d"' in shown.text
    form = {"email": _email(house, person.id), "password": PASSWORD, "next": "/console?range=7d"}
    entered = browser.post("/console/sign-in", form)
    assert (entered.status_code, entered.headers["location"]) == (303, "/console?range=7d")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    page = browser.get("/console?range=7d")
    assert page.status_code == 200 and "Overview" in page.text
    former = str(browser.cookie("tc"))
    assert browser.post("/console/sign-in", form).status_code == 303
    over = Browser(house.console, former).get("/console?range=7d")
    assert over.status_code == 303, "who signs in again leaves no session behind"
    token = browser.cookie("tc")
    assert browser.post("/console/sign-out", {}).headers["location"] == "/console/sign-in"
    again = Browser(house.console, str(token)).get("/console")
    assert again.status_code == 303, "the session is over, not only the cookie gone"


@pytest.mark.parametrize(
    "path",
    ["/console/../api/v1/me", "/console/..//evil.example", "/console/%2e%2e/api/v1/me",
     "//evil.example/console", "https://evil.example/console", "/console/./x", "/consolex"],
)  # fmt: skip
def test_one_goes_on_to_a_page_of_the_console_alone(path: str) -> None:
    assert own_path(path) == "/console"
    assert own_path("/console/calls?model=a..b") == "/console/calls?model=a..b"


def test_a_fragment_of_an_ended_session_sends_the_whole_page(house: House) -> None:
    reply = house.stranger().get(
        "/console/live", hx_request="true", hx_current_url="http://127.0.0.1:8001/console?range=7d"
    )
    assert reply.headers["hx-redirect"] == "/console/sign-in?next=%2Fconsole%3Frange%3D7d"


def test_a_wrong_sign_in_is_told_in_one_sentence_whatever_was_wrong(house: House) -> None:
    person = house.platform.person("alpha", "viewer", password=PASSWORD)
    email, told = _email(house, person.id), set()
    for form in (
        {"email": email, "password": "wrong"},
        {"email": "nobody@alpha.example", "password": PASSWORD},
        {"email": "no address", "password": PASSWORD},
        {"email": email, "password": PASSWORD[:-1], "code": "not a code"},
        {},
    ):
        reply = house.stranger().post("/console/sign-in", form)
        assert reply.status_code in (400, 401) and "set-cookie" not in reply.headers
        told.add(Page(reply.text).words.partition("wrong.")[0][-60:])
        assert PASSWORD not in reply.text
    assert len(told) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "", "origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-out", "/console/preferences"])
def test_forms_of_other_sites_are_refused(house: House, path: str, headers: dict[str, str]) -> None:
    reply = house.browser("alpha", "developer").post(path, {"lang": "zh"}, **headers)
    assert reply.status_code == 403 and "set-cookie" not in reply.headers


def test_a_name_that_was_resolved_to_this_machine_by_others_is_not_served(house: House) -> None:
    for host in ("evil.example", "10.0.0.5:8001", "127.0.0.1.evil.example", "", "[", "a]b"):
        assert house.browser("alpha", "developer").get("/console", host=host).status_code == 421
    for host in ("localhost:8001", "[::1]:8001", "127.0.0.1:9"):
        assert house.browser("alpha", "developer").get("/console", host=host).status_code == 200


def test_behind_https_the_cookie_is_of_this_host_alone(house: House) -> None:
    settings = ConsoleSettings(
        "https://ai.example.cn", False, "http://127.0.0.1:8000/v1", house.folder
    )
    console = Console(house.platform.app, settings, INTERNATIONAL, unseen)
    person = house.platform.person("alpha", "developer", password=PASSWORD)
    form = {"email": _email(house, person.id), "password": PASSWORD}
    entered = Browser(console).post("/console/sign-in", form, host="ai.example.cn")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith("__Host-tc=") and "Secure" in cookie and "Path=/;" in cookie
    assert "Domain" not in cookie
    assert Browser(console).get("/console/sign-in", host="other.example.cn").status_code == 421


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/console", "//evil.example/console", "/\\evil.example", "/api/v1/me",
     "/console/../api", "/consolex", "//[", "//a]b/console", "/console\r\nset-cookie: a=b", "/console/sign-out"],
)  # fmt: skip
def test_the_way_back_stays_in_the_console(house: House, wanted: str) -> None:
    person = house.platform.person("alpha", "viewer", password=PASSWORD)
    form = {"email": _email(house, person.id), "password": PASSWORD, "next": wanted}
    reply = house.stranger().post("/console/sign-in", form)
    assert reply.status_code == 303
    assert reply.headers["location"] in ("/console", "/console/../api")


def test_each_answer_carries_the_policy_and_none_is_kept(house: House) -> None:
    browser = house.browser("alpha", "developer")
    for path in ("/console", "/console/sign-in", "/console/nothing", "/console/live"):
        reply = browser.get(path)
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["cache-control"] == "no-store"
        assert not inline_code(reply.text)


def test_static_files_are_kept_for_ever_under_an_address_with_a_hash(house: House) -> None:
    page = Page(house.stranger().get("/console/sign-in").text)
    sheets = [str(one["href"]) for one in page.all("link") if one.get("rel") == "stylesheet"]
    assert [sheet.rpartition("/")[2] for sheet in sheets] == ["console.css", "dark.css"]
    for sheet in sheets:
        reply = house.stranger().get(sheet)
        assert reply.status_code == 200 and "immutable" in reply.headers["cache-control"]
        other = sheet.replace(sheet.split("/")[3], "0" * 12)
        assert house.stranger().get(other).status_code == 404
    for wrong in ("/console/static/x/../../../etc/passwd", "/console/static/", "/console/static/x"):
        assert house.stranger().get(wrong).status_code == 404


def test_a_large_form_is_refused(house: House) -> None:
    reply = house.stranger().post("/console/sign-in", {"email": "x" * 70_000})
    assert reply.status_code == 413


def test_language_and_theme_follow_the_browser_until_chosen(house: House) -> None:
    browser = house.stranger(language="")
    assert 'lang="zh-CN"' in browser.get("/console/sign-in", accept_language="zh-TW").text
    assert 'lang="en"' in browser.get("/console/sign-in", accept_language="fr,en;q=.5").text
    chosen = browser.post(
        "/console/preferences", {"lang": "zh", "theme": "dark", "back": "/console/sign-in"}
    )
    assert chosen.headers["location"] == "/console/sign-in"
    text = browser.get("/console/sign-in", accept_language="en").text
    assert 'lang="zh-CN"' in text
    wrong = browser.post("/console/preferences", {"lang": "<b>", "theme": "pink"})
    assert "set-cookie" not in wrong.headers


def test_the_operators_link_leads_to_the_first_run_page_once(house: House) -> None:
    with house.platform.engine.begin() as db:
        code = sign_in_links.make(db, INTERNATIONAL)
    browser = house.stranger()
    entered = browser.get(f"/console/enter?code={code}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/console/start")
    page = browser.get("/console/start")
    assert 'data-copy-of="#start-code"' in page.text and 'id="start-code"' in page.text
    assert page.status_code == 200 and "The first call" in page.text
    again = house.stranger().get(f"/console/enter?code={code}")
    assert again.status_code == 401 and "set-cookie" not in again.headers
    assert code not in again.text and "sign-in-link" in again.text


def test_signing_in_with_the_company_comes_back_to_the_console(house: House) -> None:
    asked: list[tuple[str, str, dict[bytes, bytes]]] = []

    async def provider_side(scope: Any, receive: Any, send: Any) -> None:
        asked.append((scope["path"], scope["query_string"].decode(), dict(scope["headers"])))
        start = scope["path"].endswith("/start")
        headers = [(b"location", b"https://idp.example/authorize")] if start else []
        headers.append((b"set-cookie", b"tc_oidc=kept; Path=/api/v1/oidc; HttpOnly"))
        fine = b"code=right" in scope["query_string"]
        status = 302 if start else 200 if fine else 401
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b'{"token":"tcs-of-ann","expires_at_s":1}' if fine else b"{}"
        await send({"type": "http.response.body", "body": body})

    settings = ConsoleSettings(None, True, "http://127.0.0.1:8000/v1", house.folder)
    console = Console(provider_side, settings, INTERNATIONAL, unseen)
    browser = Browser(console)
    assert "/console/sign-in/company" in browser.get("/console/sign-in").text
    away = browser.get("/console/sign-in/company")
    assert away.headers["location"] == "https://idp.example/authorize"
    back = browser.get("/api/v1/oidc/callback?state=s&code=right&session_state=x")
    assert (back.status_code, back.headers["location"]) == (303, "/console")
    assert browser.cookie("tc") == "tcs-of-ann"
    path, query, headers = asked[-1]
    assert (path, query) == ("/api/v1/oidc/callback", "state=s&code=right")
    assert b"tc_oidc=kept" in headers[b"cookie"]
    # Who did not come from the console gets the API's own answer.
    assert browser.get("/api/v1/oidc/callback?state=s&code=right").json()["token"] == "tcs-of-ann"
    browser.get("/console/sign-in/company")
    refused = browser.get("/api/v1/oidc/callback?state=s&code=wrong")
    assert refused.status_code == 401 and 'role="alert"' in refused.text
