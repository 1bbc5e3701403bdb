"""One's own account: password, second factor, sign-ins, tokens, and showing who one is again."""

from __future__ import annotations

import re
import time
from html import unescape

from tests.console.visitors import Browser, House, Page, inline_code
from tokenschain.infra import qr
from tokenschain.infra.security import passwords

PASSWORD = "correct horse battery"
BETTER = "a better horse battery"


def _enter(house: House, email: str, **form: str) -> Browser:
    """Somebody who signs in by the page."""
    browser = house.stranger()
    reply = browser.post("/console/sign-in", {"email": email, "password": PASSWORD} | form)
    assert reply.status_code == 303, reply.text
    return browser


def _person(house: House, role: str = "developer") -> tuple[str, str]:
    person = house.platform.person("alpha", role, password=PASSWORD)
    rows = house.platform.rows(f"SELECT email FROM users WHERE id = '{person.id}'")
    return person.id, str(rows[0][0])


def _hidden(text: str, name: str) -> str:
    (value,) = {str(one["value"]) for one in Page(text).all("input") if one.get("name") == name}
    return value


def test_my_page_says_who_i_am_and_marks_this_sign_in(house: House) -> None:
    _, email = _person(house)
    browser = _enter(house, email)
    _enter(house, email)
    text = browser.get("/console/me").text
    assert email in text and "This one" in text and "models:*" in text
    assert text.count("This one") == 1


