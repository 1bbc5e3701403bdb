"""People and roles: somebody new, roles given and taken, why something may be done, own roles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.console.visitors import Browser, House, Page, unseen
from tests.security.platform import platform
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.control.identity import sign_in_links
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.security.suite import INTERNATIONAL

HOSTILE = "<img src=x onerror=alert(1)>"


def _make(browser: Browser, email: str, **fields: str) -> str:
    """Somebody new; returns the id."""
    form = {"name": f"New {email}", "email": email, "kind": "user", "entry": "password",
            "tenant": "alpha", **fields}  # fmt: skip
    made = browser.post("/console/people/new", form)
    assert made.status_code == 200, made.text
    (user_id,) = set(re.findall(r"person=([a-z]+_[0-9a-f]+)", made.text))
    return user_id


def _version(text: str) -> str:
    values = {str(one["value"]) for one in Page(text).all("input") if one.get("name") == "version"}
    (version,) = values
    return version


def test_somebody_new_signs_in_with_a_password_that_was_shown_once(house: House) -> None:
    boss = house.browser("alpha", "owner")
    form = {"name": HOSTILE, "email": "new@alpha.example", "kind": "user", "entry": "password",
            "tenant": "alpha"}  # fmt: skip
    made = boss.post("/console/people/new", form)
    found = re.search(r'id="new-password">([^<]+)<', made.text)
    assert found is not None and "content-encoding" not in made.headers
    entry = {"email": "new@alpha.example", "password": found.group(1)}
    own = house.stranger()
    assert own.post("/console/sign-in", entry).status_code == 303
    assert "Nothing; an administrator" in own.get("/console/me").text
    listed = boss.get("/console/people").text
    assert "&lt;img src=x" in listed and "<img" not in listed and found.group(1) not in listed
    again = boss.post("/console/people/new", form)
    assert again.status_code == 409 and "It was not made" in again.text
    assert 'value="new@alpha.example"' in again.text


@pytest.mark.parametrize("page", ["new", "invite"])
def test_people_of_the_platform_pick_a_tenant_and_others_have_their_own(
    house: House, page: str
) -> None:
    boss = house.as_person("tco-of-the-operator")
    text = boss.get(f"/console/people/{page}").text
    picked = text[text.index('<select name="tenant">') :].partition("</select>")[0]
    assert 'value=""' in picked and 'value="alpha"' in picked and 'value="beta"' in picked
    own = house.browser("alpha", "owner").get(f"/console/people/{page}").text
    assert '<select name="tenant"' not in own and "beta" not in own


def test_who_came_by_the_link_makes_the_first_account_and_it_is_the_owner(
    tmp_path: Path,
) -> None:
    settings = ConsoleSettings(None, False, "http://127.0.0.1:8000/v1", tmp_path)
    with platform(tmp_path) as fresh:
        with fresh.engine.begin() as db:
            code = sign_in_links.make(db, INTERNATIONAL)
        browser = Browser(Console(fresh.app, settings, INTERNATIONAL, unseen))
        assert browser.get(f"/console/enter?code={code}").status_code == 303
        assert "/console/people/new" in browser.get("/console/me").text
        assert "gets the role of the owner" in browser.get("/console/people/new").text
        form = {"name": "Li", "email": "li@example.com", "kind": "user", "entry": "password"}
        made = browser.post("/console/people/new", form)
        found = re.search(r'id="new-password">([^<]+)<', made.text)
        assert found is not None, made.text
        assert "gets the role of the owner" not in browser.get("/console/people/new").text
        other = browser.post("/console/people/new", form | {"email": "other@example.com"})
        assert other.status_code == 403 and "sign in with an account of your own" in other.text
        entry = {"email": "li@example.com", "password": found.group(1)}
        owner = Browser(Console(fresh.app, settings, INTERNATIONAL, unseen))
        assert owner.post("/console/sign-in", entry).status_code == 303
        assert owner.get("/console/people/new").status_code == 200


def test_a_role_is_given_and_taken_and_the_page_says_what_may_be_done_and_why(house: House) -> None:
    boss = house.browser("alpha", "owner")
    user_id = _make(boss, "reader@alpha.example")
    page = f"/console/people/person?person={user_id}"
    assert "No role: nothing may be done" in boss.get(page).text
    form = {"person": user_id, "tenant": "alpha", "role": "developer", "project": "p1"}
    given = boss.post("/console/people/give", form)
    assert (given.status_code, given.headers["location"]) == (303, page)
    text = boss.get(page).text
    assert "Developer · alpha / p1" in text and "keys:create" in text
    assert "billing:read" not in text
    (binding,) = set(re.findall(r'name="binding" value="([^"]+)"', text))
    viewer = house.browser("alpha", "viewer")
    assert viewer.get("/console/people").status_code in (200, 403)
    assert viewer.get(page).status_code in (403, 404)
    assert viewer.post("/console/people/take", {"person": user_id, "binding": binding}).status_code in (403, 404)  # fmt: skip
    assert house.browser("beta", "owner").get(page).status_code == 404
    taken = boss.post("/console/people/take", {"person": user_id, "binding": binding})
    assert taken.status_code == 303 and "No role: nothing" in boss.get(page).text


def test_power_over_accounts_is_given_once_it_was_shown_who_gives_it(house: House) -> None:
    secret = "a secret of this boss"
    person = house.platform.person("alpha", "owner", stepped_up=False, password=secret)
    boss = house.as_person(person.token)
    user_id = _make(house.browser("alpha", "owner"), "chief@alpha.example")
    form = {"person": user_id, "tenant": "alpha", "role": "admin"}
    asked = boss.post("/console/people/give", form)
    assert asked.status_code == 403 and "Show again that it is you" in asked.text
    done = boss.post("/console/people/give", form | {"step_up_password": secret})
    assert done.status_code == 303
    page = f"/console/people/person?person={user_id}"
    assert "Admin" in boss.get(page).text


def test_an_account_is_renamed_shut_out_and_let_in_by_who_has_seen_it_last(house: House) -> None:
    boss = house.browser("alpha", "owner")
    user_id = _make(boss, "leaver@alpha.example")
    page = f"/console/people/person?person={user_id}"
    form = {"person": user_id, "version": _version(boss.get(page).text)}
    renamed = boss.post("/console/people/change", form | {"what": "rename", "name": "Li <b>"})
    assert renamed.status_code == 303 and "Li &lt;b&gt;" in boss.get(page).text
    stale = boss.post("/console/people/change", form | {"what": "disable"})
    assert stale.status_code == 412 and "Nothing was changed" in stale.text
    form["version"] = _version(boss.get(page).text)
    assert boss.post("/console/people/change", form | {"what": "disable"}).status_code == 303
    assert "Disabled" in boss.get(page).text
    form["version"] = _version(boss.get(page).text)
    assert boss.post("/console/people/change", form | {"what": "enable"}).status_code == 303
    form["version"] = _version(boss.get(page).text)
    reset = boss.post("/console/people/change", form | {"what": "password"})
    assert reset.status_code == 200 and 'id="new-password"' in reset.text
    assert boss.get(f"/console/people/factor?person={user_id}").status_code == 200
    form = {"person": user_id, "password": "wrong"}
    assert boss.post("/console/people/factor", form).status_code >= 400


def test_a_role_of_ones_own_is_defined_and_duties_stay_apart(house: House) -> None:
    boss = house.browser("alpha", "owner")
    form = {"of": "alpha", "role": "key-keeper", "is_new": "yes", "may keys:read": "on",
            "may keys:create": "on"}  # fmt: skip
    assert boss.post("/console/people/roles/edit", form).status_code == 303
    assert "key-keeper" in boss.get("/console/people/roles").text
    both = boss.post("/console/people/roles/edit", form | {"may audit:read": "on"})
    assert both.status_code == 400 and "audit:read" in both.text
    edit = boss.get("/console/people/roles/edit?role=key-keeper&of=alpha").text
    checked = [one["name"] for one in Page(edit).all("input") if "checked" in one]
    assert checked == ["may keys:read", "may keys:create"]
    assert boss.get("/console/people/roles/edit?role=owner&of=*").status_code in (403, 404)
    stranger = house.browser("beta", "owner")
    assert "key-keeper" not in stranger.get("/console/people/roles").text
    assert stranger.get("/console/people/roles/edit?role=key-keeper&of=alpha").status_code == 403
    assert stranger.post("/console/people/roles/remove", form).status_code >= 400
    assert boss.post("/console/people/roles/remove", form).status_code == 303
    assert "key-keeper" not in boss.get("/console/people/roles").text


def test_a_service_account_gets_a_token(house: House) -> None:
    boss = house.browser("alpha", "owner")
    user_id = _make(boss, "robot@alpha.example", kind="service", entry="none")
    page = boss.get(f"/console/people/person?person={user_id}").text
    assert f"/console/tokens/new?person={user_id}" in page
    form = {"person": user_id, "name": "nightly", "days": "30", "may *": "on",
            "back": f"/console/people/person?person={user_id}"}  # fmt: skip
    made = boss.post("/console/tokens/new", form)
    assert made.status_code == 200 and "tct-" in made.text
    assert "nightly" in boss.get(f"/console/people/person?person={user_id}").text
    assert AccessSettings().password_characters_min == 12, "as the page of one's own account says"
