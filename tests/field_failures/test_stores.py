"""Questions about millions of calls; numbers as in docs/field-failures.md."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from bench.stores import (
    PLANS,
    add_budgets,
    ingest,
    make_tenants,
    questions,
    scans,
    synthetic_payloads,
)

from tests.servers import Postgres
from tests.stack import Stack
from tokenschain.infra.database import engine as db

STATEMENTS_MAX = 8


def test_12_no_question_of_the_console_reads_a_large_table_whole(
    tmp_path: Path, own_stack: Any
) -> None:
    """With few rows PostgreSQL would rather read all; told not to, it still does where no index
    serves. `bench.stores` asks the same of five million rows and looks at the clock."""
    log = tmp_path / "postgres.log"
    server = Postgres({"fsync": "off", "enable_seqscan": "off", **PLANS}, log)
    try:
        url = server.database()
        engine = db.connect(url)
        db.migrate(engine)
        today = int(time.time() // 86_400)
        for day in range(3):
            ingest(engine, synthetic_payloads(400, day, today - day))
        stack: Stack = own_stack(database={"url": url})
        make_tenants(stack)
        add_budgets(engine)
        stack.start("control")
        for name, path in questions(int(time.time())).items():
            said = [_said(stack, path, log) for _ in range(3)]
            assert not any(scans(text) for text in said), name
            # Control's own chores may ask in the same moment, but not each time.
            asked = min(len(re.findall(r"Query Text: (?:SELECT|WITH)", text)) for text in said)
            assert 1 <= asked <= STATEMENTS_MAX, (name, said)
        stack.stop("control")
        engine.dispose()
    finally:
        server.close()


def _said(stack: Stack, path: str, log: Path) -> str:
    """What PostgreSQL logged of one question."""
    at = log.stat().st_size
    reply = stack.admin("GET", f"/api/v1/{path}")
    assert reply.status_code == 200, reply.text
    time.sleep(0.1)
    return log.read_bytes()[at:].decode(errors="replace")
