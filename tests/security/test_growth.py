"""What callers make grow in control's database is bounded, and sums stay exact."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, func, select, update

from tests import web
from tests.records import record
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.control.billing import limits
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.rollups import OTHER_TAG
from tokenschain.control.cache import rules_and_stats
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core import call_record
from tokenschain.core.call_record import UNKNOWN_MODEL
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.core.limits import Budget, LeaseRequest
from tokenschain.core.snapshot.cache_rules import TTL_MAX_S, CacheRules
from tokenschain.infra.control_channel.protocol import LeaseBatch
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import (
    budget_counts,
    cache_flushes,
    usage_by_tag,
    usage_daily,
    usage_hourly,
)
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer

MADE_UP = 300


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    made = db.connect(f"sqlite:///{tmp_path / 'tokenschain.db'}")
    db.migrate(made)
    yield made
    made.dispose()


def refused(number: int, **fields: object) -> bytes:
    given: dict[str, object] = {
        "started_ms": 1_790_000_000_000, "tenant": "t", "upstream": "", "status": 404,
        "outcome": "model_not_found", "charge_pico": None, "cost_pico": None, "attempts": [],
    }  # fmt: skip
    return call_record.encode(record(number, **given | fields))


@pytest.mark.parametrize("configured", [False, True])
def test_models_that_do_not_exist_are_one_row(engine: Engine, configured: bool) -> None:
    book = Ledger(engine)
    if configured:
        snapshot: Any = SimpleNamespace(
            upstreams={}, models={"real": 1}, aliases={"nick": 1}, usd_cny_micro=7_000_000
        )
        book.follow(snapshot)
    outcome = "invalid_value" if configured else "model_not_found"
    rows = [refused(n, model_asked=f"evil{n}", outcome=outcome, tags="x=y") for n in range(MADE_UP)]
    rows += [refused(MADE_UP + n, model_asked=name, outcome="rate_limit_exceeded")
             for n, name in enumerate(("real", "nick"))]  # fmt: skip
    rows.append(call_record.encode(record(999, model_asked="former")))
    book.ingest(rows)
    for table in (usage_hourly, usage_daily, usage_by_tag):
        with engine.connect() as connection:
            found = connection.execute(
                select(table.c.model, func.sum(table.c.calls)).group_by(table.c.model)
            ).all()
        counts = {model: int(calls) for model, calls in found}
        assert counts.pop(UNKNOWN_MODEL) == MADE_UP
        assert counts == ({} if table is usage_by_tag else {"real": 1, "nick": 1, "former": 1})


def test_tags_of_a_key_and_day_are_bounded_and_their_sums_exact(engine: Engine) -> None:
    made = [refused(n, model_asked="m", key_id=f"k{n % 2}", tags=f"user=u{n},team=a",
                    prompt_tokens=n) for n in range(MADE_UP)]  # fmt: skip
    for at in range(0, MADE_UP, 50):  # by several controls, which know of each other's
        Ledger(engine, 20).ingest(made[at : at + 50])
    with engine.connect() as connection:
        rows = connection.execute(select(usage_by_tag)).all()
    for key, rest in (("k0", 0), ("k1", 1)):
        mine = [row for row in rows if row.key_id == key]
        assert len({row.tag for row in mine} - {OTHER_TAG}) == 20
        assert sum(row.calls for row in mine) == MADE_UP, "two tags each"
        assert sum(row.prompt_tokens for row in mine) == 2 * sum(range(rest, MADE_UP, 2))
        assert sum(row.calls for row in mine if row.tag == "team=a") == MADE_UP // 2
        other = sum(row.calls for row in mine if row.tag == OTHER_TAG)
        assert other == MADE_UP // 2 - 19


def test_a_tenant_stores_so_much_and_the_others_go_on(engine: Engine) -> None:
    archive = ResponseArchive(
        engine, Sealer(INTERNATIONAL, lambda: ("k",), lambda *_: b"k" * 32), 3_600, 10_000
    )

    def keep(number: int, tenant: str) -> list[str]:
        stored = Stored(f"resp_{number}", tenant, 2**31, b"[]", b"x" * 3_000)
        return archive.keep([msgspec.msgpack.encode(stored)]).full

    assert [keep(number, "a") for number in range(5)] == [[], [], [], ["a"], ["a"]]
    assert keep(10, "b") == []
    with engine.begin() as connection:
        assert archive.delete(connection, "a", "resp_1")
    assert keep(5, "a") == [] and keep(6, "a") == ["a"]


def test_an_answer_beyond_it_is_served_and_says_that_it_is_not_stored(
    tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    stack = Stack(
        tmp_path, upstream.base_url, database={"response_bytes_per_tenant_max": 5_000}
    ).start()
    try:
        key = stack.new_key()

        def say(**more: Any) -> Any:
            return web.request(
                "POST", f"{stack.url}/v1/responses", headers={"authorization": f"Bearer {key}"},
                json={"model": "sim-chat", "input": "x" * 2_000, **more}, timeout=30,
            )  # fmt: skip

        assert say().json()["store"] is True
        until(lambda: say().json()["store"] is False)
        assert say().status_code == 200
        assert '"store":false' in say(stream=True).text
    finally:
        stack.close()


def flushed(engine: Engine) -> CacheRules:
    with engine.connect() as connection:
        return rules_and_stats.rules(connection, CacheRules())


def test_flushes_of_a_tenant_are_bounded_and_what_was_flushed_stays_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_and_stats, "FLUSHES_MAX", 20, raising=False)
    at = {}
    for number in range(60):
        with engine.begin() as connection:
            for tenant in ("Noisy", "quiet")[: 2 if number < 5 else 1]:
                at[tenant, number] = rules_and_stats.flush(
                    connection, tenant, "model", f"m{number}"
                )
    rules = flushed(engine)
    assert len([name for name in rules.flushed if name.startswith("Noisy/")]) <= 21
    assert all(rules.flushed_at(t, "p", f"m{n}") >= when for (t, n), when in at.items())
    assert rules.flushed_at("quiet", "p", "m9") == rules.flushed_at("noisy", "p", "m9") == 0


def test_a_flush_of_everything_takes_the_place_of_its_parts(engine: Engine) -> None:
    with engine.begin() as connection:
        for tenant in ("a", "A", "a_", "ab"):
            for part in ("project", "model", "tag"):
                rules_and_stats.flush(connection, tenant, part, "x")
        rules_and_stats.flush(connection, "", "model", "x")
        rules_and_stats.flush(connection, "a")
    kept = flushed(engine)
    assert [name for name in kept.flushed if name.startswith("a/")] == ["a//"]
    assert len(kept.flushed) == 1 + 3 * 3 + 1
    with engine.begin() as connection:
        until = rules_and_stats.flush(connection, "")
    assert flushed(engine).flushed == {"//": until}


def test_flushes_go_when_no_answer_can_be_as_old(engine: Engine) -> None:
    with engine.begin() as connection:
        rules_and_stats.flush(connection, "t", "model", "old")
        age_ms = int(TTL_MAX_S * 1.2 * 1_000)
        connection.execute(update(cache_flushes).values(at_ms=cache_flushes.c.at_ms - age_ms))
        rules_and_stats.flush(connection, "t", "model", "new")
    assert list(flushed(engine).flushed) == ["t/model/new"]


def test_counts_by_made_up_tags_are_bounded_and_their_sums_exact(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUBJECTS_MAX", 20, raising=False)
    budget = Budget("b", "tokens", 10**9, "total", per=("tenant", "tag:user"))
    with engine.begin() as connection:
        limits.put(connection, budget, "")
    made = [record(n, tenant="quiet" if n < 5 else "noisy", tags=f"user=u{n}", prompt_tokens=n,
                   completion_tokens=0) for n in range(1, MADE_UP)]  # fmt: skip
    for at in range(0, MADE_UP, 50):
        Ledger(engine).ingest([call_record.encode(r) for r in made[at : at + 50]])
    with engine.connect() as connection:
        shown = limits.find(connection, "b")
        assert shown is not None
        limits.add_used(connection, [shown])
        rows = dict(
            connection.execute(select(budget_counts.c.subject, budget_counts.c.spent)).all()
        )
    assert shown["counts"] == len(rows) == 4 + 20 + 1, "another tenant's have a place of their own"
    assert shown["used"][0]["subject"] == ["noisy", "other"], "the fullest is the first"
    assert sum(map(int, rows.values())) == sum(range(1, MADE_UP))
    assert rows["quiet\x1fu4"] == 4 and rows["noisy\x1fu10"] == 10


def test_a_lease_beyond_the_bound_is_drawn_where_its_spending_is_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUBJECTS_MAX", 3, raising=False)
    budget = Budget("b", "requests", 10, "day", per=("tag:user",))
    with engine.begin() as connection:
        limits.put(connection, budget, "")
    manager = limits.LeaseManager(engine)
    asked = tuple(LeaseRequest("b", f"u{n}", 6, 6) for n in range(6))
    granted = manager.draw(LeaseBatch("gw", asked, "budgets", 1), (), (budget,))
    assert [lease.granted for lease in granted] == [6, 6, 6, 6, 4, 0], "the others share one count"
    with engine.begin() as connection:
        connection.execute(update(budget_counts).values(period_s=budget_counts.c.period_s - 10**7))
    manager.sweep()
    with engine.connect() as connection:
        left = connection.execute(select(func.count()).select_from(budget_counts)).scalar()
    assert left == 0, "a day's counts go when it is long over"


def test_of_a_budget_the_fullest_counts_are_listed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "USED_MAX", 10, raising=False)
    with engine.begin() as connection:
        for name in ("b", "c"):
            limits.put(connection, Budget(name, "tokens", 10**9, per=("key_id",)), "")
    now_ms = int(time.time() * 1_000)
    made = [record(n, key_id=f"k{n}", started_ms=now_ms, prompt_tokens=n, completion_tokens=0)
            for n in range(1, 100)]  # fmt: skip
    Ledger(engine).ingest([call_record.encode(r) for r in made])
    with engine.connect() as connection:
        shown = [limits.find(connection, name) for name in ("b", "c")]
        found: list[Any] = [one for one in shown if one]
        limits.add_used(connection, found)
    for one in found:
        assert one["counts"] == 99
        assert [use["spent"] for use in one["used"]] == list(range(99, 89, -1))
