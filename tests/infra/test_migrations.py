"""Every version of the schema, up and down, with rows in it, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.control.test_control import record
from tokenschain.control.billing import ledger
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.infra.database import engine as db

VERSIONS = ("0001", "0002", "0003", "0004", "0005", "0006")


@pytest.fixture
def bare(database: str) -> Any:
    """A database without tables."""
    made = db.connect(database)
    yield made
    made.dispose()


def sums(engine: Engine) -> tuple[int, ...]:
    """Calls, tokens and cost, by the ledger and by its hourly sums: they must agree."""
    found = []
    for calls, table in (("count(*)", "ledger"), ("sum(calls)", "usage_hourly")):
        with engine.connect() as connection:
            row = connection.execute(
                text(
                    f"select {calls}, sum(prompt_tokens), sum(completion_tokens), "
                    f"sum(cost_pico) from {table}"
                )
            ).one()
        found.append(tuple(int(value) for value in row))
    assert found[0] == found[1]
    return found[0]


def test_down_to_the_first_version_and_up_again_keeps_every_call(bare: Engine) -> None:
    db.migrate(bare)
    made = [record(n, tags="subject=math") for n in range(500)]
    # The same hour and upstream, charged in another currency: one row in older versions.
    made += [record(n, event_id=f"usd_{n}", charge_currency="USD") for n in range(100, 140)]
    Ledger(bare).ingest([call_record.encode(r) for r in made])
    before = sums(bare)
    with bare.connect() as connection:
        usage = ledger.usage(connection, group_by=["tenant", "day"], from_s=0, until_s=2**40)
    for version in (*reversed(VERSIONS), *VERSIONS, "0002", "head"):
        db.migrate(bare, version)
        assert sums(bare) == before, version
    with bare.connect() as connection:
        again = ledger.usage(connection, group_by=["tenant", "day"], from_s=0, until_s=2**40)
    # What an older version has no place for is lost: here the currency of the charges.
    assert sum(row["charge_pico"] for row in again) == sum(row["charge_pico"] for row in usage)
    assert {row["tenant"]: row["calls"] for row in again if row["day"] == "2026-09-21"} == {
        t: sum(r["calls"] for r in usage if r["tenant"] == t and r["day"] == "2026-09-21")
        for t in {r["tenant"] for r in usage if r["day"] == "2026-09-21"}
    }
    # And the newest version still takes what arrives late, once.
    assert Ledger(bare).ingest([call_record.encode(r) for r in made[:50]]) == 0
    assert Ledger(bare).ingest([call_record.encode(record(900))]) == 1


def test_a_step_back_and_forth_keeps_days_and_balances(bare: Engine) -> None:
    db.migrate(bare)
    Ledger(bare).ingest([call_record.encode(record(n)) for n in range(300)])
    with bare.begin() as connection:
        ledger.deposit(connection, "t1", "CNY", 5 * 10**12, "bank")
        balances = ledger.balances_of(connection, "t1")
        credited = ledger.credited(connection, "t1", 7_000_000)
    month = {"group_by": ["project", "day"], "from_s": 0, "until_s": 2**40}
    with bare.connect() as connection:
        usage = ledger.usage(connection, **month)
    db.migrate(bare, "0003")
    db.migrate(bare)
    with bare.connect() as connection:
        assert ledger.usage(connection, **month) == usage
        assert ledger.balances_of(connection, "t1") == balances
        assert ledger.credited(connection, "t1", 7_000_000) == credited == 5 * 10**12
