"""Sums of days and hours, and of transactions."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from tests.records import record
from tokenschain.control.billing import (
    ledger as ledger_module,
)
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.cache import rules_and_stats
from tokenschain.core import call_record


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


def test_what_the_cache_did_by_the_hour_adds_up_to_the_single_calls(engine: Engine) -> None:
    outcomes = [("hit-exact", "", 50), ("miss", "learning", 0), ("bypass", "", 0)]
    made = []
    for n in range(300):
        cache, reason, saved = outcomes[n % 3]
        one = record(n, cache=cache, cache_reason=reason, saved_pico=saved, saved_tokens=saved)
        one.started_ms += n * 300_000
        made.append(one)
    made += [record(9_000, outcome="upstream_failed", cache="miss")]
    for at in range(0, len(made), 100):
        Ledger(engine).ingest([call_record.encode(r) for r in made[at : at + 100]])
    fine = [r for r in made if r.outcome == "ok"]
    hours = sorted({r.started_ms // 3_600_000 * 3_600 for r in fine})
    assert len(hours) > 2
    with engine.connect() as connection:
        for begin, end in ((0, 2**40), (hours[1] + 5, hours[2]), (hours[0], hours[1] + 1)):
            inside = [r for r in fine if begin // 3_600 * 3_600 <= r.started_ms / 1e3
                      and r.started_ms // 3_600_000 * 3_600 < end]  # fmt: skip
            for by in ([], ["hour"], ["tenant", "model", "reason"]):
                rows = rules_and_stats.stats(connection, None, begin, end, by)
                hits = [row for row in rows if row["cache"] == "hit-exact"]
                assert sum(row["calls"] for row in rows) == len(inside)
                assert sum(row["saved_pico"] for row in hits) == sum(r.saved_pico for r in inside)
                assert {row["currency"] for row in hits} == {"CNY"}
                assert all(set(by) <= row.keys() for row in rows)


def test_sums_of_one_transaction_count_once_and_none_is_ever_rounded(engine: Engine) -> None:
    with engine.begin() as connection:
        for number in range(3):
            ledger_module.deposit(connection, "t", "CNY", 4 * 10**18, f"bank {number}")
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
        ledger_module.deposit(connection, "t", "CNY", 5 * 10**18, "bank 3")
    with pytest.raises(IntegrityError), engine.begin() as connection:
        ledger_module.deposit(connection, "t", "CNY", 10**18, "bank 4")
    with engine.connect() as connection:
        assert ledger_module.balances_of(connection, "t")["CNY"] == 9 * 10**18
