"""Wallets: deposits count once, reversals need a reason, and only the platform enters money."""

from __future__ import annotations

import re

from tests.console.visitors import Browser, House, Page

HOSTILE = "<img src=x onerror=alert(1)>"


def _field(text: str, name: str) -> str:
    (value,) = {str(one["value"]) for one in Page(text).all("input") if one.get("name") == name}
    return value


def _tenant(house: House, name: str) -> Browser:
    house.platform.operator("POST", "/keys", {"tenant": name, "project": "p1", "name": name})
    return house.browser("*", "finance")


def _balance(house: House, tenant: str) -> int:
    found = house.platform.operator("GET", f"/wallets/{tenant}").json()["balances_pico"]
    return int(found.get("CNY", 0))


def test_a_deposit_is_entered_once_however_often_the_form_is_sent(house: House) -> None:
    browser = _tenant(house, "payer")
    page = browser.get("/console/wallet/deposit?tenant=payer").text
    form = {"tenant": "payer", "amount": "250.5", "currency": "CNY", "reference": HOSTILE,
            "once": _field(page, "once")}  # fmt: skip
    for _ in range(2):
        done = browser.post("/console/wallet/deposit", form)
        assert done.status_code == 303
    assert done.headers["location"] == "/console/wallet?tenant=payer"
    assert _balance(house, "payer") == 250_500_000_000_000
    text = browser.get("/console/wallet?tenant=payer").text
    assert "¥250.50" in text and HOSTILE not in text and "&lt;img" in text
    again = browser.post("/console/wallet/deposit", form | {"once": "another"})
    assert again.status_code == 409 and "It was entered before" in again.text
    assert 'value="250.5"' in again.text, "nothing typed is lost"
    for wrong in ({"amount": "-1"}, {"amount": "1e9"}, {"tenant": "../x"}, {"currency": "EUR"}):
        reply = browser.post(
            "/console/wallet/deposit", form | {"once": "", "reference": "w"} | wrong
        )
        assert 400 <= reply.status_code < 500 and 'role="alert"' in reply.text, wrong
    assert _balance(house, "payer") == 250_500_000_000_000


def test_a_transaction_is_reversed_once_with_a_reason(house: House) -> None:
    browser = _tenant(house, "twice-paid")
    paid = {"amount": "9", "reference": "bank 9"}
    made = house.platform.operator("POST", "/wallets/twice-paid/deposits", paid).json()
    text = browser.get("/console/wallet?tenant=twice-paid").text
    (link,) = [one for one in Page(text).links() if "/wallet/reverse" in one]
    page = browser.get(link).text
    assert "−¥9" in page and "¥9" in page
    transaction = made["transaction_id"]
    form = {"transaction": transaction, "reason": "entered twice", "once": _field(page, "once")}
    wrong = browser.post("/console/wallet/reverse", form | {"typed": "nothing"})
    assert wrong.status_code == 400 and "nothing was changed" in wrong.text
    form["typed"] = transaction[-6:]
    none = browser.post("/console/wallet/reverse", form | {"reason": " ", "once": ""})
    assert 400 <= none.status_code < 500 and _balance(house, "twice-paid") == 9 * 10**12
    assert browser.post("/console/wallet/reverse", form).status_code == 303
    assert _balance(house, "twice-paid") == 0
    again = browser.post("/console/wallet/reverse", form | {"once": "another"})
    assert again.status_code == 404 and "It was not reversed" in again.text
    text = browser.get("/console/wallet?tenant=twice-paid").text
    assert "Reversed" in text and "entered twice" in text and "/wallet/reverse" not in text


def test_only_the_platform_enters_money(house: House) -> None:
    for role in ("owner", "finance"):
        browser = house.browser("alpha", role)
        text = browser.get("/console/wallet").text
        assert "alpha bank 1" in text and "/wallet/deposit" not in text
        assert "/wallet/reverse" not in text
        assert browser.get("/console/wallet/deposit").status_code == 403
        form = {"tenant": "alpha", "amount": "1", "currency": "CNY", "reference": "mine"}
        assert browser.post("/console/wallet/deposit", form).status_code == 403
        entry = house.platform.operator("GET", "/ledger-entries?tenant=alpha&limit=200").json()
        paid = next(one for one in entry["data"] if one["kind"] == "deposit")["transaction_id"]
        assert browser.get(f"/console/wallet/reverse?transaction={paid}").status_code == 403
        form = {"transaction": paid, "typed": paid[-6:], "reason": "mine"}
        assert browser.post("/console/wallet/reverse", form).status_code == 403
    viewer = house.browser("alpha", "viewer").get("/console/wallet").text
    assert "No permission" in viewer and "alpha bank 1" not in viewer


def test_budgets_show_what_is_spent_and_promised(house: House) -> None:
    text = house.browser("alpha", "finance").get("/console/wallet").text
    row = text[text.index("alpha-budget") :]
    row = row[: row.index("</tr>")]
    assert "¥8.00" in row and re.search(r"\d%", row) and 'class="spent"' in row
    assert "Set by the platform" in row and "/limits/edit" not in row


def test_who_looks_at_the_platform_chooses_a_tenant(house: House) -> None:
    text = house.browser("*", "finance").get("/console/wallet").text
    assert "No tenant is chosen" in text and "customer:alpha" in text and "customer:beta" in text
    assert house.browser("*", "finance").get("/console/wallet?tenant=none").status_code == 200
    for wrong in ("", "x", "../x", "%00", "txn_" + "长" * 20):
        reply = house.browser("*", "finance").get(f"/console/wallet/reverse?transaction={wrong}")
        assert reply.status_code in (400, 404, 422), wrong
