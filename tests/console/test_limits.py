"""Limits: made, changed and removed; who is overtaken sees both versions, and loses nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.console.visitors import Browser, House, Page

EDIT, REMOVE = "/console/limits/edit", "/console/limits/remove"
BUDGET = {
    "kind": "budget", "tenant": "alpha", "name": "own", "measure": "spend", "amount": "12.345678",
    "period": "month", "on_unavailable": "deny", "hard": "on", "alerts": "80% 100",
    "model": "alpha-model", "per_project": "on", "per_tag": "team",
}  # fmt: skip


def _fields(text: str) -> dict[str, str]:
    """What a page's form would send."""
    page, found = Page(text[text.index('<form class="card') :]), {}
    for one in page.all("input"):
        if one.get("name") and (one.get("type") != "checkbox" or "checked" in one):
            found[str(one["name"])] = str(one.get("value") or "")
    chosen = ""
    for tag, attributes in page.tags:
        if tag == "select":
            chosen = str(attributes["name"])
        elif tag == "option" and "selected" in attributes:
            found[chosen] = str(attributes["value"])
    return found


def _limit(house: House, name: str) -> Any:
    return house.platform.operator("GET", f"/limits/alpha/{name}").json()


@pytest.fixture
def browser(house: House) -> Browser:
    """Of who may set a tenant's limits."""
    return house.browser("alpha", "finance")


def test_a_budget_is_made_and_changed_by_its_form(house: House, browser: Browser) -> None:
    form = BUDGET | {"name": "made"}
    made = browser.post(EDIT, form)
    assert (made.status_code, made.headers.get("location")) == (303, "/console/limits"), made.text
    limit = _limit(house, "made")
    assert limit["amount"] == 12_345_678_000_000 and limit["alerts"] == [80, 100]
    assert limit["match"] | {"model": "", "tenant": ""} == dict.fromkeys(limit["match"], "")
    assert (limit["per"], limit["hard"]) == (["project", "tag:team"], True)
    page = browser.get(f"{EDIT}?limit=alpha/made").text
    fields = _fields(page)
    assert fields["amount"] == "12.345678" and fields["alerts"] == "80 100"
    assert browser.post(EDIT, fields).status_code == 303
    after = _limit(house, "made")
    assert {k: v for k, v in after.items() if k != "version"} == {
        k: v for k, v in limit.items() if k != "version"
    }, "what the form holds is what there is"
    del fields["hard"]
    assert browser.post(EDIT, fields | {"amount": "1,000"}).status_code == 412
    fields = _fields(browser.get(f"{EDIT}?limit=alpha/made").text) | {"amount": "1,000"}
    del fields["hard"]
    assert browser.post(EDIT, fields).status_code == 303
    after = _limit(house, "made")
    assert (after["amount"], after["hard"]) == (1_000 * 10**12, False)


def test_a_rate_is_made_and_comes_back_as_it_is(house: House, browser: Browser) -> None:
    form = _fields(browser.get(f"{EDIT}?kind=rate").text)
    assert form["tenant"] == "alpha" and "version" not in form
    form |= {"name": "rpm", "measure": "tokens", "amount": "60000", "window": "3600", "wait": "1.5",
             "burst_when_idle": "on", "tag": "team=search", "on_unavailable": "deny"}  # fmt: skip
    assert browser.post(EDIT, form).status_code == 303
    limit = _limit(house, "rpm")
    assert (limit["window_s"], limit["wait_s"], limit["burst_when_idle"]) == (3_600, 1.5, True)
    text = browser.get("/console/limits").text
    assert "60.0K tokens" in text and "an hour" in text and "team=search" in text
    assert _fields(browser.get(f"{EDIT}?limit=alpha/rpm").text)["wait"] == "1.5"


def test_who_is_overtaken_sees_both_versions(house: House, browser: Browser) -> None:
    assert browser.post(EDIT, BUDGET | {"name": "raced"}).status_code == 303
    mine = _fields(browser.get(f"{EDIT}?limit=alpha/raced").text)
    other = mine | {"amount": "20", "period": "day", "per_key_id": "on"}
    assert browser.post(EDIT, other).status_code == 303
    stale = browser.post(EDIT, mine | {"amount": "30"})
    assert stale.status_code == 412 and "changed since" in stale.text
    both = stale.text[stale.text.index('id="both"') :]
    both = both[: both.index("</table>")]
    for shown in ("30", "20", "a month", "a day", "each key", "yes"):
        assert f">{shown}<" in both, shown
    assert "alpha-model" not in both, "what is the same is not a difference"
    fields = _fields(stale.text)
    assert fields["amount"] == "30", "nothing typed is lost"
    assert browser.post(EDIT, fields).status_code == 303
    assert _limit(house, "raced")["amount"] == 30 * 10**12
    house.platform.operator("DELETE", "/limits/alpha/raced")
    gone = browser.post(EDIT, fields | {"version": "1"})
    assert gone.status_code == 412 and "removed since" in gone.text
    assert browser.post(EDIT, _fields(gone.text)).status_code == 303, "it is made anew"


