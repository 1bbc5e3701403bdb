"""What is exported is the ledger."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import pyarrow.parquet as pq

from tests.stack import Stack

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
