"""What callers make grow in control's database is bounded, and sums stay exact."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, func, select

from tests import web
from tests.records import record
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.rollups import OTHER_TAG, UNKNOWN_MODEL
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core import call_record
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import usage_by_tag, usage_daily, usage_hourly
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
        engine, Sealer(INTERNATIONAL, lambda: ("k",), lambda _: b"k" * 32), 3_600, 10_000
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
