"""Prices mended afterwards, and other currencies."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Engine, func, select

from tests.records import record
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
from tokenschain.control.billing.rollups import TagNames
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


def rerate(engine: Engine, **fields: Any) -> rerating.Rerated:
    with engine.begin() as connection:
        return rerating.rerate(
            connection, tenant="", model="m", from_ms=0, until_ms=2**50, reason="mended",
            clouds={"up": "sim"}, tag_names=TagNames(), usd_cny_micro=7_000_000, **fields,
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
