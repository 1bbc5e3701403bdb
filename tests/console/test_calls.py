"""Calls page: filters are chosen from what the calls of the range have."""

from __future__ import annotations

import pytest

from tests.console.visitors import House, Page

PICKERS = {"hx_request": "true", "hx_target": "span#pickers"}
HOSTILE = "<img src=x onerror=alert(1)>\u202e长🙂"


def _options(text: str, name: str) -> dict[str, str]:
    """The values of a filter with their labels."""
    part = text.partition(f'<select name="{name}"')[2].partition("</select>")[0]
    values = [str(one["value"]) for one in Page(part).all("option")]
    labels = [Page(one).words for one in part.split("<option")[1:]]
    return dict(zip(values, (one.partition(">")[2] or one for one in labels), strict=True))


def test_filters_offer_what_the_calls_of_the_range_have(house: House) -> None:
    key = house.key_of("alpha")
    house.enter(tenant="alpha", project="p1", model_asked=HOSTILE, upstream="picked-cloud",
                key_id=key, tags="team=search")  # fmt: skip
    house.enter(tenant="beta", project="p1", model_asked="of-beta", upstream="beta-cloud")
    text = house.browser("alpha", "owner").get("/console/calls", **PICKERS).text
    assert HOSTILE in _options(text, "model") and "of-beta" not in _options(text, "model")
    assert "picked-cloud" in _options(text, "upstream")
    assert "beta-cloud" not in text and "<img" not in text
    assert "team=search" in _options(text, "tag")
    keys = text.partition('<select name="key_id"')[2].partition("</select>")[0]
    assert f'value="{key}"' in keys and "alpha key" in keys
    chosen = (
        house.browser("alpha", "owner").get("/console/calls?upstream=gone-cloud", **PICKERS).text
    )
    assert '<option value="gone-cloud" selected>' in chosen, "what the address says stays chosen"


def test_a_long_name_of_a_model_is_cut_in_tables(house: House) -> None:
    long = "W" * 256
    house.enter(tenant="alpha", project="p1", model_asked=long)
    browser = house.browser("alpha", "owner")
    for path in ("/console/calls", "/console/live"):
        assert f'class="plain clip block" title="{long}"' in browser.get(path).text, path


def test_without_the_names_of_keys_their_ids_are_offered(house: House) -> None:
    key = house.key_of("alpha")
    house.enter(tenant="alpha", project="p1", key_id=key)
    text = house.browser("alpha", "finance").get("/console/calls", **PICKERS).text
    assert f'value="{key}"' in text and "alpha key" not in text


def test_where_they_cannot_be_read_filters_are_typed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no sums")

    monkeypatch.setattr("tokenschain.control.billing.ledger.usage", broken)
    browser = house.browser("alpha", "owner")
    for page in (Page(browser.get("/console/calls", **PICKERS).text),
                 Page(browser.get("/console/calls").text)):  # fmt: skip
        typed = {one.get("name") for one in page.all("input")}
        assert {"model", "upstream", "key_id", "tag"} <= typed


def test_a_fragment_reads_no_filters(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("the filters are on the page already")

    monkeypatch.setattr("tokenschain.control.billing.ledger.usage", broken)
    browser = house.browser("alpha", "owner")
    text = browser.get("/console/calls?tag=a=b", hx_request="true", hx_target="div#results").text
    assert "<html" not in text and "<select" not in text
