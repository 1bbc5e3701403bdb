"""Warming page: an estimate first, then questions one by one with a key that ends by itself."""

from __future__ import annotations

import json
from html import unescape

import pytest

from tests.console.visitors import House, Page, inline_code, streamed

WARM = "/console/cache/warm"
HOSTILE = '<img src=x onerror=alert(1)>"'


@pytest.mark.parametrize("language", ["zh", "en"])
def test_questions_are_estimated_before_anything_is_sent(house: House, language: str) -> None:
    browser = house.browser("alpha", "owner", language=language)
    form = {"model": "sold", "system": "be brief", "answer_tokens": "100",
            "questions": f'怎么退货？\n\n{{"questions": ["how long?", "when?"]}}\n{HOSTILE}\n'}  # fmt: skip
    asked = len(house.gateway.asked)
    shown = browser.post(WARM, form)
    assert shown.status_code == 200 and not inline_code(shown.text.replace("x onerror", ""))
    page = Page(shown.text)
    rows = [one for one in page.all("li") if "data-request" in one]
    requests = [json.loads(unescape(str(one["data-request"]))) for one in rows]
    assert [one["messages"][1]["content"] for one in requests] == [
        "怎么退货？",
        "how long?",
        HOSTILE,
    ]
    assert all(one["model"] == "sold" for one in requests) and "<img" not in shown.text
    (button,) = [one for one in page.all("button") if one.get("id") == "send"]
    assert button["data-tenant"] == "alpha"
    assert "≈ ¥0.00" in shown.text, "4.25 yuan and three times as much a million tokens"
    assert len(house.gateway.asked) == asked
    assert len(page.all("h1")) == 1 and page.unclosed == []


def test_what_cannot_be_sent_is_said_with_what_was_typed(house: House) -> None:
    browser = house.browser("alpha", "owner")
    for questions, said in (("", "no questions"), ("a\n{bad", "Line 2"),
                            ("a\n" * 201, "At most 200")):  # fmt: skip
        reply = browser.post(WARM, {"model": "sold", "questions": questions})
        assert reply.status_code == 400 and said in reply.text, said
        assert "data-request" not in reply.text
    assert "{bad" in browser.post(WARM, {"model": "sold", "questions": "{bad"}).text
    unpriced = browser.post(WARM, {"model": "gone", "questions": "hi"})
    assert "No price is known" in unpriced.text


def test_it_is_for_who_may_write_to_the_cache_and_call(house: House) -> None:
    for role in ("viewer", "auditor", "finance"):
        browser = house.browser("alpha", role)
        assert browser.get(WARM).status_code == 403
        assert browser.post(WARM, {"model": "sold", "questions": "hi"}).status_code == 403


def test_the_key_says_what_it_is_for_and_calls_let_others_go_first(house: House) -> None:
    browser = house.browser("alpha", "owner")
    place = {"tenant": "alpha", "project": "p1", "purpose": "cache-warming"}
    made = browser.post("/console/playground/keys", place)
    assert made.status_code == 200, made.text
    trail = house.platform.operator("GET", "/audit?tenant=alpha&limit=200").json()["data"]
    assert any(line["detail"].get("purpose") == "cache-warming" for line in trail
               if line["target"].startswith("playkey_"))  # fmt: skip
    house.gateway.says = [streamed("a")]
    sent = browser.send(
        "/console/playground/answers", b'{"model":"sold"}',
        x_playground_key=made.json()["key"], x_playground_bulk="on",
    )  # fmt: skip
    assert sent.status_code == 200 and house.gateway.bulk[-1] is True
    assert house.gateway.asked[-1][2] is True, "by way of the cache"
