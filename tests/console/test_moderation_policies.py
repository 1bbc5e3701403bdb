"""Moderation policy page: typed, previewed, applied, and what holds with where it comes from."""

from __future__ import annotations

import re
import typing
from typing import Any

import pytest

from tests.console.visitors import Browser, House, Page, inline_code
from tokenschain.console.moderation_policies import CHOICES, MANAGED, TEXTS, TICKS
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy

HOME = "/console/moderation"
PAGE, HELD = f"{HOME}/policy", f"{HOME}/effective"
HOSTILE = "<img src=x onerror=alert(1)>\u202e长🙂"


def _fields(text: str) -> dict[str, str]:
    """What a browser would send of a page's form."""
    page = Page(text)
    found = {
        one["name"]: one.get("value") or ""
        for one in page.all("input")
        if one.get("name") and (one.get("type") != "checkbox" or "checked" in one)
    }
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', text, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        first = re.search(r'value="([^"]*)"', options)
        found[name] = (chosen or first)[1]  # type: ignore[index]
    return found


def _spec(house: House, name: str) -> dict[str, Any]:
    reply = house.platform.operator("GET", f"/moderation-policies/{name}?tenant=alpha")
    assert reply.status_code == 200, reply.text
    return reply.json()["spec"]  # type: ignore[no-any-return]


def _apply(browser: Browser, form: dict[str, str]) -> Any:
    """Preview, then what the previewed form says."""
    preview = browser.post(PAGE, {**form, "step": "preview"})
    assert preview.status_code == 200 and 'id="preview"' in preview.text, preview.text
    return browser.post(PAGE, {**_fields(preview.text), "step": "apply"})


def test_a_policy_is_made_changed_and_keeps_what_the_form_does_not_have(house: House) -> None:
    browser = house.browser("alpha", "owner")
    form = _fields(browser.get(PAGE).text)
    form |= {"name": "bank", "state": "share", "share": "12.5", "sector": "finance",
             "engines": "dual，green", "engine_failure": "local", "stream": "sentence",
             "category-1": "values/*", "category_high-1": "review", "category_medium-1": "pass",
             "data-mobile": "mask", "class-mobile": "personal", "classifier-medium": "0.6",
             "offenders-a_day": "7", "message_zh": "请找柜台。", "keep_texts": "on",
             "reason": "a bank"}  # fmt: skip
    assert not house.platform.rows("SELECT 1 FROM resources WHERE name = 'bank'")
    reply = _apply(browser, form)
    assert reply.status_code == 303, reply.text
    assert _spec(house, "bank") == {
        "state": "share", "share": 0.125, "sector": "finance", "engines": ["dual", "green"],
        "engine_failure": "local", "stream": "sentence", "keep_texts": True,
        "category_actions": {"values/*": {"high": "review", "medium": "pass"}},
        "personal_data": {"mobile": "mask"}, "data_classes": {"mobile": "personal"},
        "classifier": {"medium": 0.6}, "offenders": {"a_day": 7}, "message_zh": "请找柜台。",
    }  # fmt: skip
    words = {"words": [{"text": "某词", "risk": "A.1.h", "level": 3}]}
    path = "/moderation-policies/bank?tenant=alpha"
    assert house.platform.operator("PATCH", path, {"spec": words}).status_code == 200
    form = _fields(browser.get(f"{PAGE}?name=bank&of=alpha").text)
    form |= {"state": "active", "classifier-medium": "", "classifier-high": "", "category-1": ""}
    del form["keep_texts"]
    assert _apply(browser, form).status_code == 303
    spec = _spec(house, "bank")
    assert spec["state"] == "active" and len(spec["words"]) == 1
    assert not {"classifier", "category_actions", "keep_texts"} & spec.keys()


def test_a_policy_that_names_many_categories_keeps_them_all(house: House) -> None:
    letters = "abcdefghijk"
    named = {f"values/{a}{b}": {"high": "review"} for a in letters for b in letters}
    path = "/moderation-policies/many?tenant=alpha"
    given = {"spec": {"category_actions": named}}
    assert house.platform.operator("PUT", path, given).status_code == 200
    browser = house.browser("alpha", "owner")
    form = _fields(browser.get(f"{PAGE}?name=many&of=alpha").text) | {"stream": "full"}
    assert _apply(browser, form).status_code == 303
    assert _spec(house, "many") == {"category_actions": named, "stream": "full"}


