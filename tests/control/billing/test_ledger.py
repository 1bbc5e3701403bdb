"""The ledger: records count once, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import Engine, func, select

from tests.records import record
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, Overhead
from tokenschain.infra.database.tables import (
    ledger,
    ledger_entries,
    platform_costs,
    rejected_records,
    usage_hourly,
)


def test_records_count_once_however_often_they_come(engine: Engine) -> None:
    payloads = [call_record.encode(record(n)) for n in range(1_000)]
    chance = random.Random(7)
    new = 0
    for _ in range(6):
        batch = chance.sample(payloads, 700)
        new += Ledger(engine).ingest(batch + batch[:50])
    new += Ledger(engine).ingest(payloads)
    assert new == 1_000
    with engine.connect() as connection:
        rows = ledger_module.usage(connection, group_by=["tenant"], from_s=0, until_s=2**40)
        assert connection.execute(select(ledger)).all().__len__() == 1_000
    assert sum(row["calls"] for row in rows) == 1_000
    assert sum(row["cost_pico"] for row in rows) == sum(range(1_000)) * 10**12
    assert sum(row["completion_tokens"] for row in rows) == 2 * sum(range(1_000))


def test_two_writers_at_once_neither_lose_nor_double(engine: Engine) -> None:
    payloads = [call_record.encode(record(n)) for n in range(400)]
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        mine = payloads.copy()
        random.Random(seed).shuffle(mine)
        try:
            for at in range(0, 400, 100):
                Ledger(engine).ingest(mine[at : at + 100])
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    with engine.connect() as connection:
        rows = ledger_module.usage(connection, group_by=[], from_s=0, until_s=2**40)
    assert [row["calls"] for row in rows] == [400]


def test_an_unreadable_record_is_kept_aside_and_blocks_nothing(engine: Engine) -> None:
    assert (
        Ledger(engine).ingest([b"\xc1nonsense", call_record.encode(record(1)), b"\xc1nonsense"])
        == 1
    )
    with engine.connect() as connection:
        kept = connection.execute(select(rejected_records.c.payload)).scalars().all()
    assert kept == [b"\xc1nonsense"]


def test_an_unknown_price_is_counted_apart_and_never_as_zero(engine: Engine) -> None:
    Ledger(engine).ingest(
        [call_record.encode(record(5, cost_pico=None, charge_pico=None, currency=""))]
    )
    with engine.connect() as connection:
        assert connection.execute(select(ledger.c.cost_pico)).scalar() is None
        assert connection.execute(select(usage_hourly.c.unpriced_calls)).scalar() == 1


def test_what_the_platform_bears_is_apart_and_counts_once(engine: Engine) -> None:
    wasted = AttemptRecord(
        "other", 0.1, 1.0, 2.0, "upstream_failed", 5, 3, "m-1", 2, 1, "provider", "p/1", "USD",
        700, Overhead.FAILOVER,
    )  # fmt: skip
    made = [record(n) for n in range(20)]
    for one in made[:10]:
        one.attempts = [wasted, *one.attempts]
    payloads = [call_record.encode(one) for one in made]
    for _ in range(3):
        Ledger(engine).ingest(payloads)
    with engine.connect() as connection:
        rows = connection.execute(select(platform_costs)).all()
        usage = ledger_module.usage(connection, group_by=["upstream"], from_s=0, until_s=2**40)
        accounts = dict(
            connection.execute(
                select(ledger_entries.c.account, func.sum(ledger_entries.c.amount_pico)).group_by(
                    ledger_entries.c.account
                )
            ).all()
        )
    assert len(rows) == 10
    first = rows[0]
    assert (first.kind, first.upstream, first.model_served) == ("failover_overhead", "other", "m-1")
    assert (first.price_version, first.currency, first.cost_pico) == ("p/1", "USD", 700)
    by_upstream = {row["upstream"]: row for row in usage}
    assert by_upstream["up"]["platform_cost_pico"] == 0 and by_upstream["up"]["calls"] == 20
    other = by_upstream["other"]
    assert (other["calls"], other["cost_pico"], other["platform_cost_pico"]) == (0, 0, 7_000)
    assert (other["platform_prompt_tokens"], other["platform_completion_tokens"]) == (50, 30)
    assert (accounts["upstream:other"], accounts["platform_cost"]) == (7_000, -7_000)


def test_a_reference_of_a_bank_counts_once_for_a_tenant(engine: Engine) -> None:
    """Again only when its deposit was reversed; also of deposits entered before there were such
    ids, and whatever the amount."""

    def enter(tenant: str = "t", amount: int = 10**12, reference: str = "BOC-1") -> str:
        with engine.begin() as connection:
            return ledger_module.deposit(connection, tenant, "CNY", amount, reference)

    def paid(tenant: str = "t") -> int:
        with engine.connect() as connection:
            return ledger_module.balances_of(connection, tenant).get("CNY", 0)

    first = enter()
    for amount in (10**12, 2 * 10**12):
        with pytest.raises(ledger_module.AlreadyEntered, match=first):
            enter(amount=amount)
    assert paid() == 10**12
    enter("other")
    enter(reference="BOC-2")
    assert (paid(), paid("other")) == (2 * 10**12, 10**12)
    for _ in range(2):
        with engine.begin() as connection:
            assert ledger_module.reverse(connection, first, "typing error") is not None
        again = enter(amount=3 * 10**12)
        assert again != first and paid() == 4 * 10**12
        with pytest.raises(ledger_module.AlreadyEntered, match=again):
            enter()
        with engine.begin() as connection:
            assert ledger_module.reverse(connection, first, "once more") is None
        first = again
        with engine.begin() as connection:
            ledger_module.reverse(connection, first, "and back")
        first = enter()
    with engine.begin() as connection:
        lines = [("customer:t", "t", "CNY", 5), ("cash", "", "CNY", -5)]
        old = ledger_module.post(connection, "deposit", lines, "BOC-old")
    with pytest.raises(ledger_module.AlreadyEntered, match=old):
        enter(reference="BOC-old")


def test_of_one_reference_entered_at_once_one_counts(engine: Engine) -> None:
    ready, outcomes = threading.Barrier(4), []

    def enter() -> None:
        ready.wait()
        try:
            with engine.begin() as connection:
                ledger_module.deposit(connection, "t", "CNY", 10**12, "BOC-1")
                outcomes.append("entered")
        except ledger_module.AlreadyEntered:
            outcomes.append("refused")

    writers = [threading.Thread(target=enter) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(outcomes) == ["entered", "refused", "refused", "refused"]
    with engine.connect() as connection:
        assert ledger_module.balances_of(connection, "t") == {"CNY": 10**12}
