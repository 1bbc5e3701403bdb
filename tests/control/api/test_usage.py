"""What is exported is the ledger."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest

from tests.records import record
from tests.security.platform import OPERATOR, Platform, platform
from tests.stack import Stack
from tokenschain.control.api import usage
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord, CallResult, HitKind
from tokenschain.infra import catalog_file

SIM = {"max_tokens": 3, "x_sim": {"tokens": 3, "pause_s": 0}}


def test_every_price_of_the_catalogue_can_be_shown() -> None:
    prices = [info.price for info in catalog_file.load().models if info.price is not None]
    shown = [usage._shown(price).schedule for price in prices]
    assert sum(one is not None for one in shown) >= 1, "some with peak hours"


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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("usage")) as made:
        now_ms = int(time.time() * 1e3)
        calls = [
            record(1, event_id="first", started_ms=now_ms, upstream="one", tags="vip,team=a",
                   attempts=[AttemptRecord("one", 1.0)]),
            record(2, event_id="rescued", started_ms=now_ms, upstream="two", tags="Team=A",
                   attempts=[AttemptRecord("one", 1.0), AttemptRecord("two", 2.0)]),
            record(3, event_id="other", started_ms=now_ms, upstream="two", tags="team=ab",
                   attempts=[AttemptRecord("two", 1.0)]),
        ]  # fmt: skip
        made.app.state.context.ledger.ingest([call_record.encode(call) for call in calls])
        yield made


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("upstream=one", {"first", "rescued"}),
        ("upstream=two", {"rescued", "other"}),
        ("upstream=tw", set()),
        ("tag=vip", {"first"}),
        ("tag=team=a", {"first"}),
        ("tag=team", set()),
        ("tag=%25", set()),
        ("upstream=one&tag=Team=A", {"rescued"}),
        ("result=rescued", {"rescued"}),
        ("result=ok", {"first", "other"}),
        ("result=failed", set()),
    ],
)
def test_calls_are_found_by_upstream_and_tag(house: Platform, query: str, wanted: set[str]) -> None:
    found = house.operator("GET", f"/calls?{query}").json()["data"]
    assert {call["event_id"] for call in found} == wanted


RESULTS: dict[CallResult, tuple[tuple[int, str, str, int], ...]] = {
    "ok": ((200, "ok", "miss", 1), (200, "ok", "bypass", 0)),
    "cached": tuple((200, "ok", kind, n) for kind in HitKind for n in (0, 2)),
    "rescued": ((200, "ok", "miss", 2), (200, "ok", "bypass", 3)),
    "failed": ((502, "upstream_failed", "miss", 2), (400, "invalid_value", "bypass", 0)),
    "limited": (
        (429, "rate_limit_exceeded", "bypass", 0), (429, "overloaded", "miss", 0),
        (402, "budget_exceeded", "bypass", 0), (402, "insufficient_balance", "bypass", 0),
        (429, "upstream_rate_limited", "miss", 2),
    ),
    "blocked": ((400, "content_filter", "bypass", 0), (200, "content_filter", "miss", 1)),
}  # fmt: skip
"""Status, outcome, what the cache did, and the number of attempts of calls of each result."""


def test_each_call_is_found_by_what_became_of_it(house: Platform) -> None:
    calls: list[CallRecord] = []
    wanted: dict[str, str] = {}
    for result, rows in RESULTS.items():
        for status, outcome, cache, attempts in rows:
            assert call_record.result_of(status, outcome, cache, attempts) == result
            name = f"result-{len(calls)}"
            wanted[name] = result
            calls.append(
                record(
                    len(calls), event_id=name, tenant="results", status=status, outcome=outcome,
                    cache=cache, started_ms=int(time.time() * 1e3),
                    attempts=[AttemptRecord(f"u{n}", 1.0) for n in range(attempts)],
                )
            )  # fmt: skip
    house.app.state.context.ledger.ingest([call_record.encode(call) for call in calls])
    found = {
        row["event_id"]: result
        for result in get_args(CallResult)
        for row in house.operator("GET", f"/calls?tenant=results&result={result}").json()["data"]
    }
    assert found == wanted


def test_a_call_is_found_by_its_request_id(house: Platform) -> None:
    found = house.operator("GET", "/calls/rescued").json()
    assert [attempt["upstream"] for attempt in found["attempts"]] == ["one", "two"]
    assert house.operator("GET", "/calls/nowhere").status_code == 404
    stranger = house.person("beta", "owner")
    assert stranger("GET", "/calls/rescued").status_code == 404


def test_days_begin_where_the_zone_says_and_sums_are_complete_to_what_has_come(
    house: Platform,
) -> None:
    midnight_s = 1_790_000_000 // 86_400 * 86_400 - 8 * 3_600
    calls = [
        record(n, event_id=f"day-{n}", tenant="days", started_ms=midnight_s * 1_000 + offset_ms)
        for n, offset_ms in ((1, -1), (2, 0), (3, 86_400_000 - 1), (4, 86_400_000))
    ]
    ledger = house.app.state.context.ledger
    ledger.ingest([call_record.encode(call) for call in calls])
    reach = f"tenant=days&from_s={midnight_s - 86_400}&until_s={midnight_s + 2 * 86_400}"
    found = {}
    for zone in ("UTC", "Asia/Shanghai"):
        rows = house.operator("GET", f"/usage?group_by=day&zone={zone}&{reach}").json()["data"]
        found[zone] = [(row["day"][8:], row["charge_pico"] // 10**12) for row in rows]
    assert found["Asia/Shanghai"] == [("20", 1), ("21", 5), ("22", 4)]
    assert found["UTC"] == [("20", 3), ("21", 7)]
    assert house.operator("GET", f"/usage?zone=Mars&{reach}").status_code in (400, 422)
    now_s = time.time()
    assert house.operator("GET", "/usage").json()["complete_to_s"] >= int(now_s) - 1
    ledger.shipping.note("late", 600.0, 1, now_s)
    assert abs(house.operator("GET", "/usage").json()["complete_to_s"] - (now_s - 600)) < 2
    ledger.shipping.note("late", 0.0, 0, now_s)


def test_who_sees_no_costs_has_one_row_for_each_currency_of_charges(house: Platform) -> None:
    calls = [
        record(n, event_id=f"two-{n}", tenant="twice", currency=currency,
               started_ms=int(time.time() * 1e3))
        for n, currency in ((1, "CNY"), (2, "USD"))
    ]  # fmt: skip
    house.app.state.context.ledger.ingest([call_record.encode(call) for call in calls])
    (row,) = house.person("twice", "viewer")("GET", "/usage?group_by=tenant").json()["data"]
    assert (row["calls"], row["charge_pico"]) == (2, 3 * 10**12)
    assert "currency" not in row and "cost_pico" not in row
    assert len(house.operator("GET", "/usage?group_by=tenant&tenant=twice").json()["data"]) == 2


def test_a_transaction_is_found_by_its_id(house: Platform) -> None:
    house.operator("POST", "/keys", {"tenant": "payer", "project": "p", "name": "k"})
    paid = house.operator("POST", "/wallets/payer/deposits", {"amount": "7", "reference": "b 1"})
    lines = house.operator(
        "GET", f"/ledger-entries?transaction_id={paid.json()['transaction_id']}"
    ).json()["data"]
    assert sorted(line["amount_pico"] for line in lines) == [-7 * 10**12, 7 * 10**12]
    own = house.person("payer", "finance")
    lines = own("GET", f"/ledger-entries?transaction_id={paid.json()['transaction_id']}").json()[
        "data"
    ]
    assert [line["account"] for line in lines] == ["customer:payer"]
    stranger = house.person("other", "finance")
    found = stranger("GET", f"/ledger-entries?transaction_id={paid.json()['transaction_id']}")
    assert found.json()["data"] == []


def test_a_limit_is_made_only_where_there_is_none(house: Platform) -> None:
    body = {"kind": "rate", "measure": "requests", "amount": 5}
    fresh = {"authorization": f"Bearer {OPERATOR}", "if-none-match": "*"}

    def make() -> int:
        return house.client.put("/api/v1/limits/once", json=body, headers=fresh).status_code

    assert make() == 200
    assert house.operator("GET", "/limits/once").json()["set_by_platform"] is True
    assert make() == 412
    assert house.operator("PUT", "/limits/once", body | {"amount": 6}).status_code == 200