def test_a_new_limit_never_replaces_one_of_its_name(house: House, browser: Browser) -> None:
    assert browser.post(EDIT, BUDGET | {"name": "taken"}).status_code == 303
    again = browser.post(EDIT, BUDGET | {"name": "taken", "amount": "1"})
    assert again.status_code == 412 and "There is a limit of this name" in again.text
    assert ">12.345678<" in again.text and "version" not in _fields(again.text)
    assert _limit(house, "taken")["amount"] == 12_345_678_000_000
    assert browser.post(EDIT, BUDGET | {"name": "taken", "version": "长"}).status_code == 412
    unseen = browser.post(EDIT, BUDGET | {"name": "alpha-budget"})
    assert unseen.status_code in (403, 412), "the platform set it"


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": ""}, {"amount": "-1"}, {"amount": "1e9"}, {"amount": "1" * 40},
        {"amount": "１２"}, {"amount": "0.0000000000001"}, {"name": "No Such!"}, {"name": ""},
        {"measure": "love"}, {"period": "week"}, {"alerts": "all"}, {"alerts": "9999999"},
        {"tag": "nothing"}, {"tenant": "beta"}, {"tenant": "<b>"}, {"model": "a\x07b"},
        {"on_unavailable": "<b>"},
        {"kind": "rate", "window": "7", "wait": "soon"}, {"name": "wallet"},
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_changes_nothing(
    house: House, browser: Browser, wrong: dict[str, str]
) -> None:
    before = house.platform.operator("GET", "/limits?limit=200").json()
    reply = browser.post(EDIT, BUDGET | {"name": "wrong"} | wrong)
    assert 400 <= reply.status_code < 500, (wrong, reply.text)
    assert 'role="alert"' in reply.text
    assert house.platform.operator("GET", "/limits?limit=200").json() == before


def test_a_limit_is_removed_by_typing_its_name(house: House, browser: Browser) -> None:
    assert browser.post(EDIT, BUDGET | {"name": "leaving"}).status_code == 303
    form = _fields(browser.get(f"{REMOVE}?limit=alpha/leaving").text)
    assert browser.post(REMOVE, form | {"typed": "leave"}).status_code == 400
    fields = _fields(browser.get(f"{EDIT}?limit=alpha/leaving").text)
    assert browser.post(EDIT, fields | {"amount": "77"}).status_code == 303
    stale = browser.post(REMOVE, form | {"typed": "leaving"})
    assert stale.status_code == 412
    assert ">77<" in stale.text and ">12.345678<" in stale.text, "both versions"
    form = _fields(stale.text) | {"typed": "leaving"}
    assert browser.post(REMOVE, form).status_code == 303
    assert house.platform.operator("GET", "/limits/alpha/leaving").status_code == 404


def test_who_may_only_look_is_offered_nothing_and_may_do_nothing(
    house: House, browser: Browser
) -> None:
    assert browser.post(EDIT, BUDGET | {"name": "watched"}).status_code == 303
    viewer = house.browser("alpha", "viewer")
    text = viewer.get("/console/limits").text
    assert "watched" in text and EDIT not in text and REMOVE not in text
    assert viewer.get(f"{EDIT}?limit=alpha/watched").status_code == 403
    assert viewer.get(f"{EDIT}?kind=rate").status_code == 403
    assert viewer.post(EDIT, BUDGET | {"name": "watched", "version": "1"}).status_code == 403
    removal = {"limit": "alpha/watched", "version": "1", "typed": "watched"}
    assert viewer.post(REMOVE, removal).status_code == 403
    for name in ("beta/beta-rate", "beta-rate", "../users", "%00", "长"):
        assert browser.get(f"{EDIT}?limit={name}").status_code in (404, 422), name
        assert browser.post(REMOVE, removal | {"limit": name}).status_code in (404, 422), name
    assert browser.get(f"{EDIT}?limit=alpha/alpha-rate").status_code == 403, "the platform set it"


def test_who_is_bound_to_a_project_sets_limits_of_that_alone(house: House) -> None:
    own = house.browser("alpha", "finance", project="p1")
    form = _fields(own.get(f"{EDIT}?kind=budget").text)
    assert form["project"] == "p1"
    form |= {"name": "of-p1", "amount": "5"}
    assert own.post(EDIT, form).status_code == 303
    assert own.post(EDIT, form | {"name": "of-all", "project": ""}).status_code == 403