def test_what_was_not_previewed_is_not_applied_and_a_later_change_not_overwritten(
    house: House,
) -> None:
    path = "/moderation-policies/steps?tenant=alpha"
    assert house.platform.operator("PUT", path, {"spec": {"state": "shadow"}}).status_code == 200
    browser = house.browser("alpha", "owner")
    form = _fields(browser.get(f"{PAGE}?name=steps&of=alpha").text)
    shown = _fields(browser.post(PAGE, {**form, "state": "active", "step": "preview"}).text)
    other = browser.post(PAGE, {**shown, "stream": "full", "step": "apply"})
    assert other.status_code == 200 and _spec(house, "steps") == {}, "it is a preview again"
    body = {"spec": {"media": "block"}}
    assert house.platform.operator("PUT", path, body).status_code == 200
    late = browser.post(PAGE, {**shown, "step": "apply"})
    assert late.status_code == 412 and _spec(house, "steps") == {"media": "block"}
    taken = browser.post(PAGE, {**form, "revision": "", "name": "steps", "step": "preview"})
    assert taken.status_code == 409


@pytest.mark.parametrize(
    ("field", "value"),
    [("share", "200"), ("share", HOSTILE), ("engines", "a b c d"), ("review_hours", "0"),
     ("scope", "tenant/beta"), ("category-1", "Nothing!"), ("classifier-medium", "2"),
     ("engine_wait_max_s", "soon"), ("class-mobile", "a b"), ("state", "asleep")],
)  # fmt: skip
def test_a_wrong_field_is_named_and_what_was_typed_stays(
    house: House, field: str, value: str
) -> None:
    browser = house.browser("alpha", "owner")
    form = _fields(browser.get(PAGE).text) | {"name": "wrong", "classifier-high": "", field: value}
    reply = browser.post(PAGE, {**form, "step": "preview"})
    assert reply.status_code == 400 and 'role="alert"' in reply.text
    assert field == "state" or _fields(reply.text)[field] == value
    assert "<img" not in reply.text and not inline_code(reply.text.replace(" onerror=", ""))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_effective_values_say_where_they_come_from(house: House, language: str) -> None:
    spec = {"state": "active", "sector": "health", "classifier": {}, "audience": "internal"}
    path = "/moderation-policies/clinic?tenant=alpha"
    assert house.platform.operator("PUT", path, {"spec": spec}).status_code == 200
    browser = house.browser("alpha", "owner", language)
    text = browser.get(f"{PAGE}?name=clinic&of=alpha").text
    rows = text.partition('id="effective"')[2]
    origin = {"zh": ("行业", "受众", "默认"), "en": ("Sector", "Audience", "Default")}[language]
    for field, value, said in (
        ("personal_data.medical_record", "reversible", origin[0]),
        ("engine_failure", "local", origin[1]),
        ("stream", "holdback", origin[2]),
    ):
        row = rows.partition(f"<code>{field}</code>")[2].partition("</tr>")[0]
        assert value in row and said in row, (field, row)
    assert "<code>classifier.high</code>" in rows
    held = browser.get(f"{HELD}?of_project=p1").text
    assert "clinic" in held and {"zh": "租户", "en": "Tenant"}[language] in held


def test_a_reader_changes_nothing_and_a_stranger_sees_nothing(house: House) -> None:
    path = "/moderation-policies/ours?tenant=alpha"
    assert house.platform.operator("PUT", path, {"spec": {}}).status_code == 200
    auditor = house.browser("alpha", "auditor")
    text = auditor.get(f"{PAGE}?name=ours&of=alpha").text
    assert 'value="preview"' not in text
    form = _fields(text) | {"state": "active", "step": "preview"}
    assert auditor.post(PAGE, form).status_code == 403
    stranger = house.browser("beta", "owner")
    assert stranger.get(f"{PAGE}?name=ours&of=alpha").status_code == 404
    assert "ours" not in stranger.get(f"{HELD}?tenant=alpha").text.replace("tenant=alpha", "")


def test_the_form_has_every_field_of_a_policy_with_its_values() -> None:
    fields = set(ModerationPolicy.__struct_fields__)
    assert fields - MANAGED == {"words", "message"} and not MANAGED - fields
    hints = typing.get_type_hints(ModerationPolicy)
    for name, values in CHOICES.items():
        assert typing.get_args(hints[name]) == values or set(typing.get_args(hints[name])) == set(
            values
        ), name
    assert {*TEXTS, *TICKS} <= fields
