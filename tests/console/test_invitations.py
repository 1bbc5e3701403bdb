"""Invitation pages: who invites, and who comes in by the link."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urlsplit

import pytest

from tests.console.visitors import Browser, House, Page, inline_code

HOSTILE = "<img src=x onerror=alert(1)>"
PASSWORD = "correct horse battery"
INVITE = "/console/people/invite"


def _invite(boss: Browser, email: str, **fields: str) -> str:
    """The path of the link that the page shows this once."""
    form = {"email": email, "name": "", "tenant": "alpha", "role": "developer", **fields}
    sent = boss.post(INVITE, form)
    assert sent.status_code == 200, sent.text
    found = re.search(r'id="link">([^<]+)<', sent.text)
    assert found is not None and "content-encoding" not in sent.headers
    parts = urlsplit(unescape(found.group(1)))
    return f"{parts.path}?{parts.query}"


def _form(text: str, **fields: str) -> dict[str, str]:
    code = next(str(one["value"]) for one in Page(text).all("input") if one.get("name") == "code")
    return {"code": code, "name": "Ann", "password": PASSWORD, "again": PASSWORD, **fields}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_somebody_comes_in_by_the_link_and_has_the_role(house: House, language: str) -> None:
    boss = house.browser("alpha", "owner")
    email = f"in-{language}@alpha.example"
    link = _invite(boss, email, name=HOSTILE)
    listed = boss.get("/console/people").text
    assert "Invited" in listed and "<img" not in listed and link not in listed
    own = house.stranger(language)
    for _ in range(2):  # a mail server that looks at links uses none up
        shown = own.get(link)
        assert shown.status_code == 200 and email in shown.text
        assert "<img" not in shown.text and not inline_code(
            shown.text.replace("x onerror=alert", "")
        )
    page = Page(shown.text)
    assert len(page.all("h1")) == 1 and page.unclosed == []
    assert "unsafe" not in shown.headers["content-security-policy"]
    form = _form(shown.text, name="Li <b>")
    other = own.post("/console/invitation", form | {"again": "something else here"})
    assert other.status_code == 400 and PASSWORD not in other.text and "Li &lt;b&gt;" in other.text
    weak = own.post("/console/invitation", form | {"password": "short", "again": "short"})
    assert weak.status_code == 400
    entered = own.post("/console/invitation", form)
    assert (entered.status_code, entered.headers["location"]) == (303, "/console")
    assert "HttpOnly" in entered.headers["set-cookie"]
    assert email in own.get("/console/me").text and own.get("/console/keys").status_code == 200
    for again in (own.get(link), house.stranger().post("/console/invitation", form)):
        assert again.status_code == 401 and "set-cookie" not in again.headers
    assert house.stranger().post(
        "/console/sign-in", {"email": email, "password": PASSWORD}
    ).status_code == 303  # fmt: skip


def test_an_invitation_is_sent_again_and_withdrawn_on_the_page_of_the_person(house: House) -> None:
    boss = house.browser("alpha", "owner")
    first = _invite(boss, "again@alpha.example")
    (user_id,) = house.platform.rows("select id from users where email = 'again@alpha.example'")[0]
    page, form = f"/console/people/person?person={user_id}", {"person": str(user_id)}
    text = boss.get(page).text
    assert "Invite again" in text and "Withdraw the invitation" in text
    soon = boss.post(f"{INVITE}/resend", form)
    assert soon.status_code == 429 and "just sent" in soon.text
    with house.platform.engine.begin() as connection:
        connection.exec_driver_sql("update audit_events set at_ms = at_ms - 61000")
    second = boss.post(f"{INVITE}/resend", form)
    assert second.status_code == 200 and 'id="link"' in second.text
    assert house.stranger().get(first).status_code == 401
    assert boss.post(f"{INVITE}/withdraw", form).status_code == 303
    assert "Withdraw" not in boss.get(page).text
    for stranger in (house.browser("beta", "owner"), house.browser("alpha", "viewer")):
        for path in ("resend", "withdraw"):
            assert stranger.post(f"{INVITE}/{path}", form).status_code in (403, 404)


def test_what_was_typed_stays_when_it_is_refused_and_who_invites_shows_it_is_them(
    house: House,
) -> None:
    boss = house.browser("alpha", "admin")
    form = {"email": "not an address", "name": HOSTILE, "tenant": "alpha", "role": "viewer"}
    refused = boss.post(INVITE, form)
    assert refused.status_code == 400 and 'value="not an address"' in refused.text
    assert "Nobody was invited" in refused.text and "<img" not in refused.text
    owner = boss.post(INVITE, form | {"email": "o@alpha.example", "role": "owner"})
    assert owner.status_code == 403 and "Nobody was invited" in owner.text
    person = house.platform.person("alpha", "owner", stepped_up=False, password=PASSWORD)
    late = house.as_person(person.token)
    form = {"email": "late@alpha.example", "name": "", "tenant": "alpha", "role": "viewer"}
    assert "Show again that it is you" in late.post(INVITE, form).text
    assert 'id="link"' in late.post(INVITE, form | {"step_up_password": PASSWORD}).text
    assert house.browser("alpha", "viewer").get(INVITE).status_code == 403


def test_no_form_of_another_site_accepts(house: House) -> None:
    reply = house.stranger().post("/console/invitation", {"code": "x"}, sec_fetch_site="cross-site")
    assert reply.status_code == 403


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_invitation_whose_mail_was_not_taken_is_shown_and_sent_again(
    house: House, language: str
) -> None:
    boss = house.browser("alpha", "owner", language=language)
    email = f"lost-{language}@alpha.example"
    _invite(boss, email)
    (user_id,) = house.platform.rows(f"select id from users where email = '{email}'")[0]
    with house.platform.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into mails (id, sealed, tries, next_try_s, expires_at_s, user_id)"
            f" values ('mal_{language}', x'00', 8, 9999999999, 9999999999, '{user_id}')"
        )
        connection.exec_driver_sql("update audit_events set at_ms = at_ms - 61000")
    told = {"zh": "邮件未送出", "en": "Mail not sent"}[language]
    person = f"/console/people/person?person={user_id}"
    assert told in boss.get(person).text
    listed = boss.get("/console/people").text
    assert told in listed and f"{INVITE}/resend" in listed
    if language == "en":
        viewer = house.browser("alpha", "auditor")
        assert f"{INVITE}/resend" not in viewer.get("/console/people").text
    assert boss.post(f"{INVITE}/resend", {"person": str(user_id)}).status_code == 200
    assert told not in boss.get(person).text
