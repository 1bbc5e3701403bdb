"""Sign-up pages: asked for, confirmed by a link, with the first key shown once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.console.visitors import Browser, House, Page, inline_code, unseen
from tests.control.identity.test_sign_ups import (
    PASSWORD,
    TERMS,
    YUAN,
    code_of,
    letters,
    signing_up,
)
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.rendering import SignUpOffer
from tokenschain.infra.security.suite import INTERNATIONAL

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def console(house: House) -> Iterator[Console]:
    """A console where anyone may sign up."""
    offer = SignUpOffer(TERMS, 5 * YUAN, 10)
    settings = ConsoleSettings(None, False, "http://127.0.0.1:8000/v1", house.folder, sign_up=offer)
    with signing_up(house.platform):
        yield Console(house.platform.app, settings, INTERNATIONAL, unseen)


def _whole(text: str) -> Page:
    page = Page(text)
    assert len(page.all("h1")) == 1 and page.unclosed == []
    assert not inline_code(text.replace("x onerror=alert", "")) and "<img" not in text
    return page


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_account_is_asked_for_confirmed_and_used(
    house: House, console: Console, language: str
) -> None:
    browser = Browser(console, language=language)
    assert "/console/sign-up" in Page(browser.get("/console/sign-in").text).links()
    shown = browser.get("/console/sign-up")
    assert TERMS in _whole(shown.text).links() and "¥5" in shown.text
    email = f"founder-{language}@startup.example"
    form = {"email": email, "organization": HOSTILE, "password": PASSWORD, "again": PASSWORD}
    for wrong in ({"again": "another password"}, {}, {"password": "short", "again": "short"}):
        refused = browser.post("/console/sign-up", form | wrong)
        assert refused.status_code == 400 and f'value="{email}"' in refused.text
        assert PASSWORD not in refused.text
        _whole(refused.text)
    sent = browser.post("/console/sign-up", form | {"terms": "on"})
    assert sent.status_code == 200 and email in sent.text
    _whole(sent.text)
    link = f"/console/confirm?code={code_of(letters(house.platform)[-1])}"
    for _ in range(2):
        asked = browser.get(link)
        assert asked.status_code == 200 and email in asked.text
    page = _whole(asked.text)
    code = next(str(one["value"]) for one in page.all("input") if one.get("name") == "code")
    form = {"code": code, "password": PASSWORD}
    wrong_one = browser.post("/console/confirm", form | {"password": "guessed it was this"})
    assert wrong_one.status_code == 401 and "set-cookie" not in wrong_one.headers
    done = browser.post("/console/confirm", form)
    assert done.status_code == 200 and "HttpOnly" in done.headers["set-cookie"]
    assert len(re.findall(r'id="new-key">tc', done.text)) == 1
    assert "content-encoding" not in done.headers
    _whole(done.text)
    wallet = browser.get("/console/wallet").text
    assert "¥5" in wallet and ("赠送" if language == "zh" else "Free credit") in wallet
    tenant = browser.get("/console/people").text
    assert email in tenant and "alpha" not in tenant and "beta" not in tenant
    assert browser.get(link).status_code == 401


def test_where_nobody_signs_up_the_pages_say_so(house: House) -> None:
    stranger = house.stranger()
    assert "/console/sign-up" not in stranger.get("/console/sign-in").text
    assert stranger.get("/console/sign-up").status_code == 404
    form = {"email": "a@b.example", "organization": "x", "password": PASSWORD, "again": PASSWORD}
    assert stranger.post("/console/sign-up", form).status_code == 404
    assert stranger.get("/console/confirm?code=" + "x" * 30).status_code == 404
    foreign = stranger.post("/console/sign-up", form, sec_fetch_site="cross-site")
    assert foreign.status_code == 403
