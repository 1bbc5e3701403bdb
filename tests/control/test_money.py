"""Prices mended afterwards, other currencies, what is exported, sums of days and hours."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import defaultdict
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError

from tests.control.test_control import record
from tests.stack import Stack
from tests.waiting import until
from tokenschain.control.billing import (
    ledger as ledger_module,
)
from tokenschain.control.billing import (
    limits,
    pricing,
    rerating,
    rollups,
)
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.limits import Budget, Selector
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.infra.database.tables import (
    budget_counts,
    ledger,
    ledger_entries,
    usage_by_tag,
)

ALL = {"from_s": 0, "until_s": 2**40}


def test_days_and_hours_of_any_range_add_up_to_the_single_calls(engine: Engine) -> None:
    made = [record(n * 7) for n in range(600)]
    for at in range(0, 600, 150):
        Ledger(engine).ingest([call_record.encode(r) for r in made[at : at + 150]])
    first = made[0].started_ms // 3_600_000 * 3_600
    with engine.connect() as connection:
        for begin, end in ((0, 2**40), (first, first + 3_600), (first + 7_200, first + 200_000),
                           (first - 86_400, first + 86_400 * 2), (first + 5, first + 4)):  # fmt: skip
            inside = [r for r in made if begin <= r.started_ms // 3_600_000 * 3_600 < end]
            for by in ([], ["day"], ["hour"], ["tenant", "cloud"]):
                rows = ledger_module.usage(connection, group_by=by, from_s=begin, until_s=end)
                assert sum(row["calls"] for row in rows) == len(inside)
                assert sum(row["cost_pico"] for row in rows) == sum(r.cost_pico for r in inside)


def rerate(engine: Engine, **fields: Any) -> rerating.Rerated:
    with engine.begin() as connection:
        return rerating.rerate(
            connection, tenant="", model="m", from_ms=0, until_ms=2**50, reason="mended",
            clouds={"up": "sim"}, usd_cny_micro=7_000_000, **fields,
        )  # fmt: skip


def test_a_mended_price_moves_rows_sums_tags_budgets_and_entries_alike(engine: Engine) -> None:
    with engine.begin() as connection:
        limits.put(connection, Budget("all", "spend", 10**18, "total", per=("tenant",)), "")
        limits.put(
            connection, Budget("wallet/t0", "spend", 10**18, "total", Selector("t0"), wallet=True),
            "t0",
        )  # fmt: skip
    made = [record(n, tags=f"subject=s{n % 4},vip") for n in range(1, 200)]
    Ledger(engine).ingest([call_record.encode(r) for r in made])
    # 3 and 5 yuan a million, where it was a yuan a prompt token.
    with engine.begin() as connection:
        tier = PriceTier(3_000_000, 5_000_000)
        pricing.add_price(connection, "", "m", Price("CNY", (tier,), ""), 0)
    done = rerate(engine)
    assert (done.calls, done.changed) == (199, 199) and done.transaction_id
    expected: dict[str, int] = defaultdict(int)
    by_tag: dict[str, int] = defaultdict(int)
    for r in made:
        charge = r.prompt_tokens * 3_000_000 + r.completion_tokens * 5_000_000
        expected[r.tenant] += charge
        by_tag[f"subject=s{int(r.event_id[4:], 16) % 4}"] += charge
        by_tag["vip=vip"] += charge
    with engine.connect() as connection:
        rows = connection.execute(
            select(ledger.c.tenant, func.sum(ledger.c.charge_pico)).group_by(ledger.c.tenant)
        ).all()
        assert {tenant: int(amount) for tenant, amount in rows} == expected
        for by in (["tenant"], ["tenant", "hour"]):
            sums: dict[str, int] = defaultdict(int)
            for row in ledger_module.usage(connection, group_by=by, **ALL):
                sums[row["tenant"]] += row["charge_pico"]
            assert sums == expected
        tags = connection.execute(
            select(usage_by_tag.c.tag, func.sum(usage_by_tag.c.charge_pico)).group_by(
                usage_by_tag.c.tag
            )
        ).all()
        assert {tag: int(amount) for tag, amount in tags} == by_tag
        for tenant, amount in expected.items():
            assert ledger_module.balances_of(connection, tenant)["CNY"] == -amount
        spent = connection.execute(
            select(budget_counts.c.subject, func.sum(budget_counts.c.spent))
            .where(budget_counts.c.budget_id == "all")
            .group_by(budget_counts.c.subject)
        ).all()
        assert {subject: int(amount) for subject, amount in spent} == expected
        # The wallet's amount follows the entries, so what is counted on it does not.
        before = sum(r.charge_pico for r in made if r.tenant == "t0")
        wallet = connection.execute(
            select(func.sum(budget_counts.c.spent)).where(budget_counts.c.budget_id == "wallet/t0")
        ).scalar()
        assert int(wallet) == before
        assert ledger_module.credited(connection, "t0", 7_000_000) == before - expected["t0"]
        total = connection.execute(select(func.sum(ledger_entries.c.amount_pico))).scalar()
        assert int(total) == 0
    again = rerate(engine)
    assert (again.changed, again.transaction_id) == (0, "")


def test_a_price_in_dollars_gets_rows_of_its_own_and_a_balance_in_dollars(engine: Engine) -> None:
    made = [record(n) for n in range(1, 50)]
    Ledger(engine).ingest([call_record.encode(r) for r in made])
    with engine.begin() as connection:
        tier = PriceTier(1_000_000, 1_000_000)
        pricing.add_price(connection, "t1", "m", Price("USD", (tier,), ""), 0)
    rerate(engine)
    tokens = sum(r.prompt_tokens + r.completion_tokens for r in made if r.tenant == "t1")
    with engine.connect() as connection:
        assert ledger_module.balances_of(connection, "t1") == {"CNY": 0, "USD": -tokens * 10**6}
        rows = ledger_module.usage(connection, group_by=["tenant", "key_id"], **ALL)
        dollars = [row for row in rows if row["charge_currency"] == "USD"]
        assert [row["charge_pico"] for row in dollars] == [tokens * 10**6]
        # Calls were counted once already, where they were charged first.
        assert sum(row["calls"] for row in rows) == 49
    assert len(rollups.SUMS) == len(set(rollups.SUMS))


def test_sums_of_one_transaction_count_once_and_none_is_ever_rounded(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(3):
            ledger_module.deposit(connection, "t", "CNY", 4 * 10**18, "bank")
            if engine.dialect.name == "sqlite":
                ledger_module.post(connection, "deposit", [("cash", "", "CNY", 4 * 10**18),
                             ("bank", "", "CNY", -4 * 10**18)], "moved on")  # fmt: skip
                break
    with engine.connect() as connection:
        paid = ledger_module.balances_of(connection, "t")["CNY"]
    if engine.dialect.name == "postgresql":
        assert paid == 12 * 10**18
        return
    assert paid == 4 * 10**18
    # 64 bits are 9.2 million yuan: refused beyond, and what was there is as it was.
    with engine.begin() as connection:
        ledger_module.deposit(connection, "t", "CNY", 5 * 10**18, "bank")
    with pytest.raises(IntegrityError), engine.begin() as connection:
        ledger_module.deposit(connection, "t", "CNY", 10**18, "bank")
    with engine.connect() as connection:
        assert ledger_module.balances_of(connection, "t")["CNY"] == 9 * 10**18


SIM = {"max_tokens": 3, "x_sim": {"tokens": 3, "pause_s": 0}}


def test_what_is_exported_is_the_ledger(own_stack: Any) -> None:
    stack: Stack = own_stack().start()
    for n in range(7):
        reply = stack.chat(**SIM, user="=1+1" if n else "x")
        assert reply.status_code == 200
    rows = stack.settled(7)
    month = f"from_s=0&until_s={int(time.time()) + 60}"
    text = stack.admin("GET", f"/api/v1/calls/export?{month}").text
    found = list(csv.DictReader(io.StringIO(text)))
    assert {row["event_id"] for row in found} == {row["event_id"] for row in rows}
    reply = stack.admin("GET", f"/api/v1/calls/export?{month}&format=parquet")
    assert reply.status_code == 200, reply.text + stack.read_log()
    parquet = reply.content
    table = pq.read_table(io.BytesIO(parquet)).to_pylist()
    for form in (found, table):
        for key in ("prompt_tokens", "completion_tokens", "charge_pico"):
            assert sum(int(row[key]) for row in form) == sum(int(row[key]) for row in rows)
    assert json.loads(table[0]["attempts"])[0]["outcome"] == "ok"
    none = stack.admin("GET", "/api/v1/calls/export?from_s=0&until_s=1&format=parquet")
    assert pq.read_table(io.BytesIO(none.content)).num_rows == 0
    assert stack.admin("GET", "/api/v1/calls/export?from_s=0&until_s=1").text == ""


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
    assert stack.admin("POST", "/api/v1/wallets/d/deposits", json=paid).status_code == 201
    until(lambda: status(new["key"]) == 200)
    wallet = stack.admin("GET", "/api/v1/wallets/d").json()
    assert wallet["credited_pico_cny"] == 14_500_000_000_000
    assert wallet["balances_pico"]["USD"] == 2 * 10**12
