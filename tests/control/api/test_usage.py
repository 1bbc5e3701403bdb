"""What is exported is the ledger."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.records import record
from tests.security.platform import Platform, platform
from tests.stack import Stack
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord

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


def test_a_call_is_found_by_its_request_id(house: Platform) -> None:
    found = house.operator("GET", "/calls/rescued").json()
    assert [attempt["upstream"] for attempt in found["attempts"]] == ["one", "two"]
    assert house.operator("GET", "/calls/nowhere").status_code == 404
    stranger = house.person("beta", "owner")
    assert stranger("GET", "/calls/rescued").status_code == 404
