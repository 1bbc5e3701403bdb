"""A rotated key, and a wallet in dollars."""

from __future__ import annotations

import time
from typing import Any

from tests.stack import Stack
from tests.waiting import until

SIM = {"max_tokens": 3, "x_sim": {"tokens": 3, "pause_s": 0}}


def test_a_rotated_key_overlaps_and_a_wallet_in_dollars_is_worth_its_yuan(own_stack: Any) -> None:
    stack: Stack = own_stack().start()
    made = stack.admin("POST", "/api/v1/keys", json={"tenant": "d", "tags": ["team=a"]}).json()
    overlap_s, begun = 3, time.monotonic()
    rotated = stack.admin(
        "POST", f"/api/v1/keys/{made['id']}/rotate", json={"overlap_s": overlap_s}
    )
    assert rotated.status_code == 201, rotated.text
    new = rotated.json()
    assert new["id"] != made["id"] and new["key"] != made["key"]

    def status(key: str) -> int:
        stack.key = key
        return stack.chat(**SIM).status_code

    stack.until_known(new["key"])
    both = (status(made["key"]), status(new["key"]))
    assert both == (200, 200) or time.monotonic() - begun > overlap_s
    stack.until_known(made["key"], known=False)
    assert time.monotonic() - begun > overlap_s - 1 and status(new["key"]) == 200
    shown = stack.admin("GET", f"/api/v1/keys/{new['id']}").json()
    assert shown["rotated_from"] == made["id"] and shown["tags"] == ["team=a"]
    # The dollar's rate of the day decides what a deposit in dollars lets through.
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 8 * 3_600))
    rate = stack.admin(
        "PUT", f"/api/v1/fx-rates/{day}", json={"usd_cny": "7.25", "source": "CFETS"}
    )
    assert rate.status_code == 200, rate.text
    node = next(
        n for n in stack.admin("GET", "/api/v1/organization/units?kind=tenant").json()["data"]
        if n["name"] == "d"
    )  # fmt: skip
    stack.admin("PATCH", f"/api/v1/organization/units/{node['id']}", json={"prepaid": True})
    until(lambda: status(new["key"]) == 402)
    paid = {"amount": "2", "currency": "USD", "reference": "wire 7"}
    entered = stack.admin("POST", "/api/v1/wallets/d/deposits", json=paid)
    assert entered.status_code == 201
    until(lambda: status(new["key"]) == 200)
    wallet = stack.admin("GET", "/api/v1/wallets/d").json()
    assert wallet["credited_pico_cny"] == 14_500_000_000_000
    assert wallet["balances_pico"]["USD"] == 2 * 10**12
    again = stack.admin(
        "POST", "/api/v1/wallets/d/deposits", json=paid | {"reference": " wire 7 ", "amount": "3"}
    )
    assert (again.status_code, again.json()["error"]["param"]) == (409, "reference")
    assert entered.json()["transaction_id"] in again.json()["error"]["message"]
    after = stack.admin("GET", "/api/v1/wallets/d").json()
    assert after["credited_pico_cny"] == wallet["credited_pico_cny"]
