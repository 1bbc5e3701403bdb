"""The ledger on real stores: how fast events enter it, and how fast it answers for millions.

    python -m bench.stores [--rows 5000000] [--events 200000]

PostgreSQL runs as it is installed (fsync on), but for a log of every plan (`auto_explain`).
Events enter as gateways ship them, in batches of the journal's size. The table is then filled
up inside the database, and every question of the admin API over it is asked through control,
as the console does; PostgreSQL's log says how each was answered, and a sequential scan of a
large table ends the benchmark with an error.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Engine
from tests.servers import Postgres
from tests.stack import Stack

from tokenschain.control.billing import limits
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord
from tokenschain.core.limits import Budget, Measure
from tokenschain.infra.control_channel.protocol import BATCH_RECORDS_MAX
from tokenschain.infra.database import engine as db

DAYS = 30
TENANTS, PROJECTS, KEYS, MODELS, UPSTREAMS = 50, 200, 2_000, 20, 6
ANSWER_MAX_MS = 500
REPEATS = 5
ROLLUPS = {"usage_hourly": "hour_s", "usage_daily": "day_s", "usage_by_tag": "hour_s"}
LARGE = ("ledger", "usage_hourly", "usage_by_tag", "ledger_entries")
PLANS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "text",
    "auto_explain.log_nested_statements": "on",
}


def synthetic_payloads(count: int, seed: int, day: int, span_ms: int = db.DAY_MS) -> list[bytes]:
    """Journal payloads of one day, or of so much of it as the span says, in the order of time.

    Some keys call much more than others; a key uses two models, a model has two clouds.
    """
    chance = random.Random(seed)
    moments = sorted(chance.randrange(span_ms) for _ in range(count))
    payloads = []
    for number, moment in enumerate(moments):
        key = int(KEYS * chance.random() ** 2)
        model = (key + (chance.random() < 0.3)) % MODELS
        record = CallRecord(
            f"req_{seed:04x}{number:012x}{chance.getrandbits(32):08x}",
            day * db.DAY_MS + moment,
            "chat/completions",
            tenant=f"tenant{key % TENANTS}",
            project=f"project{key % PROJECTS}",
            environment="production",
            key_id=f"key_{key}",
            model_asked=f"model-{model}",
            status=200,
            outcome="ok" if chance.random() < 0.98 else "upstream_timeout",
            usage_source="provider",
            price_version="bench",
            currency="CNY",
            charge_currency="CNY",
            prompt_tokens=chance.randint(20, 4_000),
            completion_tokens=chance.randint(1, 800),
            first_token_ms=chance.uniform(80, 900),
            total_ms=chance.uniform(300, 9_000),
            gateway=f"gateway-{number % 3}",
            tags=f"subject=s{key % 40}" if number % 3 == 0 else "",
        )
        record.model_served = record.model_asked
        record.upstream = f"cloud{(model + (chance.random() < 0.05)) % UPSTREAMS}"
        record.cost_pico = record.prompt_tokens * 10**6 + record.completion_tokens * 2 * 10**6
        record.charge_pico = record.cost_pico * 6 // 5
        record.attempts = [AttemptRecord(record.upstream, 0.1, 80.0, 300.0, "ok")]
        payloads.append(call_record.encode(record))
    return payloads


def ingest(engine: Engine, payloads: list[bytes], writers: int = 1) -> float:
    """Enter them batch by batch, as control does for so many gateways at once; events a second."""
    book = Ledger(engine)
    batches = [
        payloads[at : at + BATCH_RECORDS_MAX] for at in range(0, len(payloads), BATCH_RECORDS_MAX)
    ]
    began = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        new = sum(pool.map(book.ingest, batches))
    took = time.perf_counter() - began
    assert new == len(payloads)
    return new / took


def add_budgets(engine: Engine) -> None:
    """Ten budgets, most of them counted for each tenant, project or key."""
    eaches = ((), ("tenant",), ("project",), ("key_id",), ("model",))
    with engine.begin() as connection:
        for number in range(10):
            measure: Measure = "spend" if number % 2 else "tokens"
            budget = Budget(f"bench{number}", measure, 10**17, per=eaches[number % 5])
            limits.put(connection, budget, "")


def grow(engine: Engine, rows: int, progress: Progress) -> None:
    """Copies of the rows there are, on other days, until there are that many."""
    with engine.connect() as connection:
        have, day = connection.exec_driver_sql(
            f"select count(*), min(started_ms) / {db.DAY_MS} from ledger"
        ).one()
    copies = max(0, rows // int(have) - 1)
    db.ensure_days(engine, range(int(day) - DAYS, int(day)))
    names = [
        name for name in CallRecord.__struct_fields__ if name not in ("event_id", "started_ms")
    ]
    task = progress.add_task(f"filling up to {rows:,} rows", total=copies)
    for copy in range(1, copies + 1):
        back = 1 + (copy - 1) % DAYS
        with engine.begin() as connection:
            connection.exec_driver_sql("set local statement_timeout = 0")
            connection.exec_driver_sql(
                f"insert into ledger (event_id, started_ms, {', '.join(names)}) "
                f"select event_id || '-{copy}', started_ms - {back * db.DAY_MS}, "
                f"{', '.join(names)} from ledger where started_ms >= {day * db.DAY_MS}"
            )
            for table, since in ROLLUPS.items():
                columns = [
                    name
                    for (name,) in connection.exec_driver_sql(
                        "select column_name from information_schema.columns "
                        f"where table_name = '{table}' and column_name <> '{since}'"
                    )
                ]
                connection.exec_driver_sql(
                    f"insert into {table} ({since}, {', '.join(columns)}) "
                    f"select {since} - {back * 86_400}, {', '.join(columns)} from {table} "
                    f"where {since} >= {day * 86_400} on conflict do nothing"
                )
        progress.advance(task)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("set statement_timeout = 0")
        connection.exec_driver_sql("vacuum analyze")


def questions(now_s: int) -> dict[str, str]:
    """What a console asks: a name and a path each."""
    month = f"from_s={now_s - DAYS * 86_400}&until_s={now_s + 86_400}"
    one = "tenant=tenant7"
    return {
        "usage of a tenant by day and model": f"usage?group_by=day,model&{month}&{one}",
        "usage of all by day": f"usage?group_by=day&{month}",
        "usage of all by tenant and cloud": f"usage?group_by=tenant,cloud&{month}",
        "usage of a tenant by tag": f"usage?group_by=tag&{month}&{one}",
        "usage of all by key, one day": f"usage?group_by=key_id&from_s={now_s - 86_400}",
        "latest calls of all": f"calls?{month}",
        "latest calls of a tenant": f"calls?{month}&{one}",
        "latest calls of a key": f"calls?{month}&{one}&key_id=key_7",
        "latest calls of a project": f"calls?{month}&{one}&project=project7",
        "latest failed calls of a tenant": f"calls?{month}&{one}&outcome=upstream_timeout",
        "a rare outcome of a tenant": f"calls?{month}&{one}&outcome=content_filter",
        "a rare outcome of all": f"calls?{month}&outcome=content_filter",
        "an unused model of a tenant": f"calls?{month}&{one}&model=none",
        "ledger entries of a tenant": f"ledger-entries?{one}",
        "wallet of a tenant": "wallets/tenant7",
        "budgets with what is spent": "limits",
        "capture rate": "metering",
        "audit": "audit",
        "keys": "keys",
    }  # fmt: skip


def ask(stack: Stack, path: str) -> float:
    """Milliseconds until the answer is there."""
    began = time.perf_counter()
    reply = stack.admin("GET", f"/api/v1/{path}", timeout=60)
    took = (time.perf_counter() - began) * 1e3
    assert reply.status_code == 200, (path, reply.text)
    return took


def scans(log: str) -> list[str]:
    """Sequential scans of large tables in PostgreSQL's log."""
    names = "|".join(LARGE)
    return re.findall(rf"Seq Scan on (?:{names})(?:_\d+)?\b", log)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    console = Console(width=110)
    folder = Path(tempfile.mkdtemp(prefix="tokenschain-bench-"))
    os.chmod(folder, 0o755)
    log = folder / "postgres.log"
    today = int(time.time() // 86_400)
    server = Postgres(PLANS, log)
    wrong: list[str] = []
    try:
        plain = Postgres({})
        try:
            speeds = measure_ingest(plain, folder, options.events, today)
        finally:
            plain.close()
        for name, speed in speeds.items():
            console.print(f"{name:<44}{speed:>10,.0f} events/s", highlight=False)
        url = server.database()
        engine = db.connect(url)
        db.migrate(engine)
        per_day = min(options.events, options.rows // (DAYS + 1))
        ingest(engine, synthetic_payloads(per_day, 9, today - 1))
        with Progress(console=console) as progress:
            grow(engine, options.rows, progress)
        with engine.connect() as connection:
            total = connection.exec_driver_sql("select count(*) from ledger").scalar_one()
        stack = Stack(folder / "stack", "http://unused", database={"url": url})
        make_tenants(stack)
        add_budgets(engine)
        stack.start("control")
        table = Table("question", "statements", "median ms", "worst ms", title=f"{total:,} calls")
        try:
            for name, path in questions(int(time.time())).items():
                ask(stack, path)
                at = log.stat().st_size
                took = [ask(stack, path) for _ in range(REPEATS)]
                time.sleep(0.3)  # the log is written after the answer
                said = log.read_bytes()[at:].decode(errors="replace")
                asked = len(re.findall(r"(?i)Query Text: *(?:select|with)[^\n]*", said)) / REPEATS
                table.add_row(
                    name, f"{asked:.0f}", f"{statistics.median(took):.0f}", f"{max(took):.0f}"
                )
                if found := scans(said):
                    wrong.append(f"{name}: {len(found) / REPEATS:g} x {found[0]}")
                if statistics.median(took) > ANSWER_MAX_MS:
                    wrong.append(f"{name}: {statistics.median(took):.0f} ms")
        finally:
            stack.close()
        engine.dispose()
    finally:
        server.close()
    console.print(table)
    if wrong:
        raise SystemExit("\n".join(["too slow, or read whole:", *wrong]))


def measure_ingest(server: Postgres, folder: Path, count: int, today: int) -> dict[str, float]:
    """Events a second on each store, without and with budgets."""
    payloads = synthetic_payloads(count, 1, today)
    found = {}
    for name, url, writers in (
        ("PostgreSQL, one gateway at a time", server.database(), 1),
        ("PostgreSQL, two", server.database(), 2),
        ("PostgreSQL, two, 10 budgets", server.database(), 2),
        ("SQLite", f"sqlite:///{folder / 'a.db'}", 1),
        ("SQLite, 10 budgets", f"sqlite:///{folder / 'b.db'}", 1),
    ):
        engine = db.connect(url)
        db.migrate(engine)
        if "budgets" in name:
            add_budgets(engine)
        found[name] = ingest(engine, payloads, writers)
        engine.dispose()
    return found


def make_tenants(stack: Stack) -> None:
    """The tenants of the made-up calls, as an installation knows them."""
    body: dict[str, Any] = {"kind": "tenant"}
    stack.start("control")
    for number in range(TENANTS):
        name = f"tenant{number}"
        assert stack.admin(
            "POST", "/api/v1/organization/units", json=body | {"tenant": name, "name": name}
        )
    stack.stop("control")


if __name__ == "__main__":
    main()
