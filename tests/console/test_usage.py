"""Usage and cost: totals are the ledger's, to the last digit, in days of Beijing time."""

from __future__ import annotations

import csv
import io
import time
from typing import Any

import pytest

from tests.console.visitors import House, Page
from tokenschain.console import usage
from tokenschain.console.usage import GROUPS, RANGES, ChargedRow, span_of
from tokenschain.core import presentation

CHARGES = (1, 123_456_789_012_345, 10**12 + 7)


@pytest.fixture(scope="module")
def total(house: House) -> int:
    """What a tenant of this module's own was charged, in pico-yuan."""
    key = {"tenant": "gamma", "project": "p1", "name": "gamma key"}
    key_id = house.platform.operator("POST", "/keys", key).json()["id"]
    today_s = presentation.midnight(time.time())
    for n, charge in enumerate(CHARGES):
        house.enter(
            tenant="gamma", project=f"p{n % 2}", key_id=key_id if n else "gone", charge_pico=charge,
            model_asked=f"gamma-{n}", started_ms=(today_s - n) * 1_000, tags="team=a,vip=1"[: 6 * n],
        )  # fmt: skip
    entered = house.platform.rows(
        "SELECT SUM(amount_pico) FROM ledger_entries WHERE account = 'customer:gamma'"
    )
    assert -entered[0][0] == sum(CHARGES)
    return sum(CHARGES)


@pytest.mark.parametrize("group", [*GROUPS])
def test_totals_and_what_is_exported_are_the_ledgers(house: House, total: int, group: str) -> None:
    browser = house.browser("gamma", "finance")
    text = browser.get(f"/console/usage?by={group}").text
    foot = text[text.index("<tfoot>") :]
    assert presentation.exact_money(total) in foot
    assert '<td class="r num">3</td>' in foot, "calls"
    link = next(one for one in Page(text).links() if one.startswith("/console/usage/export"))
    exported = browser.get(link)
    assert exported.headers["content-type"].startswith("text/csv")
    assert ".csv" in exported.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert "day (Asia/Shanghai)" in rows[0] and "day" not in rows[0]
    assert {row["charge_currency"] for row in rows} == {"CNY"}
    if group != "tag":
        assert sum(int(row["charge_pico"]) for row in rows) == total
    if group in ("model", "key", "day"):
        assert presentation.exact_money(CHARGES[0]) in text[: text.index("<tfoot>")]


def test_days_are_those_of_beijing(house: House, total: int) -> None:
    browser = house.browser("gamma", "finance")
    text = browser.get("/console/usage?by=day&range=7d").text
    days = [presentation.date(time.time() - n * 86_400) for n in (0, 1)]
    shown = text[text.index('class="card flush"') :]
    today, before = (
        shown[shown.index(day) : shown.index("</tr>", shown.index(day))] for day in days
    )
    assert presentation.exact_money(CHARGES[0]) in today
    assert presentation.exact_money(sum(CHARGES[1:])) in before


def test_a_key_is_called_by_its_name_where_that_may_be_seen(house: House, total: int) -> None:
    assert "gamma key" in house.browser("gamma", "admin").get("/console/usage?by=key").text
    assert "gamma key" not in house.browser("gamma", "finance").get("/console/usage?by=key").text


def test_that_the_ledger_is_behind_is_said(house: House, total: int) -> None:
    browser = house.browser("gamma", "viewer")
    shipping = house.platform.app.state.context.ledger.shipping
    assert "complete to" not in browser.get("/console/usage").text
    now_s = time.time()
    shipping.note("late", 900.0, 1, now_s)
    try:
        text = browser.get("/console/usage").text
        assert f"complete to {presentation.stamp(now_s - 900)[11:16]}" in text or (
            f"complete to {presentation.stamp(now_s - 900)[:16]}" in text
        )
        assert "complete to" not in browser.get("/console/usage?range=last_month").text
    finally:
        shipping.note("late", 0.0, 0, now_s)


def test_a_range_without_calls_says_so(house: House) -> None:
    text = house.browser("nobody", "owner").get("/console/usage?range=month").text
    assert "There were no calls in this range" in text and "<tfoot>" not in text


def test_ranges_are_whole_days_and_months_of_beijing() -> None:
    new_year_s = 1_798_732_800  # 2027-01-01 00:00 in Beijing, still 2026 by UTC
    spans = {name: span_of(name, new_year_s + 60) for name in RANGES}
    assert spans["month"].days == ["2027-01-01"]
    assert (spans["last_month"].days[0], spans["last_month"].days[-1]) == (
        "2026-12-01",
        "2026-12-31",
    )
    assert len(spans["30d"].days) == 30 and len(spans["7d"].days) == 7
    assert spans["month"].from_s == new_year_s


def test_several_currencies_are_never_added_up(house: House) -> None:
    for currency in ("CNY", "CNY", "USD"):
        house.enter(tenant="delta", charge_currency=currency, charge_pico=10**12)
    text = house.browser("delta", "finance").get("/console/usage").text
    foot = text[text.index("<tfoot>") :]
    assert "¥2<" in foot and "$1<" in foot and "¥3" not in text


def test_calls_that_cost_nothing_are_summed_with_the_others() -> None:
    def row(currency: str, **fields: Any) -> ChargedRow:
        return ChargedRow(currency, 2, 3, 4, 0, **fields)

    paid = ChargedRow("CNY", 5, 6, 7, 8, model="a")
    found = usage._with_currency([paid, row("", model="a"), row("", model="b"), row("USD")])
    assert [(one.charge_currency, one.model, one.calls) for one in found] == [
        ("CNY", "a", 7), ("USD", "", 2), ("CNY", "b", 2),
    ]  # fmt: skip
    assert (found[0].charge_pico, found[0].prompt_tokens) == (8, 9)
    assert [one.charge_currency for one in usage._with_currency([row("")])] == ["CNY"]