def test_a_sign_in_that_is_ended_is_over(house: House) -> None:
    _, email = _person(house)
    mine, other = _enter(house, email), _enter(house, email)
    text = other.get("/console/me").text
    (this,) = re.findall(r'<tr id="(tok_[^"]+)">(?:(?!</tr>).)*This one', text, re.DOTALL)
    done = mine.post("/console/tokens/end", {"token": this, "back": "/console/me"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/me")
    assert other.get("/console/me").status_code == 303, "it has to sign in"
    assert mine.get("/console/me").status_code == 200
    stranger = house.browser("beta", "owner")
    assert stranger.post("/console/tokens/end", {"token": this}).status_code == 404


def test_the_password_is_changed_and_every_sign_in_ends(house: House) -> None:
    _, email = _person(house)
    browser = _enter(house, email)
    form = {"old": PASSWORD, "new": BETTER, "again": BETTER + "x"}
    assert "not the same" in browser.post("/console/me/password", form).text
    wrong = browser.post("/console/me/password", form | {"old": "wrong", "again": BETTER})
    assert wrong.status_code == 401 and "Nothing was changed" in wrong.text
    assert BETTER not in wrong.text
    done = browser.post("/console/me/password", form | {"again": BETTER})
    assert done.headers["location"] == "/console/sign-in?changed=password"
    assert "all sign-ins have ended" in browser.get(done.headers["location"]).text
    assert browser.get("/console/me").status_code == 303
    assert house.stranger().post(
        "/console/sign-in", {"email": email, "password": BETTER}
    ).status_code == 303  # fmt: skip


def test_a_second_factor_is_set_up_with_codes_shown_once(house: House) -> None:
    _, email = _person(house)
    browser = _enter(house, email)
    offer = browser.post("/console/me/second-factor", {})
    secret, uri = _hidden(offer.text, "secret"), _hidden(offer.text, "uri")
    assert unescape(uri).startswith("otpauth://totp/TokensChain") and secret in uri
    assert secret[:4] + " " + secret[4:8] in offer.text
    picture = qr.draw(unescape(uri))
    assert picture is not None and f'd="{picture.path}"' in offer.text, "for a camera"
    assert not inline_code(offer.text)
    form = {"secret": secret, "uri": uri, "code": "000000", "password": PASSWORD}
    refused = browser.post("/console/me/second-factor/confirm", form)
    assert refused.status_code >= 400 and _hidden(refused.text, "secret") == secret
    evil = browser.post("/console/me/second-factor/confirm", form | {"uri": "javascript:alert(1)"})
    assert "javascript:" not in evil.text and 'class="qr"' not in evil.text
    form["code"] = passwords.totp_code(secret, int(time.time()) // 30)
    done = browser.post("/console/me/second-factor/confirm", form)
    assert done.status_code == 200 and "Recovery codes" in done.text
    found = re.search(r'id="codes"[^>]*>([^<]+)<', done.text)
    assert found is not None
    codes = found.group(1).split()
    assert len(codes) == 10 and codes[0] not in browser.get("/console/me").text
    entry = {"email": email, "password": PASSWORD}
    assert house.stranger().post("/console/sign-in", entry).status_code == 401
    _enter(house, email, code=codes[0])


def test_a_token_is_issued_once_the_password_was_shown_again(house: House) -> None:
    user_id, email = _person(house)
    browser = _enter(house, email)
    form = {"person": user_id, "name": "pipeline <b>", "days": "7", "may keys:read": "on",
            "back": "/console/me"}  # fmt: skip
    asked = browser.post("/console/tokens/new", form)
    assert asked.status_code == 403 and "Show again that it is you" in asked.text
    assert _hidden(asked.text, "name") == "pipeline <b>", "what was sent is kept"
    assert "<b>" not in asked.text.replace("pipeline &lt;b&gt;", "").split("<form", 4)[-1]
    wrong = browser.post("/console/tokens/new", form | {"step_up_password": "wrong"})
    assert wrong.status_code == 401 and "Nothing was changed" in wrong.text
    done = browser.post("/console/tokens/new", form | {"step_up_password": PASSWORD})
    (token,) = set(re.findall(r"tct-[\w-]{20,}", done.text))
    program = house.platform.with_token(token, user_id)
    assert program("GET", "/keys").status_code == 200
    assert program("GET", "/calls").status_code == 403
    shown = browser.get("/console/me").text
    assert "pipeline &lt;b&gt;" in shown and token not in shown
    again = browser.post("/console/tokens/new", form)
    assert again.status_code == 200, "for some minutes nothing is asked again"


def test_who_came_by_a_link_is_told_what_to_do(house: House) -> None:
    house.platform.person("*", "owner", password=PASSWORD)
    text = house.as_person("tco-of-the-operator").get("/console/me").text
    assert "owner&#39;s to add people" in text and "makes_first" not in text


def test_who_lacks_a_demanded_second_factor_is_led_to_it_before_anything_else(house: House) -> None:
    boss = house.browser("beta", "owner")
    edit = f"/console/organization/edit?unit={house.platform.unit('tenant', 'beta', 'beta')}"
    page = Page(boss.get(edit).text)
    form = {str(one["name"]): str(one.get("value", "")) for one in page.all("input")
            if one.get("name") in ("unit", "version")}  # fmt: skip
    person = house.platform.person("beta", "developer", password=PASSWORD)
    mine = house.as_person(person.token)
    assert mine.get("/console/me/second-factor").headers["location"] == "/console/me"
    demand = boss.post(edit, form | {"what": "factor", "required": "yes"})
    assert demand.status_code == 303, demand.text
    try:
        for path in ("/console", "/console/keys", "/console/me", "/console/nothing"):
            led = mine.get(path)
            assert (led.status_code, led.headers["location"]) == (303, "/console/me/second-factor")
        part = mine.get("/console/live", hx_request="true", hx_target="live")
        assert part.headers["hx-redirect"] == "/console/me/second-factor"
        for language in ("zh", "en"):
            text = house.as_person(person.token, language).get("/console/me/second-factor").text
            assert len(Page(text).all("h1")) == 1 and not inline_code(text)
        offer = mine.post("/console/me/second-factor", {})
        secret = _hidden(offer.text, "secret")
        code = passwords.totp_code(secret, int(time.time()) // 30)
        sent = {"secret": secret, "uri": "", "code": code, "password": PASSWORD}
        assert mine.post("/console/me/second-factor/confirm", sent).status_code == 200
        assert mine.get("/console/keys").status_code == 200
    finally:
        with house.platform.engine.begin() as connection:
            connection.exec_driver_sql("update organization_units set second_factor_required = 0")
